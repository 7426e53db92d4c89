/* libgearman's client: what every client of these tests does, a line for each; and, asked for `partition`, a job of which a
   worker makes several, and one of their results. */
#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char heard[1 << 16];
static size_t large;

static void hear(const char *what, size_t size) {
  if (size > 1000) {
    large = size;
    return;
  }
  if (heard[0] != 0) strcat(heard, " ");
  strncat(heard, what, size);
}

static gearman_return_t on_data(gearman_task_st *task) {
  hear(gearman_task_data(task), gearman_task_data_size(task));
  return GEARMAN_SUCCESS;
}

static gearman_return_t on_status(gearman_task_st *task) {
  char text[64];
  hear(text, (size_t)sprintf(text, "%u/%u", gearman_task_numerator(task), gearman_task_denominator(task)));
  return GEARMAN_SUCCESS;
}

static gearman_return_t on_fail(gearman_task_st *task) {
  (void)task;
  hear("failed", 6);
  return GEARMAN_SUCCESS;
}

static void check(gearman_client_st *client, gearman_return_t got) {
  if (gearman_failed(got)) {
    fprintf(stderr, "%s: %s\n", gearman_strerror(got), gearman_client_error(client));
    exit(1);
  }
}

static const char *run(gearman_client_st *client, const char *function, const char *payload, size_t size, const char *unique) {
  gearman_return_t got;
  heard[0] = 0;
  gearman_client_add_task(client, NULL, NULL, function, unique, payload, size, &got);
  check(client, got);
  gearman_client_run_tasks(client);
  gearman_client_task_free_all(client);
  return heard;
}

static void partition(gearman_client_st *client) {
  gearman_argument_t payload = gearman_argument_make(NULL, 0, "abc def ghi", 11);
  gearman_task_st *task = gearman_execute_by_partition(client, "split", 5, "reverse", 7, NULL, 0, NULL, &payload, 0);
  if (task == NULL) {
    fprintf(stderr, "%s\n", gearman_client_error(client));
    exit(1);
  }
  check(client, gearman_task_return(task));
  gearman_result_st *result = gearman_task_result(task);
  printf("partition %.*s\n", (int)gearman_result_size(result), gearman_result_value(result));
}

int main(int argc, char **argv) {
  gearman_client_st *client = gearman_client_create(NULL);
  gearman_client_set_timeout(client, 30000);
  check(client, gearman_client_add_servers(client, argv[1]));
  if (argc > 2) {
    partition(client);
    gearman_client_free(client);
    return 0;
  }
  gearman_client_set_data_fn(client, on_data);
  gearman_client_set_warning_fn(client, on_data);
  gearman_client_set_complete_fn(client, on_data);
  gearman_client_set_exception_fn(client, on_data);
  gearman_client_set_fail_fn(client, on_fail);
  gearman_client_set_status_fn(client, on_status);
  gearman_client_set_server_option(client, "exceptions", 10);
  printf("reverse %s\n", run(client, "reverse", "abc", 3, NULL));
  printf("empty %s\n", run(client, "reverse", NULL, 0, NULL));
  printf("fail %s\n", run(client, "fail", "x", 1, NULL));
  printf("throw %s\n", run(client, "throw", "x", 1, NULL));
  printf("updates %s\n", run(client, "updates", "x", 1, NULL));

  size_t size;
  gearman_return_t got;
  char *result = gearman_client_do_high(client, "reverse", NULL, "abc", 3, &size, &got);
  check(client, got);
  printf("high %.*s\n", (int)size, result);
  free(result);
  result = gearman_client_do_low(client, "reverse", NULL, "abc", 3, &size, &got);
  check(client, got);
  printf("low %.*s\n", (int)size, result);
  free(result);

  char handle[GEARMAN_JOB_HANDLE_SIZE];
  check(client, gearman_client_do_background(client, "reverse", NULL, "abc", 3, handle));
  /* One whose time has come already. */
  gearman_task_attr_t past = gearman_task_attr_init_epoch(time(NULL) - 10, GEARMAN_JOB_PRIORITY_NORMAL);
  gearman_argument_t payload = gearman_argument_make(NULL, 0, "abc", 3);
  gearman_task_st *task = gearman_execute(client, "reverse", 7, "past", 4, &past, &payload, 0);
  if (task == NULL) check(client, GEARMAN_INVALID_ARGUMENT);
  gearman_client_task_free_all(client);
  bool is_known = true, is_running;
  uint32_t done, total;
  while (is_known) check(client, gearman_client_job_status(client, handle, &is_known, &is_running, &done, &total));
  printf("background done\n");

  /* Once: a second submit of the same job on one connection is one answer too few to it. */
  run(client, "reverse", "abc", 3, "-");
  printf("unique %s %s\n", heard, heard);
  char *x = malloc(1 << 20);
  memset(x, 'x', 1 << 20);
  run(client, "reverse", x, 1 << 20, NULL);
  printf("large %zu\n", large);
  free(x);
  gearman_client_free(client);
  return 0;
}
