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
            self.send_noop(conn);
        }
    }

    /// As many sleepers more are woken after a while, if that is the setting.
    pub(super) fn rewake_later(&mut self, function: FunctionKey) {
        let entry = &mut self.functions[function];
        // Later than any time there is: never.
        if let Some(at) = entry.rules.wakeup_delay.and_then(|delay| Instant::now().checked_add(delay))
            && entry.rewake_at.replace(at).is_none()
        {
            self.timers.push(at, Due::Rewake(function));
        }
    }

    pub(super) fn rewake(&mut self, function: FunctionKey, now: Instant) {
        let Some(entry) = self.functions.get_mut(function) else { return };
        let Some(at) = entry.rewake_at.take() else { return };
        if at > now {
            // A later wake-up has put it off.
            entry.rewake_at = Some(at);
            return self.timers.push(at, Due::Rewake(function));
        }
        let Target::Remote(queue) = &entry.target else { return };
        let waits = !self.is_draining && entry.queued.iter().sum::<usize>() > 0;
        if waits && queue.wake_more(entry.rules.wakeups) > 0 {
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
