//! The knobs of an engine.

use crate::engine::Engine;
use crate::error::StartError;
use crate::sched::registry::Shared;
use crate::sync::prepare_fences;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Worker threads an engine can have, and spares as well: the sleep state counts them in 16 bits.
const MAX_WORKERS: usize = 4096;

/// Sets up an [`Engine`]: `Engine::builder().workers(8).start()`.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start`"]
pub struct Builder {
    workers: Option<usize>,
    spares: Option<usize>,
    thread_name: String,
    stack_size: Option<usize>,
    drain_deadline: Duration,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder {
            workers: None,
            spares: None,
            thread_name: "layshaft".to_owned(),
            stack_size: None,
            drain_deadline: Duration::from_secs(30),
        }
    }

    /// Worker threads, 1 to 4,096. Default: as many as the process may use cores.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Spare threads, 0 to 4,096. Default: as many as workers.
    ///
    /// A job that waits for another one blocks its thread. A spare takes its place, so that as many threads as there are
    /// [`workers`](Self::workers) go on running jobs; when the wait is over, the first thread that is between two jobs
    /// becomes a spare. Until then there is one thread more that runs jobs.
    ///
    /// When all spares are in use, jobs that wait block their threads all the same, and the last thread that could run jobs
    /// is refused its wait ([`WaitError::WouldNeverEnd`](crate::WaitError::WouldNeverEnd)). With 0 spares, and 1 worker,
    /// that is any wait for a job that is not in the worker's own deque.
    ///
    /// A spare costs about 1 KiB of memory until it is first needed; then its thread is started, with a deque of 256 KiB,
    /// and kept until the engine ends.
    pub fn spare_workers(mut self, spares: usize) -> Self {
        self.spares = Some(spares);
        self
    }

    /// Names worker threads `{name}-{number}`. Default: `layshaft`. Bytes after a NUL are left out.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// The stack of each worker and spare thread, in bytes. Default: that of the standard library, 2 MiB.
    ///
    /// A job that waits for another one in its worker's own deque runs it on its own stack, while less than half of that is
    /// used. Beyond that it blocks as for any other job, so that calls of functions in themselves, however deep, end on as
    /// many stacks as there are spares, and are then refused
    /// ([`WaitError::WouldNeverEnd`](crate::WaitError::WouldNeverEnd)). A body must get along with half of the stack.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// How long dropping the last [`Engine`] handle waits for accepted jobs before it cancels those that have not
    /// started. Default: 30 seconds.
    pub fn drain_deadline(mut self, limit: Duration) -> Self {
        self.drain_deadline = limit;
        self
    }

    /// Starts the worker threads.
    ///
    /// # Errors
    /// [`StartError::NoWorkers`] for `workers(0)`, [`StartError::TooManyWorkers`] above 4,096 workers or spares,
    /// [`StartError::Spawn`] when a thread cannot be started (those that were are ended again).
    pub fn start(self) -> Result<Engine, StartError> {
        let default = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = self.workers.unwrap_or_else(default);
        if workers == 0 {
            return Err(StartError::NoWorkers);
        }
        let spares = self.spares.unwrap_or(workers);
        if let Some(&asked) = [workers, spares].iter().find(|&&asked| asked > MAX_WORKERS) {
            return Err(StartError::TooManyWorkers { asked, limit: MAX_WORKERS });
        }
        prepare_fences();
        let name = self.thread_name.split('\0').next().unwrap_or_default();
        let mut shared = Shared::new(workers, spares, name.to_owned(), self.drain_deadline);
        shared.spares.set_stack_size(self.stack_size);
        let shared = Arc::new(shared);
        let mut threads = Vec::with_capacity(workers);
        for index in 0..workers {
            match shared.start_thread(index) {
                Ok(handle) => threads.push(handle),
                Err(error) => {
                    shared.phase.started(threads);
                    shared.abandon_start(index);
                    return Err(StartError::Spawn(error));
                }
            }
        }
        shared.phase.started(threads);
        Ok(Engine::from_shared(shared))
    }
}
