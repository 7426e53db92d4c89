//! Who is woken for a job of a function without a body.

use super::Function;
use crate::consumer;

/// # Wake-ups
impl<A, R> Function<A, R> {
    /// How many parked consumer sets are woken for a job: as many wake-ups as this for each that is queued are under way.
    /// 0 wakes none, for sets that look by themselves; `usize::MAX` all. Default: 1, which is enough, for a set that is woken
    /// and takes nothing passes that on. Nothing for a function with a body.
    pub fn set_wakeups(&self, sets_per_job: usize) {
        consumer::set_wakeups(&self.core, sets_per_job);
    }

    /// Wakes so many parked consumer sets more, if there is a job that one could take: for who does not trust the first ones to
    /// come. How many were woken.
    pub fn wake_more(&self, sets: usize) -> usize {
        consumer::wake_more(&self.core, sets)
    }
}
