//! Who sleeps, and who is woken when there are jobs.

use super::functions::Target;
use super::keys::{ConnKey, FunctionKey};
use super::table::Table;
use super::timers::Due;
use crate::gearman::packet::Kind;
use std::task::Context;
use std::time::Instant;

impl Table {
    /// A sleeping worker's set was woken.
    pub(super) fn wake(&mut self, conn: ConnKey) {
        let Some(worker) = self.conns.get(conn).and_then(|conn| conn.worker.as_ref()) else { return };
        if worker.is_sleeping && !self.is_draining {
            if worker.set.is_woken() {
                self.send_noop(conn);
            } else {
                self.sleep(conn);
            }
        }
    }

    /// A worker wants to be told when there may be a job for it: at once, or later.
    pub(super) fn sleep(&mut self, conn: ConnKey) {
        let Some(worker) = self.conns.get_mut(conn).and_then(|conn| conn.worker.as_mut()) else { return };
        worker.is_sleeping = true;
        if self.is_draining {
            // Nothing is given out: it would be woken for what is queued again and again.
            return;
        }
        let cx = &mut Context::from_waker(&worker.waker);
        let is_hot = std::mem::take(&mut worker.has_worked) && self.settings.hot_first;
        if worker.set.poll_needed(cx, is_hot).is_ready() {
            worker.set.unpark();
            return self.send_noop(conn);
        }
        // There may be jobs all the same, for which others are on their way, or should be.
        let functions = &self.functions;
        let is_unwatched = |key: &FunctionKey| functions[*key].has_queued() && !functions[*key].has_rewake;
        let unwatched: Vec<FunctionKey> = worker.abilities.keys().copied().filter(is_unwatched).collect();
        unwatched.into_iter().for_each(|function| self.rewake_later(function));
    }

    /// As many sleepers more are woken after a while, if jobs still wait then: who was woken may hang, or be gone without a word.
    /// To be called when somebody sleeps who may be needed, or somebody was woken. One timer a function is enough: it looks how
    /// long jobs have waited when it is due.
    pub(super) fn rewake_later(&mut self, function: FunctionKey) {
        let entry = &mut self.functions[function];
        // Later than any time there is: never.
        if let Some(delay) = entry.rules.wakeup_delay
            && !entry.has_rewake
            && entry.rules.wakeups > 0
            && let Some(at) = Instant::now().checked_add(delay)
        {
            entry.has_rewake = true;
            self.timers.push(at, Due::Rewake(function));
        }
    }

    /// Looks whether jobs have waited for long. The timer goes on while there is somebody to wake, and only then.
    pub(super) fn rewake(&mut self, function: FunctionKey, now: Instant) {
        let Some(entry) = self.functions.get_mut(function) else { return };
        entry.has_rewake = false;
        let Target::Remote(queue) = &entry.target else { return };
        let Some(delay) = entry.rules.wakeup_delay.filter(|_| !self.is_draining && entry.has_queued()) else { return };
        let early = delay.saturating_sub(entry.waits_since.time_until(self.clock));
        if !early.is_zero() {
            entry.has_rewake = true;
            return self.timers.push(now + early, Due::Rewake(function));
        }
        let queue = queue.clone();
        if queue.wake_more(entry.rules.wakeups) > 0 {
            entry.waits_since = self.clock;
            self.rewake_later(function);
        }
    }

    pub(super) fn send_noop(&mut self, conn: ConnKey) {
        if let Some(worker) = self.conns.get_mut(conn).and_then(|conn| conn.worker.as_mut()) {
            worker.is_sleeping = false;
        }
        self.counters.wakes += 1;
        self.send(conn, Kind::Noop, &[]);
    }
}
