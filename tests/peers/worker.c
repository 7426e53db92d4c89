/* libgearman's worker. `split` makes a job of each word of its payload, and one result of theirs, if it was submitted so. */
#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *reverse(gearman_job_st *job, void *context, size_t *size, gearman_return_t *got) {
  (void)context;
  const char *payload = gearman_job_workload(job);
  *size = gearman_job_workload_size(job);
  char *result = malloc(*size + 1);
  for (size_t i = 0; i < *size; i++) result[i] = payload[*size - 1 - i];
  *got = GEARMAN_SUCCESS;
  return result;
}

static void *fail(gearman_job_st *job, void *context, size_t *size, gearman_return_t *got) {
  (void)job, (void)context;
  *size = 0;
  *got = GEARMAN_WORK_FAIL;
  return NULL;
}

static void *throw(gearman_job_st *job, void *context, size_t *size, gearman_return_t *got) {
  (void)context;
  *size = 0;
  *got = gearman_job_send_exception(job, "broken", 6);
  if (*got == GEARMAN_SUCCESS) *got = GEARMAN_WORK_EXCEPTION;
  return NULL;
}

static void *updates(gearman_job_st *job, void *context, size_t *size, gearman_return_t *got) {
  (void)context;
  gearman_job_send_status(job, 1, 2);
  gearman_job_send_data(job, "part", 4);
  gearman_job_send_warning(job, "careful", 7);
  *size = 3;
  *got = GEARMAN_SUCCESS;
  return strdup("end");
}

static gearman_return_t split(gearman_job_st *job, void *context) {
  (void)context;
  const char *rest = gearman_job_workload(job), *end = rest + gearman_job_workload_size(job);
  while (rest < end) {
    const char *space = memchr(rest, ' ', (size_t)(end - rest));
    const char *stop = space ? space : end;
    gearman_job_send_data(job, rest, (size_t)(stop - rest));
    rest = stop + 1;
  }
  return GEARMAN_SUCCESS;
}

static gearman_return_t join(gearman_aggregator_st *aggregator, gearman_task_st *task, gearman_result_st *result) {
  (void)aggregator;
  char all[1000] = "";
  for (; task != NULL; task = gearman_next(task)) {
    gearman_result_st *part = gearman_task_result(task);
    if (part == NULL) continue;
    if (all[0] != 0) strcat(all, " ");
    strncat(all, gearman_result_value(part), gearman_result_size(part));
  }
  gearman_result_store_value(result, all, strlen(all));
  return GEARMAN_SUCCESS;
}

int main(int argc, char **argv) {
  (void)argc;
  gearman_worker_st *worker = gearman_worker_create(NULL);
  gearman_worker_add_servers(worker, argv[1]);
  gearman_worker_define_function(worker, "split", 5, gearman_function_create_partition(split, join), 0, NULL);
  gearman_worker_add_function(worker, "reverse", 0, reverse, NULL);
  gearman_worker_add_function(worker, "fail", 0, fail, NULL);
  gearman_worker_add_function(worker, "throw", 0, throw, NULL);
  gearman_worker_add_function(worker, "updates", 0, updates, NULL);
  /* A job that fails is no reason to end. */
  gearman_return_t got;
  do got = gearman_worker_work(worker);
  while (got != GEARMAN_COULD_NOT_CONNECT && got != GEARMAN_LOST_CONNECTION);
  fprintf(stderr, "%s\n", gearman_worker_error(worker));
  return 1;
}
