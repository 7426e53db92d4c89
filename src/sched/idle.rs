//! A worker without work: it searches, rescues jobs stuck behind a busy worker, and parks. `README.md` is the essay.

use super::claim::Revoked;
use super::core::CoreRef;
use super::seat::add;
use super::sleep::Woken;
use super::worker::Worker;
use crate::queue::block::Header;
use crate::queue::lane::Span;
use crate::queue::priority::Priority;
use crate::sync::{fence_heavy, spin_loop, yield_now};
use std::time::Duration;

/// Looks of a searcher before it parks, about 5 us.
const SEARCH_SPINS: u32 = if crate::sync::IS_MODEL { 1 } else { 200 };
/// First and longest interval at which an idle worker looks after jobs stuck behind a busy one.
const WATCH_FIRST: Duration = Duration::from_micros(50);
const WATCH_LONGEST: Duration = Duration::from_millis(2);

/// How an attempt to park ended.
pub(crate) enum Asleep {
    SawWork,
    Woken(Woken),
    Ended,
}

/// The claims that had unstarted jobs at the last look, with how far they were.
#[derive(Default)]
struct Stuck(Vec<(usize, (u32, *mut Header))>);

impl Worker {
    /// Whether there is work for a searcher.
    pub(super) fn sees_work(&self) -> bool {
        self.shared.has_ready() || self.shared.seats().iter().any(|w| !w.deque.is_empty())
    }

    /// Whether others have claimed jobs and not started them yet.
    pub(super) fn sees_claims(&self) -> bool {
        self.others().any(|w| w.claim.glance().is_some())
    }

    /// Looks for work until there is some: `false` when the engine has ended. Counted as a searcher before and after.
    pub(super) fn search(&self) -> bool {
        let mut stuck = Stuck::default();
        let mut watch = WATCH_FIRST;
        loop {
            for i in 0..SEARCH_SPINS {
                if self.sees_work() {
                    return true;
                }
                if i % 64 == 63 { yield_now() } else { spin_loop() }
            }
            if let Some(()) = self.rescue(&mut stuck) {
                return true;
            }
            match self.fall_asleep(watch) {
                Asleep::Ended => return false,
                Asleep::SawWork => return true,
                Asleep::Woken(Woken::Notified) => watch = WATCH_FIRST,
                Asleep::Woken(Woken::TimedOut) => watch = (watch * 2).min(WATCH_LONGEST),
            }
        }
    }

    /// Parks, unless there is work after all; for at most `watch` if others have claimed jobs that nobody looks after.
    pub(crate) fn fall_asleep(&self, watch: Duration) -> Asleep {
        let shared = &*self.shared;
        self.retire_idle();
        Priority::ALL.into_iter().for_each(|priority| _ = shared.ready(priority).tidy());
        self.park_and_collect(|gone| {
            // What is dropped is others' code, which may block: nobody must rely on this searcher meanwhile.
            self.stop_search();
            self.pass_on_if_last();
            drop(gone);
            shared.sleep.start_search();
        });
        let Some(watching) = self.lie_down() else {
            self.tick();
            return Asleep::SawWork;
        };
        if shared.phase.has_ended() {
            self.stay_awake();
            shared.phase.stop_watch(watching);
            return Asleep::Ended;
        }
        add(&self.me().counters.parks, 1);
        let woken = self.park(watching.then_some(watch));
        shared.phase.stop_watch(watching);
        self.tick();
        Asleep::Woken(woken)
    }

    /// Sleeps, after the last look.
    pub(crate) fn park(&self, limit: Option<Duration>) -> Woken {
        let shared = &*self.shared;
        let settled = shared.phase.settle();
        if shared.phase.is_draining() && shared.sleep.counts_in_order().are_all_asleep(settled) {
            // Everybody has looked and found nothing: what was accepted has been run.
            shared.finish_drain();
        }
        let woken = shared.sleep.park(limit);
        shared.phase.unsettle();
        woken
    }

