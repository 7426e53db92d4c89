//! A worker thread: the loop that finds jobs, and what belongs to one worker alone.

use super::claim::Claim;
use super::core::{Class, Core, CoreRef};
use super::deque::{Deque, Taken};
use super::registry::Shared;
use super::sleep::Woken;
use crate::job::slot::ResultSlot;
use crate::queue::block::{Header, detached};
use crate::queue::lane::Span;
use crate::queue::pool::Link;
use crate::stats::WorkerStats;
use crate::sync::{AtomicPtr, AtomicU64, Ordering, fence_heavy, fence_light, local, spin_loop, yield_now};
use crossbeam_utils::CachePadded;
use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

/// Nested jobs run before the ready set is looked at again.
const NESTED_ROUND: usize = 64;
/// Looks of a searcher before it parks, about 5 us.
const SEARCH_SPINS: u32 = if cfg!(layshaft_loom) { 1 } else { 200 };
/// Upper bound of the coalescing wait, in spin-loop hints (about 28 ns each): 0.4 us.
const COALESCE_MAX: u32 = 16;
/// A claim below this size means that the worker has caught up with its producers.
const CAUGHT_UP: usize = 32;
/// First and longest interval at which an idle worker looks after jobs stuck behind a busy one.
const WATCH_FIRST: Duration = Duration::from_micros(50);
const WATCH_LONGEST: Duration = Duration::from_millis(2);
/// Lanes that may keep an empty block, for each worker.
const HOLD: usize = 256;
/// Free nodes that a worker keeps at most; above this it gives half back.
const KEEP_NODES: usize = 256;
/// Nodes fetched at a time.
const FETCH_NODES: usize = 64;

/// What other threads see of a worker.
pub(crate) struct WorkerShared {
    pub(crate) deque: Deque<Core>,
    pub(crate) claim: Claim<Core, Header>,
    /// Counts the points between two jobs; odd while the worker is parked. See `registry`.
    epoch: CachePadded<AtomicU64>,
    /// The function whose job is running.
    function: CachePadded<AtomicPtr<Core>>,
    counters: CachePadded<Counters>,
}

/// Written by their worker alone.
#[derive(Default)]
struct Counters {
    jobs: AtomicU64,
    panicked: AtomicU64,
    cancelled: AtomicU64,
    claims: AtomicU64,
    steals: AtomicU64,
    parks: AtomicU64,
    wakes: AtomicU64,
}

#[inline(always)]
fn add(counter: &AtomicU64, n: u64) {
    // Ordering: Relaxed, counter only, one writer.
    let value = counter.load(Ordering::Relaxed);
    // Ordering: Relaxed, counter only, one writer.
    counter.store(value + n, Ordering::Relaxed);
}

