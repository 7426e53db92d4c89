//! Whole engines, with threads that the model starts.

use crate::engine::Engine;
use crate::function::Function;
use crate::sched::idle::Asleep;
use crate::sched::lent::Lent;
use crate::sched::registry::Shared;
use crate::sched::sleep::{Sleep, Woken};
use crate::sched::tally;
use crate::sched::worker::Worker;
use std::sync::Arc;
use std::time::Duration;

/// An engine without threads, and what its workers need: each runs [`work`].
pub fn engine(workers: usize) -> (Engine, Seat) {
    engine_with_spares(workers, 0)
}

/// The same with spares, which stand by: each runs [`work_when_called`].
pub fn engine_with_spares(workers: usize, spares: usize) -> (Engine, Seat) {
    let shared = Arc::new(Shared::new(workers, spares, String::new(), Duration::from_secs(1)));
    shared.spares.staff();
    (0..spares).for_each(|_| shared.phase.arrive());
    (Engine::from_shared(Arc::clone(&shared)), Seat(shared))
}

/// The same without spares, whose workers count what they run. Functions that have ended are not freed.
pub fn engine_that_counts(workers: usize) -> (Engine, Seat) {
    let mut shared = Shared::new(workers, 0, String::new(), Duration::from_secs(1));
    shared.is_counting = true;
    let shared = Arc::new(shared);
    (Engine::from_shared(Arc::clone(&shared)), Seat(shared))
}

/// A place for a worker.
#[derive(Clone)]
pub struct Seat(Arc<Shared>);

/// Runs worker `index` until the engine ends.
pub fn work(seat: Seat, index: usize) {
    Worker::main(seat.0, index);
}

/// Runs spare `index`, behind the workers, from when it is called until the engine ends.
pub fn work_when_called(seat: Seat, index: usize) {
    Worker::main_when_called(seat.0, index);
}

/// So many threads that are lent out together.
#[derive(Clone)]
pub struct Loan(Arc<Lent>);

impl Loan {
    pub fn new(threads: usize) -> Self {
        Loan(Arc::new(Lent::new(threads)))
    }
}

/// A worker whose steps the model takes itself.
pub struct Steps(Worker);

impl Steps {
    pub fn new(seat: &Seat, index: usize) -> Self {
        Steps(Worker::new(Arc::clone(&seat.0), index))
    }

    pub fn start_search(&self) {
        self.0.shared_arc().sleep.start_search();
    }

    /// A point between two jobs.
    pub fn between_jobs(&self) {
        self.0.between_jobs();
    }

    /// Runs a job of the function with this index, if it is listed: one job that does nothing, of which `end` tells.
    pub fn run_one_of(&self, index: usize, end: impl FnOnce()) {
        if let Some(core) = self.0.shared_arc().function(index) {
            // SAFETY: listed since the last point between two jobs.
            self.0.begin(unsafe { core.as_ref() });
            self.0.start();
            self.0.end();
            end();
        }
    }

    /// Waits inside a job while `f` runs: `false` at once when nobody would be left to run jobs.
    pub fn block(&self, f: impl FnOnce()) -> bool {
        self.0.block(false).inspect(|_| f()).is_some()
    }

    /// Is one of the lent ones while `f` runs.
    pub fn lend(&self, to: &Loan, f: impl FnOnce()) {
        self.0.lend(&to.0, f);
    }

    /// Nothing is left to do.
    pub fn park(&self) {
        self.0.mark_parked();
    }

    /// Looks after the claims of others from now on.
    pub fn start_watch(&self) {
        assert!(self.0.shared_arc().phase.start_watch());
    }

    /// A searcher, or a watcher that was woken, turns to other work.
    pub fn find_work(&self, watching: bool) {
        self.0.shared_arc().phase.stop_watch(watching);
        self.0.stop_search();
        self.0.pass_on_if_last();
    }

    /// A searcher that has seen work stands by instead, for there is a thread too many.
    pub fn stand_by(&self) {
        self.0.stop_search();
        assert!(self.0.resign(), "there is a thread too many");
    }

    /// Claims two jobs, and starts none.
    pub fn claim(&self) {
        self.0.claim().open(std::ptr::NonNull::dangling(), std::ptr::NonNull::dangling(), 0, 2);
        self.0.claimed(2, true);
    }

    /// A searcher that falls asleep sees work, and searches on.
    pub fn see_work(&self) {
        self.0.shared_arc().sleep.start_sleep();
        crate::sync::fence_heavy();
        self.0.stay_awake();
    }

