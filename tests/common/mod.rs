//! What the integration tests share: events to wait for, drop counts, and a watchdog for tests that would hang.

// Each test crate uses its own part of this module.
#![allow(dead_code, unused_imports)]

pub(crate) mod alloc;
pub(crate) mod count;
pub(crate) mod gate;
pub(crate) mod model;
pub(crate) mod rng;
pub(crate) mod wake;

pub(crate) use count::{Live, Tally, Token};
pub(crate) use gate::{Gate, Held};

use layshaft::{Engine, JobError, JobHandle};
use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Far beyond anything a test needs on a loaded machine; only a hang reaches it. Sanitizers make programs slow.
pub(crate) const PATIENCE: Duration =
    Duration::from_secs(if option_env!("LAYSHAFT_SANITIZED").is_some() { 300 } else { 30 });

/// An engine with `workers` workers.
pub(crate) fn engine(workers: usize) -> Engine {
    Engine::builder().workers(workers).start().expect("the engine starts")
}

/// The outcome of a job that must end.
pub(crate) fn outcome<R>(handle: JobHandle<R>) -> Result<R, JobError> {
    let id = handle.id();
    match handle.wait_timeout(PATIENCE) {
        Ok(outcome) => outcome,
        Err(_) => panic!("job {id} did not end within {PATIENCE:?}: lost, or its waiter was not woken"),
    }
}

/// The value of a job that must succeed.
pub(crate) fn value<R>(handle: JobHandle<R>) -> R {
    outcome(handle).unwrap_or_else(|error| panic!("the job should have succeeded: {error}"))
}

/// Aborts the process, naming the test, when it is not dropped in time. A hang cannot be unwound: the engine's own
/// drop would wait for the same lost event.
pub(crate) struct Watchdog {
    done: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Starts a watchdog for the calling test.
pub(crate) fn watchdog(what: impl Into<String>) -> Watchdog {
    watchdog_for(what, PATIENCE * 2)
}

/// The same with a limit of its own.
pub(crate) fn watchdog_for(what: impl Into<String>, limit: Duration) -> Watchdog {
    let what = what.into();
    let (done, signal) = mpsc::channel::<()>();
    let test = thread::current().name().unwrap_or("main").to_owned();
    let thread = thread::spawn(move || {
        if signal.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Not `eprintln`: its output is captured by the test harness, and lost in an abort.
            let _ = writeln!(std::io::stderr(), "test {test} hangs: {what} did not happen within {limit:?}");
            std::process::abort();
        }
    });
    Watchdog { done: Some(done), thread: Some(thread) }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.done.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
