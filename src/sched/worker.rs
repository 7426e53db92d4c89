//! A worker thread: the loop that finds jobs, and what belongs to one worker alone.

use super::claim::Claim;
use super::core::{Core, MANAGED};
use super::current::Running;
use super::deque::Taken;
use super::lent::Lent;
use super::managed::Earlier;
use super::nested::stack_address;
use super::registry::Shared;
use super::seat::{WorkerShared, add};
use super::spares::StoodBy;
use super::tally::Round;
use crate::queue::block::Header;
use crate::queue::pool::Link;
use crate::queue::priority::Priority;
use crate::sync::{Ordering, fence_full, fence_light, local, spin_loop, yield_now};
use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Nested jobs run before the ready set is looked at again.
const NESTED_ROUND: usize = 64;
/// Upper bound of the coalescing wait, in spin-loop hints (about 28 ns each): 0.4 us.
const COALESCE_MAX: u32 = 16;
/// A claim below this size means that the worker has caught up with its producers.
const CAUGHT_UP: usize = 32;
/// Looks at functions with jobs of high priority that may start nothing before the worker goes on.
const URGENT_LOOKS: u32 = if crate::sync::IS_MODEL { 1 } else { 64 };
/// Lanes that may keep an empty block, for each worker.
const HOLD: usize = 256;

/// A worker, seen by its own thread.
pub(crate) struct Worker {
    pub(super) shared: Arc<Shared>,
    me: NonNull<WorkerShared>,
    pub(super) index: usize,
    pub(super) running: Cell<Running>,
    /// Free nodes, by class.
    pub(super) nodes: UnsafeCell<Vec<Vec<NonNull<Link>>>>,
    /// Where the next look at the ready set starts: one past the function served last.
    cursor: Cell<usize>,
    /// The same for high and low priority.
    side_cursor: Cell<usize>,
    coalesce: Cell<u32>,
    caught_up: Cell<bool>,
    /// Functions whose lane this worker saw getting a block, oldest first.
    holding: UnsafeCell<VecDeque<u32>>,
    /// Where this thread's stack begins, about.
    pub(super) stack: usize,
    /// Jobs below the running one on this worker's stack: each waits for the one above it.
    pub(super) suspended: UnsafeCell<Vec<Running>>,
    /// This worker was the last searcher: it passes on what else there is.
    pub(super) announce: Cell<bool>,
    /// Jobs of the present round of nested ones that count themselves.
    pub(super) apart: Cell<usize>,
    /// This worker is lent out, and runs no jobs of its engine.
    pub(super) lent: RefCell<Option<Arc<Lent>>>,
}

/// Ends a worker, also when something unforeseen unwinds: whoever waits for the engine's end must not wait for it.
struct Leave<'w>(&'w Worker);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

local! {
    static CURRENT: Cell<*const Worker> = Cell::new(ptr::null());
}

impl Worker {
    /// This thread's worker, if it is one.
    ///
    /// # Safety
    /// The caller does not let the reference leave its stack frame: the worker lives there, further down.
    #[inline(always)]
    pub(crate) unsafe fn current<'a>() -> Option<&'a Worker> {
        let current = CURRENT.with(Cell::get);
        // SAFETY: set for as long as `main` runs, which owns the worker, and cleared before it ends.
        unsafe { current.as_ref() }
    }

    /// Runs `f` with this thread's worker, if it is one.
    pub(crate) fn with_current<T>(f: impl FnOnce(Option<&Worker>) -> T) -> T {
        // SAFETY: the bound of `f` keeps the reference from leaving it.
        f(unsafe { Worker::current() })
    }

    pub(crate) fn new(shared: Arc<Shared>, index: usize) -> Worker {
        let me = &shared.workers[index];
        // SAFETY: a seat gets one thread, which is this one and owns the deque.
        unsafe { me.deque.prepare() };
        Worker {
            me: NonNull::from(me),
            running: Cell::new(Running::NOTHING),
            nodes: UnsafeCell::new(Vec::new()),
            cursor: Cell::new(index * 37),
            side_cursor: Cell::new(index * 37),
            coalesce: Cell::new(0),
            caught_up: Cell::new(true),
            holding: UnsafeCell::new(VecDeque::new()),
            stack: stack_address(),
            suspended: UnsafeCell::new(Vec::new()),
            announce: Cell::new(false),
            apart: Cell::new(0),
            lent: RefCell::new(None),
            shared,
            index,
        }
    }