    /// A searcher falls asleep, each time that it is woken, until the engine has ended. It sees no work.
    pub fn sleep_to_the_end(&self) {
        let shared = self.0.shared_arc();
        loop {
            shared.sleep.start_sleep();
            crate::sync::fence_heavy();
            if shared.phase.has_ended() {
                return self.0.stay_awake();
            }
            self.0.park(None);
        }
    }

    /// A searcher falls asleep, or searches on.
    pub fn lie_down(&self) {
        let _ = self.0.lie_down();
    }

    /// A searcher falls asleep, again and again, until the engine ends; there is nothing to find.
    pub fn idle_to_the_end(&self) {
        while !matches!(self.0.fall_asleep(Duration::ZERO), Asleep::Ended) {}
    }
}

impl Seat {
    /// Begins the drain, without waiting for its end.
    pub fn start_drain(&self) {
        self.0.start_drain(false);
    }

    /// The same, and has all sleepers look again.
    pub fn drain(&self) {
        self.0.start_drain(false);
        self.0.sleep.wake_all();
    }

    /// Wakes all, as the drain does then.
    pub fn wake_all(&self) {
        self.0.sleep.wake_all();
    }

    /// The clock, an hour from now.
    pub fn tick(&self) {
        self.0.timer.tell(std::time::Instant::now() + Duration::from_secs(3600));
    }

    /// Threads that run jobs or could, and that wait inside a job.
    pub fn running_and_blocked(&self) -> (usize, usize) {
        self.0.spares.running_and_blocked()
    }

    /// Jobs of a function that run, and that have ended: of its figures those that workers count.
    pub fn counted<A, R>(&self, function: &Function<A, R>) -> (u64, u64) {
        let started = tally::started(&**function.core(), self.0.workers.iter().map(|seat| &*seat.tallies));
        (started.running, started.done)
    }

    /// Lets go of the removed functions that nobody can hold any more.
    pub fn collect(&self) {
        drop(self.0.collect_idle());
    }

    /// How many functions the engine knows; it takes no more.
    pub fn functions(&self) -> usize {
        self.0.close_names().len()
    }

    /// Whether claimed jobs would be found: nobody sleeps, or somebody searches or watches.
    pub fn is_watched(&self) -> bool {
        let counts = self.0.sleep.counts_in_order();
        counts.sleepers() == 0 || counts.searchers() > 0 || self.0.phase.has_watcher()
    }
}

impl Seat {
    /// A worker blocks inside a job, a spare is called, and the worker comes back: there is a thread too many.
    pub fn overstaff(&self) {
        drop(self.0.block(false, None).expect("a spare is there"));
    }

    /// Whether a job that was queued would be found: nobody sleeps, or somebody searches.
    pub fn is_looked_after(&self) -> bool {
        let counts = self.0.sleep.counts_in_order();
        counts.sleepers() == 0 || counts.searchers() > 0
    }
}

/// The sleep state alone.
pub struct Bed(Sleep);

impl Bed {
    pub fn new() -> Self {
        Bed(Sleep::new(2))
    }

    pub fn notify(&self) -> bool {
        self.0.notify()
    }

    pub fn notify_local(&self) -> bool {
        self.0.notify_local()
    }

    pub fn wake_all(&self) {
        self.0.wake_all();
    }

    pub fn start_search(&self) {
        self.0.start_search();
    }

    pub fn stop_search(&self) -> bool {
        self.0.stop_search()
    }

    /// As a worker falls asleep: `look` is its last look. Whether it was woken, rather than having seen work.
    pub fn sleep_unless(&self, look: impl FnOnce() -> bool) -> bool {
        self.0.start_sleep();
        crate::sync::fence_heavy();
        if look() {
            if !self.0.stay_awake() {
                self.0.park(None);
            }
            return false;
        }
        self.0.park(None) == Woken::Notified
    }

    pub fn has_sleepers(&self) -> bool {
        self.0.counts().sleepers() > 0
    }

    /// Sleepers and searchers.
    pub fn counts(&self) -> (u32, u32) {
        let counts = self.0.counts_in_order();
        (counts.sleepers(), counts.searchers())
    }
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}

/// Ends an engine of one worker that was never started. Its functions are closed and forgotten.
pub fn end(engine: Engine, seat: Seat) {
    seat.0.leave();
    drop(engine);
}
