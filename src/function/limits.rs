//! What can be asked of a function while it runs: limits, pause and resume, order.

use super::Function;
use crate::consumer::hand_returned_over;
use crate::error::SubmitError;
use crate::queue::limits::Limits;
use crate::queue::managed::{Controls, Retrying};
use crate::queue::priority::Priority;
use crate::queue::retry::{DeadJob, Retry};
use crate::sched::core::{MANAGED, PULLED};
use crate::sched::managed::{self, Desk};
use crate::sched::run::{Inline, Stored, is_inline};
use std::time::Instant;

/// # Limits
/// The first use of one of these makes the function *managed*: its jobs go through a queue under a lock, for good: 0.15 to
/// 1.1 us a job (`cargo bench --bench features`). They then start in the order of their submits, those that jobs submit
/// included. A cap counts jobs that run already; one that is just about to start at that moment may be missed.
impl<A: Send + 'static, R: Send + 'static> Function<A, R> {
    /// Sets all limits of the function, at once in effect: for submits, and for jobs that have not started.
    pub fn set_limits(&self, limits: Limits) {
        self.control(|state| state.set_limits(limits));
    }

    /// The limits set last.
    pub fn limits(&self) -> Limits {
        if self.core.managed().is_null() { Limits::new() } else { self.control(|state| state.limits()) }
    }

    /// Keeps jobs from starting until [`resume`](Self::resume). When this returns, only jobs that had started run.
    ///
    /// Submits go on. A function that was removed, or whose engine began to end, cannot be paused, and is no longer: what it
    /// accepted is run.
    pub fn pause(&self) {
        self.control(|state| state.set_paused(true, None));
    }

    /// Keeps jobs from starting until this time, or [`resume`](Self::resume). A later call sets another time.
    pub fn pause_until(&self, time: Instant) {
        self.control(|state| state.set_paused(true, Some(time)));
    }

    /// Lets jobs start again.
    pub fn resume(&self) {
        if !self.core.managed().is_null() {
            self.control(|state| state.set_paused(false, None));
        }
    }

    /// Whether the function is paused.
    pub fn is_paused(&self) -> bool {
        !self.core.managed().is_null() && self.control(|state| state.is_paused())
    }

    /// Has all jobs start in the order of their submits: also those that jobs submit, which otherwise run newest first on the
    /// worker that submits them.
    pub fn ordered(self) -> Self {
        self.control(|_| ());
        self
    }

    /// Runs lost jobs again, or with `None` no longer: jobs that are submitted from now on.
    pub fn set_retry(&self, retry: impl Into<Option<Retry>>)
    where
        A: Clone,
    {
        if is_inline::<A>() {
            self.set_retry_stored::<Inline<A>>(retry.into());
        } else {
            self.set_retry_stored::<Box<A>>(retry.into());
        }
    }

    fn set_retry_stored<S: Stored<Arg = A>>(&self, policy: Option<Retry>)
    where
        A: Clone,
    {
        let clone: fn(&S) -> S = |stored| S::wrap(stored.get().clone());
        self.manage();
        self.desk::<S>().update(|state, _| state.retry = policy.map(|policy| Retrying { policy, clone }));
    }

    /// Jobs that were lost too often, oldest first.
    pub fn dead(&self) -> Vec<DeadJob> {
        if self.core.managed().is_null() { Vec::new() } else { self.control(|state| state.dead()) }
    }

    /// Takes a job off the dead list: its argument, or `None` when there is none of this number.
    pub fn take_dead(&self, number: u64) -> Option<A> {
        if is_inline::<A>() {
            self.take_dead_stored::<Inline<A>>(number).map(|(_, stored)| stored.unwrap())
        } else {
            self.take_dead_stored::<Box<A>>(number).map(|(_, stored)| stored.unwrap())
        }
    }

    /// Submits a job of the dead list anew, without a handle, and with all its attempts: `false` when there is none of this
    /// number.
    ///
    /// # Errors
    /// As for [`send`](Self::send). The job then is off the list, and its argument in the error.
    pub fn retry_dead(&self, number: u64) -> Result<bool, SubmitError<A>> {
        let dead = if is_inline::<A>() {
            self.take_dead_stored::<Inline<A>>(number).map(|(priority, stored)| (priority, stored.unwrap()))
        } else {
            self.take_dead_stored::<Box<A>>(number).map(|(priority, stored)| (priority, stored.unwrap()))
        };
        match dead {
            Some((priority, arg)) => self.job(arg).priority(priority).send().map(|()| true),
            None => Ok(false),
        }
    }

    /// Notes how long each job waits and runs, for [`stats`](Self::stats), or with `false` only of some: of each 16th, which is
    /// the default. Two looks at the clock a job.
    pub fn time_exactly(&self, exact: bool) {
        self.control(|state| state.set_exact(exact));
    }

    /// Has happen what is due by `now`, here and at once, as though that time had come. For this crate's tests, which do not wait
    /// for time: the engine's clock does the same by itself.
    #[doc(hidden)]
    pub fn fall_due(&self, now: Instant) {
        // SAFETY: the vtable was made for this core.
        unsafe { (self.core.vtable.managed.tick)(&self.core, now) };
    }

    fn take_dead_stored<S: Stored<Arg = A>>(&self, number: u64) -> Option<(Priority, S)> {
        if self.core.managed().is_null() {
            return None;
        }
        self.desk::<S>().update(|state, _| state.take_dead(number))
    }

    fn desk<S: Stored<Arg = A>>(&self) -> Desk<'_, S> {
        // SAFETY: this function's jobs are stored as `S`.
        unsafe { managed::manage::<S>(&self.core) }
    }

    /// Makes the function managed.
    pub(super) fn manage(&self) {
        if self.core.flags() & MANAGED == 0 {
            self.control(|_| ());
        }
    }

    fn control<T>(&self, change: impl FnOnce(&mut dyn Controls) -> T) -> T {
        if is_inline::<A>() {
            self.control_stored::<Inline<A>, T>(change)
        } else {
            self.control_stored::<Box<A>, T>(change)
        }
    }

    fn control_stored<S: Stored<Arg = A>, T>(&self, change: impl FnOnce(&mut dyn Controls) -> T) -> T {
        let desk = self.desk::<S>();
        let changed = desk.update(|state, _| change(state));
        if self.core.flags() & PULLED != 0 {
            // SAFETY: a function without a body, with jobs stored as `S`.
            unsafe { hand_returned_over::<S, R>(&self.core, desk) };
        }
        changed
    }
}
