//! Wakes the one thread that collects results: a job has ended, an input has come, a signal has.

use std::sync::Arc;
use std::task::Wake;
use std::thread::{self, Thread};
use std::time::Duration;

/// Rings for the thread that made it.
#[derive(Debug)]
pub(crate) struct Bell {
    sleeper: Thread,
}

impl Bell {
    pub(crate) fn here() -> Arc<Bell> {
        Arc::new(Bell { sleeper: thread::current() })
    }

    /// Costs a system call only if somebody sleeps.
    pub(crate) fn ring(&self) {
        self.sleeper.unpark();
    }

    /// Sleeps until it rings, but not longer than `limit`; not at all if it rang since the last sleep. May wake for
    /// nothing. Only for the thread that made it.
    pub(crate) fn wait(&self, limit: Option<Duration>) {
        match limit {
            Some(limit) => thread::park_timeout(limit),
            None => thread::park(),
        }
    }
}

/// As the waker of jobs.
impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