impl WorkerShared {
    pub(crate) fn new() -> WorkerShared {
        WorkerShared {
            deque: Deque::new(),
            claim: Claim::new(),
            epoch: CachePadded::new(AtomicU64::new(0)),
            function: CachePadded::new(AtomicPtr::new(ptr::null_mut())),
            counters: CachePadded::new(Counters::default()),
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        // Ordering: Acquire, pairs with the Release in `Worker::tick`: what the worker did in an earlier epoch is over.
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether an epoch is that of a parked worker.
    pub(crate) fn is_parked(epoch: u64) -> bool {
        epoch % 2 == 1
    }

    /// The function whose job is running.
    pub(crate) fn running(&self) -> Option<NonNull<Core>> {
        // Ordering: Acquire, pairs with the Release in `set_running`.
        NonNull::new(self.function.load(Ordering::Acquire))
    }

    pub(crate) fn stats(&self) -> WorkerStats {
        let c = &self.counters;
        // Ordering: Relaxed, counter only.
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WorkerStats {
            jobs: read(&c.jobs),
            panicked: read(&c.panicked),
            cancelled: read(&c.cancelled),
            claims: read(&c.claims),
            steals: read(&c.steals),
            parks: read(&c.parks),
            wakes: read(&c.wakes),
        }
    }
}

/// The job that a worker is running.
#[derive(Clone, Copy)]
pub(crate) struct Running {
    pub(crate) function: *const Core,
    /// Its result slot, or `detached` when it has none.
    pub(crate) job: *mut ResultSlot,
}

impl Running {
    const NOTHING: Running = Running { function: ptr::null(), job: ptr::null_mut() };
}

/// A worker, seen by its own thread.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    me: NonNull<WorkerShared>,
    index: usize,
    running: Cell<Running>,
    /// Free nodes, by class.
    nodes: UnsafeCell<Vec<Vec<NonNull<Link>>>>,
    /// Where the next look at the ready set starts: one past the function served last.
    cursor: Cell<usize>,
    coalesce: Cell<u32>,
    caught_up: Cell<bool>,
    /// Functions whose lane this worker saw getting a block, oldest first.
    holding: UnsafeCell<VecDeque<u32>>,
    /// Jobs below the running one on this worker's stack: each waits for the one above it.
    suspended: UnsafeCell<Vec<*mut ResultSlot>>,
    /// This worker was the last searcher: it passes on what else there is.
    announce: Cell<bool>,
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

    /// The body of a worker thread: runs jobs until the engine ends.
    pub(crate) fn main(shared: Arc<Shared>, index: usize) {
        let worker = Worker {
            me: NonNull::from(&shared.workers[index]),
            running: Cell::new(Running::NOTHING),
            nodes: UnsafeCell::new(Vec::new()),
            cursor: Cell::new(index * 37),
            coalesce: Cell::new(0),
            caught_up: Cell::new(true),
            holding: UnsafeCell::new(VecDeque::new()),
            suspended: UnsafeCell::new(Vec::new()),
            announce: Cell::new(false),
            shared,
            index,
        };
        CURRENT.with(|c| c.set(&worker));
        worker.serve();
        CURRENT.with(|c| c.set(ptr::null()));
        worker.give_nodes_back();
        worker.mark_parked();
        worker.shared.leave();
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
    fn me(&self) -> &WorkerShared {
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
            self.shared.sleep.start_search();
            if !self.search() {
                return;
            }
            if self.shared.sleep.stop_search() {
                self.announce.set(true);
            }
        }
    }

    /// Runs something: `false` when there was nothing.
    fn step(&self) -> bool {
        self.tick();
        let mut found = self.run_nested(NESTED_ROUND);
        if let Some(index) = self.shared.ready.next(self.cursor.get()) {
            self.cursor.set(index + 1);
            self.coalesce();
            self.run_function(index);
            // A function whose job is reserved and not yet published keeps its bit: that is work, too.
            return true;
        }
        if !found {
            self.caught_up.set(true);
            found = self.steal();
        }
        found
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

    #[inline(always)]
    fn run_function(&self, index: usize) {
        let Some(core) = self.shared.function(index) else { return self.unlisted(index) };
        // SAFETY: in the table during this epoch, so it is not freed before the next `tick`.
        let core = unsafe { core.as_ref() };
        if self.shared.phase.is_discarding() {
            // SAFETY: the vtable was made for this core.
            let n = unsafe { (core.vtable.discard_queued)(core) };
            self.shared.ready.clear(index);
            return self.shared.phase.discarded(n);
        }
        // SAFETY: as above.
        if !unsafe { (core.vtable.run_ready)(self, core) } {
            yield_now();
        }
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
    fn retire_idle(&self) {
        // SAFETY: as in `holds`.
        let holding = unsafe { &mut *self.holding.get() };
        for _ in 0..holding.len() {
            self.retire_oldest(holding);
        }
    }

    /// A bit without a function: a submit that came late to its removal set it. If the index has a new function by now,
    /// that one's submit may have relied on the bit.
    #[cold]
    fn unlisted(&self, index: usize) {
        self.shared.ready.clear(index);
        if self.shared.function(index).is_some() {
            self.shared.ready.set(index);
        }
    }

    /// A claim was made: adapts the coalescing wait, and wakes a worker where that is due.
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
        let counts = self.shared.sleep.counts();
        if counts.sleepers() > 0 && (!emptied || n > 1) {
            self.share(emptied);
        }
        if self.announce.get() {
            self.pass_on();
        }
    }

    /// There is more than this worker can start now, and somebody sleeps: a backlog wakes a sleeper; the rest of a claim
    /// only needs one that watches.
    #[cold]
    fn share(&self, emptied: bool) {
        if !emptied || !self.shared.phase.has_watcher() {
            self.woke(self.shared.sleep.notify());
        }
    }

    /// The last searcher found something; whoever submitted meanwhile relied on a searcher.
    #[cold]
    fn pass_on(&self) {
        self.announce.set(false);
        if self.sees_work() {
            self.woke(self.shared.sleep.notify());
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
        let mut left = most;
        self.catch_each(|| {
            while left > 0 {
                // SAFETY: this thread is the owner.
                let Some(taken) = (unsafe { self.me().deque.pop() }) else { break };
                left -= 1;
                self.run_taken(taken);
            }
        });
        self.ran(most - left);
        left < most
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

    /// Runs a nested job that was taken from a deque. Unwinds when it panics.
    #[inline(always)]
    fn run_taken(&self, taken: Taken<'_, Core>) {
        // SAFETY: mentioned in a deque until now, so not freed before this worker's next two epochs.
        let core = unsafe { taken.function().as_ref() };
        if self.shared.phase.is_discarding() {
            // SAFETY: the vtable was made for this core, and the deque gave the entry to this call.
            let n = unsafe { (core.vtable.discard_nested)(core, taken) };
            return self.shared.phase.discarded(n);
        }
        // SAFETY: as above.
        unsafe { (core.vtable.run_nested)(self, core, taken) }
    }

    /// Runs one nested job to its end.
    fn run_one(&self, taken: Taken<'_, Core>) {
        let mut taken = Some(taken);
        self.catch_each(|| {
            if let Some(taken) = taken.take() {
                self.run_taken(taken);
            }
        });
        self.ran(1);
    }

    /// The other workers, starting behind this one.
    fn others(&self) -> impl Iterator<Item = &WorkerShared> {
        let workers = &self.shared.workers;
        (1..workers.len()).map(move |i| &workers[(self.index + i) % workers.len()])
    }

    /// Takes the oldest nested job of another worker and runs it.
    fn steal(&self) -> bool {
        for victim in self.others() {
            if let Some(taken) = victim.deque.steal() {
                add(&self.me().counters.steals, 1);
                if self.announce.get() {
                    self.pass_on();
                }
                self.run_one(taken);
                return true;
            }
        }
        false
    }

    /// Whether there is work for a searcher.
    fn sees_work(&self) -> bool {
        self.shared.ready.any() || self.others().any(|w| !w.deque.is_empty())
    }

    /// Looks for work until there is some: `false` when the engine has ended. Counted as a searcher before and after.
    fn search(&self) -> bool {
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
            let limit = (!stuck.is_empty()).then_some(watch);
            match self.fall_asleep(limit) {
                Asleep::Ended => return false,
                Asleep::SawWork => return true,
                Asleep::Woken(Woken::Notified) => watch = WATCH_FIRST,
                Asleep::Woken(Woken::TimedOut) => watch = (watch * 2).min(WATCH_LONGEST),
            }
        }
    }

    /// Parks, unless there is work after all.
    fn fall_asleep(&self, limit: Option<Duration>) -> Asleep {
        let shared = &*self.shared;
        self.retire_idle();
        shared.ready.tidy();
        shared.collect_idle();
        self.mark_parked();
        let watching = limit.is_some() && shared.phase.start_watch();
        let limit = limit.filter(|_| watching);
        shared.sleep.start_sleep();
        if self.look_again() {
            shared.sleep.stay_awake();
            shared.phase.stop_watch(watching);
            self.tick();
            return Asleep::SawWork;
        }
        if shared.phase.has_ended() {
            shared.sleep.stay_awake();
            shared.phase.stop_watch(watching);
            return Asleep::Ended;
        }
        if shared.phase.is_draining() && shared.all_asleep() {
            // Everybody has looked and found nothing: what was accepted has been run.
            shared.finish_drain();
        }
        add(&self.me().counters.parks, 1);
        let woken = shared.sleep.park(limit);
        shared.phase.stop_watch(watching);
        self.tick();
        Asleep::Woken(woken)
    }

    /// The sleeper's last look, after it is counted: pairs with `Sleep::notify` (through the counts) and
    /// `Sleep::notify_local` (through the heavy fence).
    fn look_again(&self) -> bool {
        fence_heavy();
        self.sees_work()
    }

    /// Takes jobs from a worker that has claimed them and started none since the last look.
    fn rescue(&self, stuck: &mut Stuck) -> Option<()> {
        let mut now = Stuck::default();
        for (i, victim) in self.shared.workers.iter().enumerate() {
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
            // Runs as a searcher would: others must be able to see that nobody searches.
            if self.shared.sleep.stop_search() {
                self.announce.set(true);
            }
            let span = Span { block: taken.block, start: taken.start, len: taken.len, began: false };
            let core = &*taken.function;
            self.claimed(span.len, false);
            if self.shared.phase.is_discarding() {
                // SAFETY: revoked above.
                let n = unsafe { (core.vtable.discard_span)(core, span) };
                self.shared.phase.discarded(n);
            } else {
                // SAFETY: revoked above.
                unsafe { (core.vtable.run_span)(self, core, span) };
            }
            self.shared.sleep.start_search();
            return Some(());
        }
        *stuck = now;
        None
    }

    // Epochs.

    /// A point between two jobs: this worker refers to no function that it found before.
    #[inline(always)]
    fn tick(&self) {
        let epoch = &self.me().epoch;
        // Ordering: Relaxed, one writer.
        let now = epoch.load(Ordering::Relaxed);
        // Ordering: Release, pairs with the Acquire in `epoch`; ordered before the look at the table by the fence.
        epoch.store((now | 1) + 1, Ordering::Release);
        fence_light();
    }

    fn mark_parked(&self) {
        let epoch = &self.me().epoch;
        // Ordering: Relaxed, one writer.
        let now = epoch.load(Ordering::Relaxed);
        // Ordering: Release, as in `tick`.
        epoch.store(now | 1, Ordering::Release);
    }

    // What a run reports.

    #[inline(always)]
    pub(crate) fn ran(&self, n: usize) {
        add(&self.me().counters.jobs, n as u64);
    }

    pub(crate) fn running(&self) -> Running {
        self.running.get()
    }

    /// Jobs of this function follow. What ran before is forgotten; who interrupts a job restores it.
    #[inline(always)]
    pub(crate) fn begin(&self, function: &Core) {
        if ptr::eq(self.running.get().function, function) {
            self.set_job(detached());
        } else {
            self.set_running(Running { function, job: detached() });
        }
    }

    fn set_running(&self, running: Running) {
        self.running.set(running);
        // Ordering: Release, pairs with the Acquire in `WorkerShared::running`.
        self.me().function.store(running.function.cast_mut(), Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn set_job(&self, job: *mut ResultSlot) {
        self.running.set(Running { job, ..self.running.get() });
    }

    #[cold]
    pub(crate) fn cancelled(&self) {
        add(&self.me().counters.cancelled, 1);
    }

    #[cold]
    pub(crate) fn panicked(&self) {
        add(&self.me().counters.panicked, 1);
    }

    // Nested jobs.

    /// A free node of a class.
    #[inline(always)]
    pub(crate) fn node(&self, class: &Class) -> Option<NonNull<Link>> {
        // SAFETY: only this thread uses the cache, and nothing below calls back into it.
        let nodes = unsafe { &mut *self.nodes.get() };
        match nodes.get_mut(class.id).and_then(Vec::pop) {
            Some(node) => Some(node),
            None => Self::fetch_node(nodes, class),
        }
    }

    #[cold]
    fn fetch_node(nodes: &mut Vec<Vec<NonNull<Link>>>, class: &Class) -> Option<NonNull<Link>> {
        if nodes.len() <= class.id {
            nodes.resize_with(class.id + 1, Vec::new);
        }
        class.nodes.refill(&mut nodes[class.id], FETCH_NODES);
        nodes[class.id].pop()
    }

    #[inline(always)]
    pub(crate) fn free_node(&self, class: &Class, node: NonNull<Link>) {
        // SAFETY: as in `node`.
        let nodes = unsafe { &mut *self.nodes.get() };
        match nodes.get_mut(class.id) {
            Some(list) if list.len() < KEEP_NODES => list.push(node),
            _ => Self::spill_node(nodes, class, node),
        }
    }

    #[cold]
    fn spill_node(nodes: &mut Vec<Vec<NonNull<Link>>>, class: &Class, node: NonNull<Link>) {
        if nodes.len() <= class.id {
            nodes.resize_with(class.id + 1, Vec::new);
        }
        nodes[class.id].push(node);
        class.nodes.spill(&mut nodes[class.id], KEEP_NODES / 2);
    }

    fn give_nodes_back(&self) {
        // The classes own the nodes' memory: nothing is lost when the cache goes.
        // SAFETY: as in `node`.
        unsafe { &mut *self.nodes.get() }.clear();
    }

    /// Queues a nested job on this worker, or hands the argument back when the deque is full.
    #[inline(always)]
    pub(crate) fn push<S>(&self, core: &Core, control: *mut ResultSlot, argument: S) -> Result<(), S> {
        // SAFETY: this thread is the owner.
        unsafe { self.me().deque.push(NonNull::from(core), control, argument) }?;
        self.woke(self.shared.sleep.notify_local());
        Ok(())
    }

    // Waiting inside a job.

    /// Makes it possible for a job to wait for `job`: runs it, if it is queued here. `false` when the wait would never
    /// end. Calls `wait` to block otherwise.
    pub(crate) fn wait_inside(&self, job: NonNull<ResultSlot>, wait: impl FnOnce()) -> bool {
        // SAFETY: this thread alone uses the list, for moments.
        let suspended = unsafe { &mut *self.suspended.get() };
        let running = self.running.get().job;
        if running == job.as_ptr() || suspended.contains(&job.as_ptr()) {
            return false;
        }
        suspended.push(running);
        self.help(job);
        // SAFETY: the slab's slots live as long as the process.
        let slot = unsafe { job.as_ref() };
        let fine = if slot.is_done() {
            true
        } else if self.shared.phase.block() {
            wait();
            self.shared.phase.unblock();
            true
        } else {
            false
        };
        // SAFETY: as above.
        unsafe { &mut *self.suspended.get() }.pop();
        fine
    }

    /// Runs `job` if it is in this worker's deque: it, and nothing that came later.
    pub(crate) fn help(&self, job: NonNull<ResultSlot>) {
        // SAFETY: this thread is the owner.
        let Some(lifted) = (unsafe { self.me().deque.extract(job.as_ptr()) }) else { return };
        // SAFETY: this thread is the owner, and lifted an entry just now.
        let pushed = unsafe { self.me().deque.push_lifted(lifted) };
        assert!(pushed.is_ok(), "there is room where the entry came from");
        // SAFETY: this thread is the owner. A thief may be faster: then the job runs elsewhere.
        if let Some(taken) = unsafe { self.me().deque.pop() } {
            let outer = self.running.get();
            self.run_one(taken);
            self.set_running(outer);
        }
    }
}

/// How an attempt to park ended.
enum Asleep {
    SawWork,
    Woken(Woken),
    Ended,
}

/// The claims that had unstarted jobs at the last look, with how far they were.
#[derive(Default)]
struct Stuck(Vec<(usize, (u32, *mut Header))>);

impl Stuck {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
