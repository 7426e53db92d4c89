//! How an engine ends: close, drain, discard, join.
//!
//! 1. *Draining*: submits from outside are refused by a flag; jobs may still submit, so that a tree that has begun can
//!    finish. Workers go on.
//! 2. *Ended*: the last worker to fall asleep while draining found nothing, after everybody else had: it closes every
//!    lane. A submit that raced with the flag either comes before the close and is run, or is refused by it.
//!    Nobody may be blocked inside a job then; `README.md` says how that is known.
//! 3. Workers leave when they find nothing after that. The last one drops the bodies.
//!
//! *Discarding* goes straight to the second state, and ends whatever is queued, claimed and not started as cancelled.

use super::core::{Core, CoreRef, DRAINING, PULLED};
use super::registry::Shared;
use super::worker::Worker;
use crate::queue::lane::Span;
use crate::sync::{AtomicBool, AtomicU8, AtomicUsize, Condvar, Mutex, Ordering, yield_now};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const OPEN: u8 = 0;
const STATE_DRAINING: u8 = 1;
const ENDED: u8 = 2;

/// How long the end of workers that run nothing is waited for after a deadline: they are on their way out.
const LEAVE_GRACE: Duration = Duration::from_secs(1);

/// Where in its life an engine is, and a few words that workers read often and write rarely.
pub(crate) struct Phase {
    state: AtomicU8,
    discarding: AtomicBool,
    /// A parked worker looks after stuck claims from time to time.
    watcher: AtomicBool,
    /// Workers whose last look is over, and that have not been awake since.
    settled: AtomicUsize,
    discarded: AtomicUsize,
    alive: Mutex<Alive>,
    ended: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Alive {
    /// Threads that have not ended, spares included.
    threads: usize,
    /// All have ended, and the bodies are dropped.
    over: bool,
}

impl Phase {
    pub(crate) fn new(workers: usize) -> Phase {
        Phase {
            state: AtomicU8::new(OPEN),
            discarding: AtomicBool::new(false),
            watcher: AtomicBool::new(false),
            settled: AtomicUsize::new(0),
            discarded: AtomicUsize::new(0),
            alive: Mutex::new(Alive { threads: workers, over: false }),
            ended: Condvar::new(),
            threads: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        // Ordering: Acquire, pairs with `start_drain`; ordered after `Sleep::start_sleep` by the caller's heavy fence.
        self.state.load(Ordering::Acquire) == STATE_DRAINING
    }

    pub(crate) fn has_ended(&self) -> bool {
        // Ordering: Acquire, pairs with `finish_drain`: the lanes are closed. Ordered as in `is_draining`.
        self.state.load(Ordering::Acquire) == ENDED
    }

    #[inline(always)]
    pub(crate) fn is_discarding(&self) -> bool {
        // Ordering: Relaxed, jobs that start before it is seen were started before it.
        self.discarding.load(Ordering::Relaxed)
    }

    fn start_discarding(&self) {
        // Ordering: Relaxed, see `is_discarding`.
        self.discarding.store(true, Ordering::Relaxed);
    }

    pub(crate) fn discarded(&self, n: usize) {
        // Ordering: Relaxed, counter only.
        self.discarded.fetch_add(n, Ordering::Relaxed);
    }

    fn start_drain(&self) {
        // Ordering: SeqCst, before the look at the sleepers (`Sleep::wake_all`): a worker that falls asleep is woken by
        // that, or sees this in its last look. Relaxed on failure, it has begun before.
        let _ = self.state.compare_exchange(OPEN, STATE_DRAINING, Ordering::SeqCst, Ordering::Relaxed);
    }

    // Settling. Workers count as sleepers before their last look: a drain is over when all have come out of it.

    /// This worker counts as a sleeper, and its last look is over: how many have come so far.
    pub(crate) fn settle(&self) -> usize {
        // Ordering: AcqRel, pairs with itself: the last one sees that the others count as sleepers.
        self.settled.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// This worker is awake again.
    pub(crate) fn unsettle(&self) {
        // Ordering: Relaxed, counter only; it goes on with the release of whoever settled before.
        self.settled.fetch_sub(1, Ordering::Relaxed);
    }

    // Watching.

    pub(crate) fn has_watcher(&self) -> bool {
        // Ordering: Relaxed, a hint.
        self.watcher.load(Ordering::Relaxed)
    }

    /// Takes the watch, unless somebody has it.
    pub(crate) fn start_watch(&self) -> bool {
        // Ordering: Relaxed, a hint.
        !self.watcher.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn stop_watch(&self, watching: bool) {
        if watching {
            // Ordering: Relaxed, a hint.
            self.watcher.store(false, Ordering::Relaxed);
        }
    }

    // Threads.

    /// To be joined at the end: `true`.
    pub(crate) fn started(&self, threads: impl IntoIterator<Item = JoinHandle<()>>) -> bool {
        self.threads.lock().extend(threads);
        true
    }

    /// A spare's thread is about to be started, by one that has not ended.
    pub(crate) fn arrive(&self) {
        self.alive.lock().threads += 1;
    }

    /// It could not be started: `false`.
    pub(crate) fn depart(&self) -> bool {
        self.alive.lock().threads -= 1;
        false
    }

    /// Waits until every worker has left, or until `until`: whether they have.
    fn wait_ended(&self, until: Option<Instant>) -> bool {
        let mut alive = self.alive.lock();
        while !alive.over {
            match until {
                None => self.ended.wait(&mut alive),
                Some(until) if self.ended.wait_until(&mut alive, until).timed_out() => return alive.over,
                Some(_) => {}
            }
        }
        true
    }

    fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        // The last handle of an engine may be dropped by a thread-local of one of its workers.
        let this = thread::current().id();
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != this) {
            // A worker catches what jobs throw; there is no result to look at.
            let _ = thread.join();
        }
    }
}

/// How an engine was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shutdown {
    /// Run everything that was accepted, however long it takes.
    Drain,
    /// Run what was accepted for at most this long, then go on as `Discard`, without waiting for bodies that still run.
    DrainFor(Duration),
    /// End queued jobs as cancelled; wait for the bodies that run.
    Discard,
}

/// What a shutdown left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Every worker has ended: no body runs any more. That says nothing of jobs of functions without a body, see `left`.
    pub complete: bool,
    /// Jobs that were accepted and ended as cancelled instead of running.
    pub discarded: usize,
    /// Functions whose bodies had not returned, one entry a body.
    pub running: Vec<String>,
    /// What is left for consumers to finish: an end does not wait for them, and they may go on after it. Functions without
    /// a body that have such jobs, by name, removed ones included. Empty when an earlier call had ended the engine.
    pub left: Vec<Left>,
}