    /// Searches on, after [`Sleep::start_sleep`](super::sleep::Sleep::start_sleep).
    pub(crate) fn stay_awake(&self) {
        if !self.shared.sleep.stay_awake() {
            // The token that is on its way may go to another worker that falls asleep meanwhile: then this one sleeps instead,
            // as one that has looked, and that one looks.
            self.park(None);
        }
    }

    /// From searcher to sleeper: whether this one looks after the claims of others. `None` when there is work after all.
    pub(crate) fn lie_down(&self) -> Option<bool> {
        self.shared.sleep.start_sleep();
        if self.look_again() {
            self.stay_awake();
            return None;
        }
        Some(self.sees_claims() && self.shared.phase.start_watch())
    }

    /// Lets go of every function, and of the removed ones that nobody holds any more.
    pub(super) fn park_and_collect(&self, drop_all: impl Fn(Vec<CoreRef>)) {
        loop {
            self.mark_parked();
            let gone = self.shared.collect_idle();
            if gone.is_empty() {
                return;
            }
            // What is dropped is others' code, which may submit.
            self.tick();
            drop_all(gone);
        }
    }

    /// The sleeper's last look, after it is counted: pairs with `Sleep::notify` (through the counts), and through the heavy
    /// fence with `Sleep::notify_local` and `Worker::claimed`.
    fn look_again(&self) -> bool {
        fence_heavy();
        self.sees_work()
    }

    /// Before a job of low priority: whether others have claimed normal ones and not started them. Those of a claim that got
    /// nowhere for as long as a searcher looks are taken over; otherwise the caller is to look again.
    pub(super) fn rescue_first(&self) -> bool {
        if self.is_discarding() || !self.sees_claims() {
            return false;
        }
        let glances = self.shared.seats().iter().enumerate().filter_map(|(i, w)| Some((i, w.claim.glance()?)));
        let mut stuck = Stuck(glances.collect());
        for i in 0..SEARCH_SPINS {
            if self.shared.ready(Priority::Normal).any() || self.shared.ready(Priority::High).any() {
                return true;
            }
            if i % 64 == 63 { yield_now() } else { spin_loop() }
        }
        if let Some(taken) = self.take_stuck(&mut stuck) {
            self.run_rescued(&taken);
        }
        true
    }

    /// Takes jobs from a worker that has claimed them and started none since the last look, and runs them.
    fn rescue(&self, stuck: &mut Stuck) -> Option<()> {
        let taken = self.take_stuck(stuck)?;
        // Runs as a searcher would: others must be able to see that nobody searches.
        self.stop_search();
        self.run_rescued(&taken);
        self.shared.sleep.start_search();
        Some(())
    }

    fn run_rescued(&self, taken: &Revoked<CoreRef, Header>) {
        let span = Span { block: taken.block, start: taken.start, len: taken.len, began: false, sampled: false };
        let core = &*taken.function;
        if self.shared.phase.is_discarding() {
            // SAFETY: revoked for this call.
            let n = unsafe { (core.vtable.discard_span)(core, span) };
            self.shared.phase.discarded(n);
        } else {
            // SAFETY: as above.
            unsafe { (core.vtable.run_span)(self, core, span, false) };
        }
    }

    fn take_stuck(&self, stuck: &mut Stuck) -> Option<Revoked<CoreRef, Header>> {
        let mut now = Stuck::default();
        for (i, victim) in self.shared.seats().iter().enumerate() {
            let Some(glance) = victim.claim.glance().filter(|_| i != self.index) else { continue };
            now.0.push((i, glance));
            if !stuck.0.contains(&(i, glance)) {
                continue;
            }
            // SAFETY: an open claim has jobs that are not done with, so its function is not freed.
            let keep = |core| unsafe { CoreRef::keep(core) };
            let Some(taken) = victim.claim.revoke(keep) else { continue };
            add(&self.me().counters.steals, taken.len as u64);
            *stuck = now;
            return Some(taken);
        }
        *stuck = now;
        None
    }
}
