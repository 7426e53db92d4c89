//! A loan: threads of a borrower that run on workers, as jobs, until the borrower is done.
//!
//! The borrower's work starts when one of them has come, and those that come after its end find nothing to do. A thread whose
//! job is discarded runs apart, on no worker, for the borrower may have given it work that no other one may take.

use super::lent::Lent;
use super::worker::Worker;
use crate::quiet;
use crate::sync::{Condvar, Mutex};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::Result;

type Payload = Box<dyn Any + Send>;

/// A thread of the borrower.
pub(crate) trait Thread: Send + 'static {
    /// Runs until the borrower is done.
    fn run(self);

    /// Has `f` run on a thread that is no worker; or drops it, when the system refuses one.
    fn apart(&self) -> fn(Box<dyn FnOnce() + Send>);
}

/// What the borrower and the lent workers share.
pub(crate) struct Loan {
    lent: Arc<Lent>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// A worker has come.
    started: bool,
    /// Threads inside the borrower's loop.
    running: usize,
    /// Threads whose job was discarded.
    discarded: usize,
    /// The first panic of something spawned.
    panic: Option<Payload>,
}

impl Loan {
    /// Of so many threads.
    pub(crate) fn new(threads: usize) -> Arc<Loan> {
        let state = Mutex::new(State::default());
        Arc::new(Loan { lent: Arc::new(Lent::new(threads)), state, changed: Condvar::new() })
    }

    /// Runs `f` once one of the threads has come, and then ends their loops by dropping the pool: what came of `f`, or `None`
    /// if none will come; and the first panic of what was spawned. Nobody is inside the borrower's loops any more.
    pub(crate) fn run<P, T>(
        &self,
        threads: usize,
        pool: P,
        f: impl FnOnce(&P) -> T,
    ) -> (Option<Result<T>>, Option<Payload>) {
        let result = self.wait_for_one(threads).then(|| catch_unwind(AssertUnwindSafe(|| f(&pool))));
        drop(pool);
        (result, self.wait_for_all())
    }

    /// Waits until a worker has come: `false` when none of so many threads will.
    fn wait_for_one(&self, threads: usize) -> bool {
        let mut state = self.state.lock();
        while !state.started && state.discarded < threads {
            self.changed.wait(&mut state);
        }
        state.started
    }

    /// Waits until the borrower's loops have ended. What comes later ends by itself.
    pub(crate) fn wait_for_all(&self) -> Option<Payload> {
        let mut state = self.state.lock();
        while state.running > 0 {
            self.changed.wait(&mut state);
        }
        state.panic.take()
    }

    /// Something that the borrower spawned has panicked.
    pub(crate) fn keep(&self, panic: Payload) {
        let second = {
            let mut state = self.state.lock();
            if state.panic.is_none() {
                state.panic = Some(panic);
                return;
            }
            panic
        };
        quiet::swallow(second);
    }
}

/// One thread of the borrower, as the argument of a job.
pub(crate) struct Seat<T: Thread> {
    /// Taken out when it runs.
    thread: Option<T>,
    loan: Arc<Loan>,
}

impl<T: Thread> Seat<T> {
    pub(crate) fn new(thread: T, loan: &Arc<Loan>) -> Self {
        Seat { thread: Some(thread), loan: Arc::clone(loan) }
    }

    /// The body: this worker is the borrower's until it is done.
    pub(crate) fn take(mut self) {
        let Some(thread) = self.thread.take() else { return };
        let inside = Inside::new(&self.loan, true);
        Worker::with_current(|worker| match worker {
            Some(worker) => worker.lend(&inside.0.lent, || thread.run()),
            None => thread.run(),
        });
    }

    /// It was never queued: there is no thread to be replaced.
    pub(crate) fn give_up(mut self) {
        self.thread = None;
    }
}

impl<T: Thread> Drop for Seat<T> {
    /// The job was discarded.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let loan = Arc::clone(&self.loan);
        let apart = thread.apart();
        apart(Box::new(move || {
            let _inside = Inside::new(&loan, false);
            thread.run();
        }));
        self.loan.state.lock().discarded += 1;
        self.loan.changed.notify_all();
    }
}

/// A thread inside the borrower's loop.
struct Inside<'l>(&'l Loan);

impl<'l> Inside<'l> {
    fn new(loan: &'l Loan, is_worker: bool) -> Self {
        let mut state = loan.state.lock();
        state.running += 1;
        state.started |= is_worker;
        drop(state);
        loan.changed.notify_all();
        Inside(loan)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.state.lock().running -= 1;
        self.0.changed.notify_all();
    }
}