/// Jobs of a function without a body that had not ended when its engine did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Left {
    /// The function's name.
    pub function: String,
    /// Jobs that no consumer had taken. They can still be pulled; when neither a key nor a set of the function is left, they
    /// end as cancelled.
    pub queued: usize,
    /// Jobs that consumers had taken and not finished.
    pub pulled: usize,
}

impl Left {
    /// What of this function is left, if anything is.
    fn of(core: &CoreRef) -> Option<Left> {
        // In this order: a job that a consumer takes meanwhile is not missed.
        let queued = core.stats().queued.total();
        let pulled = usize::try_from(core.running()).unwrap_or(usize::MAX);
        (queued + pulled > 0).then(|| Left { function: core.name().to_owned(), queued, pulled })
    }
}

impl Shared {
    /// Ends the engine. On one of its own workers, inside a job, it begins the end and does not wait.
    pub(crate) fn shutdown(self: &Arc<Self>, mode: Shutdown) -> Drained {
        let discard = mode == Shutdown::Discard;
        // Held to the end, for the last worker lets go of all functions.
        let pulled: Vec<_> = self.close_names().into_iter().filter(|core| core.flags() & PULLED != 0).collect();
        self.start_drain(discard);
        if discard {
            self.discard();
        }
        self.sleep.wake_all();
        let inside = Worker::with_current(|w| w.is_some_and(|w| Arc::ptr_eq(w.shared_arc(), self)));
        if inside {
            return self.report(false, &pulled);
        }
        let until = match mode {
            Shutdown::DrainFor(limit) => Instant::now().checked_add(limit),
            _ => None,
        };
        if self.phase.wait_ended(until) {
            self.join();
            return self.report(true, &pulled);
        }
        self.discard();
        let ended = self.wait_for_the_idle();
        if ended {
            self.join();
        }
        self.report(ended, &pulled)
    }

    /// Refuses submits from outside from now on.
    pub(crate) fn start_drain(&self, discard: bool) {
        for core in self.close_names() {
            core.raise(DRAINING);
            if !discard {
                // SAFETY: the vtable was made for this core.
                unsafe { (core.vtable.managed.start_ending)(&core) };
            }
        }
        if discard {
            // Before the drain, whose end would have what is paused run.
            self.phase.start_discarding();
        }
        self.phase.start_drain();
    }

    fn join(&self) {
        self.phase.join();
        self.timer.join();
    }

    fn report(&self, complete: bool, pulled: &[CoreRef]) -> Drained {
        let running = if complete { Vec::new() } else { self.running_names() };
        let mut left: Vec<Left> = pulled.iter().filter_map(Left::of).collect();
        left.sort_by(|a, b| a.function.cmp(&b.function));
        // Ordering: Relaxed, counter only.
        Drained { complete, discarded: self.phase.discarded.load(Ordering::Relaxed), running, left }
    }