    /// The body of a worker thread: runs jobs until the engine ends.
    pub(crate) fn main(shared: Arc<Shared>, index: usize) {
        let worker = Worker::new(shared, index);
        CURRENT.with(|c| c.set(&worker));
        let _leave = Leave(&worker);
        worker.serve();
    }

    /// Model checker only: the same for a spare whose thread the model has started.
    #[cfg(any(layshaft_loom, layshaft_shuttle))]
    pub(crate) fn main_when_called(shared: Arc<Shared>, index: usize) {
        let worker = Worker::new(shared, index);
        CURRENT.with(|c| c.set(&worker));
        let _leave = Leave(&worker);
        if worker.shared.spares.await_call() {
            worker.serve();
        }
    }

    /// The thread's last act as a worker.
    fn leave(&self) {
        self.give_nodes_back();
        self.mark_parked();
        // Still this thread's worker: bodies that are dropped here may drop the last handle of the engine, which then
        // must not wait for this thread.
        self.shared.leave();
        CURRENT.with(|c| c.set(ptr::null()));
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> *const Shared {
        Arc::as_ptr(&self.shared)
    }

    pub(crate) fn engine_number(&self) -> u32 {
        self.shared.number
    }

    pub(crate) fn shared_arc(&self) -> &Arc<Shared> {
        &self.shared
    }

    #[inline(always)]
    pub(crate) fn me(&self) -> &WorkerShared {
        // SAFETY: points into `shared`, which this worker keeps alive.
        unsafe { self.me.as_ref() }
    }

    pub(crate) fn claim(&self) -> &Claim<Core, Header> {
        &self.me().claim
    }

    // The loop.

    fn serve(&self) {
        loop {
            while self.step() {}
            self.set_running(Running::NOTHING);
            if self.shared.spares.has_surplus() {
                match self.stand_by() {
                    StoodBy::Stayed => {}
                    StoodBy::Called => continue,
                    StoodBy::Ended => return,
                }
            }
            self.shared.sleep.start_search();
            if !self.search() {
                return;
            }
            self.stop_search();
        }
    }

    /// Something was found: the last searcher will pass on what else there is.
    pub(crate) fn stop_search(&self) {
        if self.shared.sleep.stop_search() {
            self.announce.set(true);
        }
    }

    /// Runs something: `false` when there was nothing.
    fn step(&self) -> bool {
        self.between_jobs();
        if self.shared.spares.has_surplus() {
            // To stand by it must have nothing of its own left.
            return self.run_nested(NESTED_ROUND);
        }
        if self.has_urgent() {
            self.run_urgent(|| self.shared.spares.has_surplus());
        }
        let mut found = self.run_nested(NESTED_ROUND);
        if self.shared.spares.has_surplus() {
            // Of what has just run something has waited.
            return true;
        }
        if let Some(index) = self.shared.ready(Priority::Normal).next(self.cursor.get()) {
            self.cursor.set(index + 1);
            self.coalesce();
            self.run_function(index, Priority::Normal);
            // A function whose job is reserved and not yet published keeps its bit: that is work, too.
            return true;
        }
        if !found {
            self.caught_up.set(true);
            found = self.steal() || self.has_patient() && (self.rescue_first() || self.run_patient());
        }
        found
    }

    /// Whether there is a thread too many, and this one may have to stand by.
    pub(crate) fn is_surplus(&self) -> bool {
        self.shared.spares.has_surplus()
    }

    /// Whether there may be something of high priority.
    #[inline(always)]
    pub(crate) fn has_urgent(&self) -> bool {
        self.shared.ready(Priority::High).may_have_any()
    }

    /// Runs what is of high priority, before a job of a lower one is started.
    pub(crate) fn run_urgent_first(&self) {
        self.run_urgent(|| false);
    }

    #[cold]
    #[inline(never)]
    fn run_urgent(&self, is_over: impl Fn() -> bool) {
        let outer = self.running.get();
        let ready = self.shared.ready(Priority::High);
        // Looks in a row that started nothing: a job that is reserved and not yet published must not hold up the others,
        // should its producer be preempted.
        let mut idle = 0;
        while ready.any() && idle < URGENT_LOOKS && !is_over() {
            while idle < URGENT_LOOKS
                && !is_over()
                && let Some(index) = ready.next(self.side_cursor.get())
            {
                self.side_cursor.set(index + 1);
                idle = if self.run_function(index, Priority::High) { 0 } else { idle + 1 };
            }
            // The root is what is looked at before each job.
            if ready.tidy() {
                self.notify();
            }
        }
        self.set_running(outer);
    }

    /// Whether there is something of low priority.
    fn has_patient(&self) -> bool {
        let ready = self.shared.ready(Priority::Low);
        ready.may_have_any() && ready.any()
    }

    /// Runs one job of low priority, if there is one.
    fn run_patient(&self) -> bool {
        let Some(index) = self.shared.ready(Priority::Low).next(self.side_cursor.get()) else { return false };
        self.side_cursor.set(index + 1);
        self.run_function(index, Priority::Low);
        true
    }

    /// Waits a little for a batch to form, if the worker has caught up with its producers: claiming jobs one by one
    /// takes the producer's line away for each.
    #[inline(always)]
    fn coalesce(&self) {
        if self.caught_up.get() {
            for _ in 0..self.coalesce.get() {
                spin_loop();
            }
        }
    }

    /// Runs what a function has claimable: `false` when its first job is reserved and not yet published.
    #[inline(always)]
    fn run_function(&self, index: usize, priority: Priority) -> bool {
        let Some(core) = self.shared.function(index) else {
            self.unlisted(index, priority);
            return true;
        };
        // SAFETY: in the table during this epoch, so it is not freed before the next `tick`.
        let core = unsafe { core.as_ref() };
        if self.is_discarding() {
            self.discard_queued(core, priority);
            return true;
        }
        let published = if core.flags() & MANAGED != 0 {
            self.run_one_of(core, priority, core.vtable.run_managed)
        } else if priority == Priority::Normal {
            // SAFETY: as above.
            unsafe { (core.vtable.run_ready)(self, core) }
        } else {
            self.run_one_of(core, priority, core.vtable.run_single)
        };
        if !published {
            yield_now();
        }
        published
    }

    /// Ends what is queued as cancelled.
    #[cold]
    fn discard_queued(&self, core: &Core, priority: Priority) {
        self.shared.discard_queued(core);
        self.shared.ready(priority).clear(core.index as usize);
    }

    /// Claims and runs one job.
    fn run_one_of(&self, core: &Core, priority: Priority, run: unsafe fn(&Worker, &Core, Priority) -> bool) -> bool {
        let mut published = true;
        let mut once = true;
        self.catch_each(|| {
            if std::mem::take(&mut once) {
                // SAFETY: the vtable was made for this core.
                published = unsafe { run(self, core, priority) };
            }
        });
        published
    }

    /// A function's lane got a block. When many have one, the oldest gives its back, so that memory follows the jobs that
    /// are queued and not the functions that ever had one.
    #[cold]
    pub(crate) fn holds(&self, index: u32) {
        // SAFETY: only this thread uses the list, and nothing below calls back into it.
        let holding = unsafe { &mut *self.holding.get() };
        holding.push_back(index);
        if holding.len() > HOLD {
            self.retire_oldest(holding);
        }
    }

    /// Looks at the block that was held longest: gives it back, or keeps it if its lane has jobs.
    fn retire_oldest(&self, holding: &mut VecDeque<u32>) {
        let Some(index) = holding.pop_front() else { return };
        let Some(core) = self.shared.function(index as usize) else { return };
        // SAFETY: in the table during this epoch, so it is not freed before the next `tick`.
        let core = unsafe { core.as_ref() };
        // SAFETY: the vtable was made for this core.
        if !unsafe { (core.vtable.retire)(core) } {
            holding.push_back(index);
        }
    }

    /// Gives back the blocks of functions that have no jobs.
    pub(super) fn retire_idle(&self) {
        // SAFETY: as in `holds`.
        let holding = unsafe { &mut *self.holding.get() };
        for _ in 0..holding.len() {
            self.retire_oldest(holding);
        }
    }

    /// A bit without a function: a submit that came late to its removal set it. If the index has a new function by now,
    /// that one's submit may have relied on the bit.
    #[cold]
    fn unlisted(&self, index: usize, priority: Priority) {
        let ready = self.shared.ready(priority);
        ready.clear(index);
        if self.shared.has_function(index) && ready.set(index) {
            self.notify();
        }
    }

    /// A claim was opened: adapts the coalescing wait, and wakes a worker where that is due. After it was opened, so that
    /// of this worker and one that falls asleep unwatching one sees the other.
    #[inline(always)]
    pub(crate) fn claimed(&self, n: usize, emptied: bool) {
        add(&self.me().counters.claims, 1);
        let small = emptied || n < CAUGHT_UP;
        if small {
            let wait = self.coalesce.get();
            // A batch of one shows that waiting did not help; a fair one that it did.
            self.coalesce.set(if n <= 1 { wait / 2 } else { (wait + 2).min(COALESCE_MAX) });
        }
        self.caught_up.set(small);
        fence_light();
        if self.has_sleepers() && (!emptied || n > 1) {
            self.share(emptied);
        }
        self.pass_on_if_last();
    }

    /// Whether somebody may sleep. Who has fallen asleep unseen was told of every bit that was set since.
    #[inline(always)]
    pub(crate) fn has_sleepers(&self) -> bool {
        self.shared.sleep.counts().sleepers() > 0
    }

    /// There is more than this worker can start now, and somebody sleeps: a backlog wakes a sleeper; the rest of a claim
    /// only needs one that watches.
    #[cold]
    fn share(&self, emptied: bool) {
        // After the claim was opened, before the look at the watcher and the searchers: pairs with `pass_on`.
        fence_full();
        if !emptied || !self.shared.phase.has_watcher() {
            self.notify();
        }
    }

    /// Wakes a sleeper if nobody searches, after a SeqCst read-modify-write that showed work.
    #[cold]
    pub(crate) fn notify(&self) {
        self.woke(self.shared.sleep.notify());
    }

    /// Passes on what else there is, if this worker was the last searcher.
    #[inline(always)]
    pub(crate) fn pass_on_if_last(&self) {
        if self.announce.get() {
            self.pass_on();
        }
    }

    /// The last searcher found something; whoever submitted meanwhile relied on a searcher.
    #[cold]
    pub(super) fn pass_on(&self) {
        self.announce.set(false);
        // After this worker stopped searching, before the look at claims: pairs with `share`.
        fence_full();
        // What others have claimed and not started may get stuck: somebody must watch it.
        let is_unwatched = || !self.shared.phase.has_watcher() && self.sees_claims();
        if self.sees_work() || is_unwatched() {
            self.notify();
        }
    }

    #[inline(always)]
    pub(crate) fn woke(&self, did: bool) {
        if did {
            add(&self.me().counters.wakes, 1);
        }
    }

    /// Runs up to `most` of this worker's own nested jobs, newest first.
    fn run_nested(&self, most: usize) -> bool {
        let budget = Cell::new(most);
        let next = Cell::new(None);
        self.catch_each(|| {
            while let Some(taken) = next.take().or_else(|| self.pop(&budget)) {
                next.set(self.run_taken(taken, &budget));
            }
        });
        let ran = most - budget.get();
        self.ran(ran);
        ran > 0
    }

    /// Takes this worker's newest nested job, if the budget allows.
    #[inline(always)]
    pub(crate) fn pop(&self, budget: &Cell<usize>) -> Option<Taken<'_, Core>> {
        let left = budget.get().checked_sub(1)?;
        // SAFETY: this thread is the owner.
        let taken = unsafe { self.me().deque.pop() }?;
        budget.set(left);
        Some(taken)
    }

