//! The knobs of an engine.

use crate::engine::Engine;
use crate::error::StartError;
use crate::sched::registry::Shared;
use crate::sched::worker::Worker;
use crate::sync::prepare_fences;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Worker threads an engine can have: the sleep state counts them in 16 bits.
const MAX_WORKERS: usize = 4096;

/// Sets up an [`Engine`]: `Engine::builder().workers(8).start()`.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start`"]
pub struct Builder {
    workers: Option<usize>,
    thread_name: String,
    drain_deadline: Duration,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder { workers: None, thread_name: "layshaft".to_owned(), drain_deadline: Duration::from_secs(30) }
    }

    /// Worker threads, 1 to 4,096. Default: as many as the process may use cores.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Names worker threads `{name}-{number}`. Default: `layshaft`. Bytes after a NUL are left out.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
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
    /// [`StartError::NoWorkers`] for `workers(0)`, [`StartError::TooManyWorkers`] above 4,096, [`StartError::Spawn`] when a thread cannot be started (those that
    /// were are ended again).
    pub fn start(self) -> Result<Engine, StartError> {
        let default = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = self.workers.unwrap_or_else(default);
        if workers == 0 {
            return Err(StartError::NoWorkers);
        }
        if workers > MAX_WORKERS {
            return Err(StartError::TooManyWorkers { asked: workers, limit: MAX_WORKERS });
        }
        prepare_fences();
        let shared = Arc::new(Shared::new(workers, self.drain_deadline));
        let base = self.thread_name.split('\0').next().unwrap_or_default();
        let mut threads = Vec::with_capacity(workers);
        for index in 0..workers {
            let worker = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("{base}-{index}"));
            match thread.spawn(move || Worker::main(worker, index)) {
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