    fn running_names(&self) -> Vec<String> {
        (0..self.workers.len()).filter_map(|i| self.running_name(i)).collect()
    }

    /// Waits until the workers that are not inside a body have left: whether all have.
    fn wait_for_the_idle(&self) -> bool {
        let until = Instant::now() + LEAVE_GRACE;
        loop {
            if self.phase.wait_ended(Some(Instant::now() + LEAVE_GRACE / 100)) {
                return true;
            }
            // Those that stand by leave with the last of the others.
            let alive = self.phase.alive.lock().threads.saturating_sub(self.spares.standing_by());
            if (alive > 0 && self.running_names().len() >= alive) || Instant::now() >= until {
                return false;
            }
        }
    }

    /// The last worker has fallen asleep while draining; or the queues are about to be discarded.
    pub(crate) fn finish_drain(&self) {
        for core in self.close_all(DRAINING) {
            // A submit that came before the close may not have set its bit yet; the workers must see its job.
            // SAFETY: the vtable was made for this core.
            if core.flags() & PULLED == 0 && !unsafe { (core.vtable.is_empty)(&core) } {
                core.lanes().for_each(|(priority, _)| _ = self.ready(priority).set(core.index as usize));
            }
        }
        // Ordering: SeqCst, as in `start_drain`.
        self.phase.state.swap(ENDED, Ordering::SeqCst);
        self.sleep.wake_all();
    }

    /// Ends everything that has not started as cancelled.
    fn discard(&self) {
        self.phase.start_discarding();
        // Before the workers may leave, for the last one lets go of all functions. Held to the end: the functions of the jobs
        // that are taken below stay alive.
        let cores = self.close_names();
        self.finish_drain();
        cores.iter().for_each(|core| self.discard_queued(core));
        for worker in &self.workers {
            // SAFETY: an open claim has jobs that are not done with, so its function is not freed.
            while let Some(taken) = worker.claim.revoke(|core| unsafe { CoreRef::keep(core) }) {
                let span =
                    Span { block: taken.block, start: taken.start, len: taken.len, began: false, sampled: false };
                // SAFETY: revoked for this call.
                let n = unsafe { (taken.function.vtable.discard_span)(&taken.function, span) };
                self.phase.discarded(n);
            }
            self.discard_nested(worker);
        }
        self.sleep.wake_all();
    }

    /// Ends what is queued in a closed function as cancelled. Waits for submits that were accepted and have not published
    /// their job yet, a few instructions each.
    pub(crate) fn discard_queued(&self, core: &Core) {
        loop {
            // SAFETY: the vtable was made for this core.
            let n = unsafe { (core.vtable.discard_queued)(core) };
            self.phase.discarded(n);
            // SAFETY: as above.
            if unsafe { (core.vtable.is_empty)(core) } {
                break;
            }
            yield_now();
        }
        // SAFETY: as above.
        unsafe { (core.vtable.closed)(core) };
    }

    /// Empties a worker's deque.
    fn discard_nested(&self, worker: &super::seat::WorkerShared) {
        while let Some(taken) = worker.deque.steal() {
            // SAFETY: the caller holds every function there is.
            let core = unsafe { taken.function().as_ref() };
            // SAFETY: the vtable was made for this core, and the deque gave the entry to this call.
            let n = unsafe { (core.vtable.discard_nested)(core, taken) };
            self.phase.discarded(n);
        }
    }

    /// A worker ends. The last one drops the bodies, so that a body that holds its own function does not keep it.
    pub(crate) fn leave(&self) {
        self.spares.leave();
        let left = {
            let mut alive = self.phase.alive.lock();
            alive.threads -= 1;
            alive.threads
        };
        if left == 0 {
            self.forget_functions();
            self.timer.end();
            self.phase.alive.lock().over = true;
            self.phase.ended.notify_all();
        }
    }

    /// Workers `from..` could not be started; those before them end.
    pub(crate) fn abandon_start(self: &Arc<Self>, from: usize) {
        for _ in from..self.spares.workers() {
            self.leave();
        }
        if from > 0 {
            self.shutdown(Shutdown::Discard);
        }
    }

    /// Whether an engine handle is the last: the caller then ends the engine.
    pub(crate) fn drop_user(&self) -> bool {
        // Ordering: AcqRel, the last user's end comes after all others' uses.
        self.users.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn add_user(&self) {
        // Ordering: Relaxed, counter only.
        self.users.fetch_add(1, Ordering::Relaxed);
    }
}
