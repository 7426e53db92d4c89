//! Callers that wait for room, each a thread: the model says when one is to get in, or why it never will.

use super::driver::{Arg, Driver, Handle, Reply, with_terms};
use super::operation::{Bounds, Terms};
use super::reference::Refusal;
use super::runs::CHILD_BITS;
use crate::common::PATIENCE;
use layshaft::{JobHandle, SubmitError};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

/// Ids of their arguments are beyond all others.
const FIRST: u64 = 1 << 32;

pub(super) struct Waiter {
    pub(super) function: usize,
    id: u64,
    n: u8,
    terms: Terms,
    handle: bool,
    submitted: Receiver<Result<Option<JobHandle<Reply>>, SubmitError<Arg>>>,
}

impl Driver {
    pub(super) fn has_waiter(&self, function: usize) -> bool {
        self.waiters.iter().any(|waiter| waiter.function == function)
    }

    /// Submits on another thread, for the model says that there is no room. One caller waits for a function at a time, or who is
    /// first would be anybody's guess; and one whose job is to start later would have its time from a moment nobody knows.
    pub(super) fn wait_for_room(&mut self, function: usize, n: u8, terms: Terms, handle: bool) {
        if self.has_waiter(function) || terms.after.is_some() {
            return;
        }
        self.waited += 1;
        let id = (FIRST + self.waited) << CHILD_BITS;
        let (of, arg) = (self.functions[function].clone(), Arg::new(id, n, &self.live));
        let (tell, submitted) = channel();
        thread::spawn(move || {
            let job = with_terms(of.job(arg), terms);
            // A failing test does not listen.
            let _ = tell.send(if handle { job.submit().map(Some) } else { job.send().map(|()| None) });
        });
        self.waiters.push(Waiter { function, id, n, terms, handle, submitted });
    }

    /// After each operation: who has room now, or never will, comes back, and nobody else.
    pub(super) fn let_in(&mut self) {
        for waiter in std::mem::take(&mut self.waiters) {
            let Waiter { function, id, n, terms, handle, ref submitted } = waiter;
            let expected = self.model.submit(function, id, n, terms, handle);
            if expected == Err(Refusal::Wait) {
                assert!(matches!(submitted.try_recv(), Err(TryRecvError::Empty)), "a caller did not wait for room");
                self.waiters.push(waiter);
                continue;
            }
            let made = submitted.recv_timeout(PATIENCE).expect("a caller waits on, though it need not");
            let refused = made.map(|made| {
                if let (Some(handle), Ok(Some(claim))) = (made, expected) {
                    self.handles.push(Handle { handle, claim, wakes: None });
                }
            });
            self.compare_refusal(expected.map(|_| ()), refused.err(), id);
            self.wait_for_the_clock(function);
        }
    }

    /// Makes room for those who wait. Who gets in while jobs start, and so before which of them, would be a race.
    pub(super) fn make_room(&mut self, is_meant: impl Fn(&Self, usize) -> bool) {
        for function in self.waiters.iter().map(|waiter| waiter.function).collect::<Vec<_>>() {
            if is_meant(self, function) {
                let bounds = Bounds { capacity: None, capacity_of: None, ..self.model.functions[function].bounds };
                self.functions[function].set_limits(bounds.limits());
                self.model.set_limits(function, bounds);
            }
        }
        self.let_in();
    }
}
