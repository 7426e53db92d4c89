//! What can be asked of a function while it runs: limits, pause and resume, order.

use super::Function;
use crate::consumer::hand_returned_over;
use crate::queue::limits::Limits;
use crate::queue::managed::Controls;
use crate::sched::core::{MANAGED, PULLED};
use crate::sched::managed;
use crate::sched::run::{Inline, Stored, is_inline};
use std::time::Instant;

/// # Limits
/// The first use of one of these makes the function *managed*: its jobs go through a queue under a lock, for good, which costs a
/// submit and a start some tens of nanoseconds each. They then start in the order of their submits, those that jobs submit
/// included. Jobs that ran before that moment do not count as running.
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
        // SAFETY: this function's jobs are stored as `S`.
        let desk = unsafe { managed::manage::<S>(&self.core) };
        let changed = desk.update(|state, _| change(state));
        if self.core.flags() & PULLED != 0 {
            // SAFETY: a function without a body, with jobs stored as `S`.
            unsafe { hand_returned_over::<S, R>(&self.core, desk) };
        }
        changed
    }
}