    #[inline(always)]
    pub(crate) fn is_discarding(&self) -> bool {
        self.shared.phase.is_discarding()
    }

    /// Calls `run` until it returns without a panic; each panic is reported to the job that was running.
    #[inline(always)]
    fn catch_each(&self, mut run: impl FnMut()) {
        while let Err(payload) = catch_unwind(AssertUnwindSafe(&mut run)) {
            // SAFETY: the function of the job that panicked, of which this worker is not past the end.
            let core = unsafe { &*self.running.get().function };
            // SAFETY: the vtable was made for this core.
            unsafe { (core.vtable.panicked)(self, payload) };
        }
    }

    /// Runs a nested job that was taken from a deque, and more of this worker's while the budget lasts (see [`RunNested`]).
    /// Unwinds when one panics.
    ///
    /// [`RunNested`]: super::core::RunNested
    #[inline(always)]
    fn run_taken<'w>(&'w self, taken: Taken<'w, Core>, budget: &Cell<usize>) -> Option<Taken<'w, Core>> {
        // SAFETY: mentioned in a deque until now, so not freed before this worker's next two epochs.
        let core = unsafe { taken.function().as_ref() };
        if self.is_discarding() {
            // SAFETY: the vtable was made for this core, and the deque gave the entry to this call.
            let n = unsafe { (core.vtable.discard_nested)(core, taken) };
            self.shared.phase.discarded(n);
            return None;
        }
        self.begin(core);
        let _earlier = Earlier::new(core);
        let round = Round::new(self.tally(), budget, &self.apart);
        // SAFETY: as above.
        let next = unsafe { (core.vtable.run_nested)(self, core, taken, budget) };
        round.end(usize::from(next.is_some()));
        next
    }

    /// Runs one nested job to its end.
    pub(super) fn run_one(&self, taken: Taken<'_, Core>) {
        let mut taken = Some(taken);
        self.catch_each(|| {
            if let Some(taken) = taken.take() {
                let next = self.run_taken(taken, &Cell::new(0));
                debug_assert!(next.is_none(), "the budget allows no other");
            }
        });
        self.ran(1);
    }

    /// The other workers, starting behind this one.
    pub(super) fn others(&self) -> impl Iterator<Item = &WorkerShared> {
        let workers = self.shared.seats();
        (1..workers.len()).map(move |i| &workers[(self.index + i) % workers.len()])
    }

    /// Takes the oldest nested job of another worker and runs it.
    fn steal(&self) -> bool {
        for victim in self.others() {
            if let Some(taken) = victim.deque.steal() {
                add(&self.me().counters.steals, 1);
                self.pass_on_if_last();
                self.run_one(taken);
                return true;
            }
        }
        false
    }

    // Epochs.

    /// Refers to no function that is on its way out, and says so.
    #[inline(always)]
    pub(crate) fn between_jobs(&self) {
        if self.shared.counts_jobs() && self.shared.has_retired() {
            self.turn_out();
        }
        self.tick();
    }

    /// A point between two jobs: this worker refers to no function that it found before.
    #[inline(always)]
    pub(super) fn tick(&self) {
        let epoch = &self.me().epoch;
        // Ordering: Relaxed, one writer.
        let now = epoch.load(Ordering::Relaxed);
        // Ordering: Release, pairs with the Acquire in `epoch`; ordered before the look at the table by the fence.
        epoch.store((now | 1) + 1, Ordering::Release);
        fence_light();
    }

    /// Lets go of the functions that jobs were counted for. Between two jobs.
    #[cold]
    fn turn_out(&self) {
        if !self.running.get().function.is_null() {
            self.set_running(Running::NOTHING);
        }
        if self.shared.counts_jobs() {
            self.me().tallies.turn_out();
        }
    }

    pub(crate) fn mark_parked(&self) {
        self.turn_out();
        let epoch = &self.me().epoch;
        // Ordering: Relaxed, one writer.
        let now = epoch.load(Ordering::Relaxed);
        // Ordering: Release, as in `tick`.
        epoch.store(now | 1, Ordering::Release);
    }
}
