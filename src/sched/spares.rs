//! Spare threads: when a job blocks its thread, another thread takes that one's place.
//!
//! The threads of an engine are alike, whichever was started as a spare. At any time each is
//!
//! * **running**: it runs jobs, looks for some, or sleeps until there are some;
//! * **blocked** inside a job, in a wait;
//! * **standing by**: it has nothing and looks for nothing, until it is called.
//!
//! As many as the engine has workers are to be running. A thread that blocks calls one that stands by, or starts a new one,
//! before it does; one that comes back and makes a thread too many leaves it to the first that is between two jobs, maybe
//! itself, to stand by. All of that is decided under one lock, off every path that is hot. `README.md` says why nothing is
//! left lying by a thread that stands by, and how a drain ends.

use super::lent::Lent;
use super::registry::Shared;
use super::worker::Worker;
use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering, fence_full};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Stack of a thread for which nobody has chosen one: that of the standard library.
const STACK: usize = 2 << 20;

/// The threads of an engine, by what they do.
pub(crate) struct Spares {
    /// How many threads are to be running.
    workers: usize,
    thread_name: String,
    /// Of each thread, in bytes; `None`: what the standard library chooses.
    stack_size: Option<usize>,
    /// Seats that have had a thread: those before this one.
    used: AtomicUsize,
    /// Running threads that are too many: a hint, written under the lock.
    surplus: AtomicUsize,
    crew: Mutex<Crew>,
    called: Condvar,
}

struct Crew {
    running: usize,
    blocked: usize,
    /// Of those that run, and of those that may come yet: lent to somebody who waits for this engine.
    idle: usize,
    standing_by: usize,
    /// Calls that no thread has answered yet. Who is called is running from then on.
    calls: usize,
    /// Seats of spares that have no thread yet, the next one last.
    empty: Vec<usize>,
    /// The last running thread has left: nobody is called any more.
    over: bool,
}

/// Who takes the place of a thread that blocks.
enum Place {
    /// Somebody does, or there was one too many.
    Taken,
    /// A thread that is yet to be started on this seat, and counts as running already.
    Start(usize),
    /// Nobody.
    Open,
}

/// A thread that is blocked inside a job, for as long as this lives.
pub(crate) struct Blocked<'w> {
    spares: &'w Spares,
    lent: Option<Arc<Lent>>,
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.spares.unblock(self.lent.as_deref());
    }
}

impl Crew {
    /// From running to blocked, for a thread that is lent out or not.
    fn block(&mut self, lent: Option<&Lent>) {
        self.running -= 1;
        self.blocked += 1;
        self.idle = self.idle + lent.map_or(0, Lent::block) - usize::from(lent.is_some());
    }

    fn unblock(&mut self, lent: Option<&Lent>) {
        self.blocked -= 1;
        self.running += 1;
        self.idle = self.idle + usize::from(lent.is_some()) - lent.map_or(0, Lent::unblock);
    }

    /// Whether a thread is left that can run jobs.
    fn is_staffed(&self) -> bool {
        self.running > self.idle
    }

    /// How many threads are to be running.
    fn wanted(&self, workers: usize) -> usize {
        workers.max(self.idle + 1)
    }
}

impl Spares {
    pub(crate) fn new(workers: usize, spares: usize, thread_name: String) -> Spares {
        Spares {
            workers,
            thread_name,
            stack_size: None,
            used: AtomicUsize::new(workers),
            surplus: AtomicUsize::new(0),
            crew: Mutex::new(Crew {
                running: workers,
                blocked: 0,
                idle: 0,
                standing_by: 0,
                calls: 0,
                empty: (workers..workers + spares).rev().collect(),
                over: false,
            }),
            called: Condvar::new(),
        }
    }

    pub(crate) fn set_stack_size(&mut self, bytes: Option<usize>) {
        self.stack_size = bytes;
    }

    /// How much of its stack a thread may have used when it runs another job in the midst of one.
    pub(super) fn stack_limit(&self) -> usize {
        self.stack_size.unwrap_or(STACK) / 2
    }

    /// How many threads are to be running.
    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// Seats that have had a thread: those before this one. Who sees a thread's job sees its seat counted.
    pub(crate) fn used(&self) -> usize {
        // Ordering: Relaxed, raised before the thread is started: visible with what it does, or ordered with it by the
        // caller's heavy fence (`Worker::look_again`).
        self.used.load(Ordering::Relaxed)
    }

    /// Whether a thread that is between two jobs should stand by.
    #[inline(always)]
    pub(crate) fn has_surplus(&self) -> bool {
        // Ordering: Relaxed, a hint: the thread that made the surplus sees what it wrote, and it is awake.
        self.surplus.load(Ordering::Relaxed) > 0
    }

    pub(super) fn standing_by(&self) -> usize {
        self.crew.lock().standing_by
    }

    /// How many threads run jobs or could, and how many are blocked inside a job.
    pub(crate) fn running_and_blocked(&self) -> (usize, usize) {
        let crew = self.crew.lock();
        (crew.running, crew.blocked)
    }

    /// The name of a seat's thread.
    pub(super) fn thread_name(&self, seat: usize) -> String {
        format!("{}-{seat}", self.thread_name)
    }

    fn count_surplus(&self, crew: &Crew) {
        // Ordering: Relaxed, a hint.
        self.surplus.store(crew.running.saturating_sub(crew.wanted(self.workers)), Ordering::Relaxed);
    }

    fn unblock(&self, lent: Option<&Lent>) {
        let mut crew = self.crew.lock();
        if crew.over {
            return;
        }
        crew.unblock(lent);
        self.count_surplus(&crew);
    }

    /// How many threads a job that waits can borrow.
    #[cfg(feature = "rayon")]
    pub(crate) fn lendable(&self) -> usize {
        let crew = self.crew.lock();
        crew.running.saturating_sub(crew.idle).min(self.workers)
    }

    /// A running thread ends. The last one ends those that stand by.
    pub(super) fn leave(&self) {
        let mut crew = self.crew.lock();
        crew.running -= 1;
        // Otherwise the others would go on trying to stand by, and run nothing.
        self.count_surplus(&crew);
        if crew.running == 0 && crew.blocked == 0 {
            crew.over = true;
            self.called.notify_all();
        }
    }

    /// For a thread that stands by: waits until it is called; `false` when that will never be. Running afterwards.
    pub(super) fn await_call(&self) -> bool {
        let mut crew = self.crew.lock();
        while crew.calls == 0 {
            if crew.over {
                crew.standing_by -= 1;
                crew.running += 1;
                return false;
            }
            self.called.wait(&mut crew);
        }
        crew.calls -= 1;
        true
    }

    /// Model checker only: all spares have a thread, which stands by.
    #[cfg(any(layshaft_loom, layshaft_shuttle))]
    pub(crate) fn staff(&self) {
        let mut crew = self.crew.lock();
        crew.standing_by = crew.empty.len();
        crew.empty.clear();
        // Ordering: Relaxed, before there is a thread.
        self.used.store(self.workers + crew.standing_by, Ordering::Relaxed);
    }
}

impl Shared {
    /// The calling thread is about to block inside a job: has somebody take its place. `None` when nobody would be left to
    /// run jobs, unless it blocks for something that others do: that cannot be refused.
    pub(crate) fn block(self: &Arc<Self>, for_others: bool, lent: Option<Arc<Lent>>) -> Option<Blocked<'_>> {
        let is_left = match self.vacate(for_others, lent.as_deref()) {
            Place::Taken => true,
            Place::Start(seat) => self.start_spare(seat) || self.do_without(seat, for_others, lent.as_deref()),
            Place::Open => false,
        };
        is_left.then(|| Blocked { spares: &self.spares, lent })
    }

    /// From running to blocked, if somebody takes the place or is left. `Open` changes nothing.
    fn vacate(&self, for_others: bool, lent: Option<&Lent>) -> Place {
        let mut crew = self.spares.crew.lock();
        if crew.over {
            // The last thread drops the bodies, and runs jobs no more: nobody has to take its place.
            return Place::Taken;
        }
        crew.block(lent);
        let place = if crew.running >= crew.wanted(self.spares.workers) {
            Place::Taken
        } else if crew.standing_by > 0 {
            crew.standing_by -= 1;
            crew.calls += 1;
            self.spares.called.notify_one();
            self.sleep.enlist();
            crew.running += 1;
            Place::Taken
        } else if let Some(seat) = crew.empty.pop() {
            let used = self.spares.used().max(seat + 1);
            // Ordering: Relaxed, see `used`.
            self.spares.used.store(used, Ordering::Relaxed);
            self.sleep.enlist();
            crew.running += 1;
            Place::Start(seat)
        } else if crew.is_staffed() || for_others {
            Place::Taken
        } else {
            crew.unblock(lent);
            Place::Open
        };
        self.spares.count_surplus(&crew);
        place
    }

    /// Starts the thread of a spare's seat: whether there is one.
    fn start_spare(self: &Arc<Self>, seat: usize) -> bool {
        self.phase.arrive();
        match self.start_thread(seat) {
            Ok(thread) => self.phase.started([thread]),
            Err(_) => self.phase.depart(),
        }
    }

    /// A spare's thread could not be started: whether anybody is left. Otherwise the caller is running again.
    #[cold]
    fn do_without(&self, seat: usize, for_others: bool, lent: Option<&Lent>) -> bool {
        let mut crew = self.spares.crew.lock();
        crew.running -= 1;
        crew.empty.push(seat);
        self.sleep.dismiss();
        let is_left = crew.is_staffed() || for_others;
        if !is_left {
            crew.unblock(lent);
        }
        self.spares.count_surplus(&crew);
        is_left
    }

    /// Starts the thread of a seat.
    pub(crate) fn start_thread(self: &Arc<Self>, seat: usize) -> io::Result<JoinHandle<()>> {
        let shared = Arc::clone(self);
        let mut thread = thread::Builder::new().name(self.spares.thread_name(seat));
        if let Some(bytes) = self.spares.stack_size {
            thread = thread.stack_size(bytes);
        }
        thread.spawn(move || Worker::main(shared, seat))
    }

    /// From running to standing by, if there is a thread too many.
    fn stand_by(&self) -> bool {
        let mut crew = self.spares.crew.lock();
        if crew.running <= crew.wanted(self.spares.workers) {
            return false;
        }
        crew.running -= 1;
        crew.standing_by += 1;
        self.sleep.dismiss();
        self.spares.count_surplus(&crew);
        true
    }
}

/// How an attempt to stand by ended.
pub(super) enum StoodBy {
    /// Somebody else did, or there is work in the own deque after all.
    Stayed,
    Called,
    /// The engine has ended.
    Ended,
}

impl Worker {
    /// Between two jobs, with an empty deque: stands by, if there is a thread too many, until called.
    #[cold]
    pub(super) fn stand_by(&self) -> StoodBy {
        self.retire_idle();
        self.park_and_collect(drop);
        // What was dropped is others' code, which may have submitted to the deque.
        if !self.me().deque.is_empty() || !self.resign() {
            self.tick();
            return StoodBy::Stayed;
        }
        let is_called = self.shared.spares.await_call();
        self.tick();
        if is_called { StoodBy::Called } else { StoodBy::Ended }
    }

    /// From running to standing by, if there is a thread too many: others do what this one would have done.
    pub(crate) fn resign(&self) -> bool {
        if !self.shared.stand_by() {
            return false;
        }
        self.pass_on_if_last();
        // After this thread counts no more, before the look at the phase: pairs with the look at the counts of one that falls
        // asleep while the engine drains (`Sleep::counts_in_order`), which sees this, or is seen to have known.
        fence_full();
        if self.shared.phase.is_draining() {
            // All others may have fallen asleep while this one was awake: one has to find out that it was the last.
            self.notify();
        }
        true
    }
}

#[cfg(all(test, not(any(layshaft_loom, layshaft_shuttle))))]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A worker, and a spare whose thread cannot be started.
    #[test]
    fn a_spare_that_does_not_start_is_none() {
        let shared = Shared::new(1, 1, String::new(), Duration::ZERO);
        for for_others in [false, false, true] {
            assert!(matches!(shared.vacate(for_others, None), Place::Start(1)));
            assert_eq!(shared.do_without(1, for_others, None), for_others, "nobody is left");
            let crew = shared.spares.crew.lock();
            assert_eq!((crew.running, crew.blocked), if for_others { (0, 1) } else { (1, 0) });
        }
        shared.spares.unblock(None);
        assert!(!shared.spares.has_surplus());
    }

    /// One of two leaves, who were one too many: the other one has to run what is left.
    #[test]
    fn who_leaves_is_not_too_many() {
        let shared = Shared::new(1, 1, String::new(), Duration::ZERO);
        assert!(matches!(shared.vacate(false, None), Place::Start(1)));
        shared.spares.unblock(None);
        assert!(shared.spares.has_surplus());
        shared.spares.leave();
        assert!(!shared.spares.has_surplus() && !shared.stand_by());
    }

    /// The last thread, which drops the bodies, waits as one that is none of the crew.
    #[test]
    fn who_has_left_blocks_alone() {
        let shared = Shared::new(1, 1, String::new(), Duration::ZERO);
        shared.spares.leave();
        assert!(matches!(shared.vacate(false, None), Place::Taken));
        let counts = || shared.spares.running_and_blocked();
        assert_eq!(counts(), (0, 0));
        shared.spares.unblock(None);
        assert_eq!(counts(), (0, 0));
    }

    /// Who else is running can still run jobs.
    #[test]
    fn without_a_spare_the_others_are_left() {
        let shared = Shared::new(2, 1, String::new(), Duration::ZERO);
        assert!(matches!(shared.vacate(false, None), Place::Start(2)));
        assert!(shared.do_without(2, false, None));
        // The other one tries again, in vain.
        assert!(matches!(shared.vacate(false, None), Place::Start(2)));
        assert!(!shared.do_without(2, false, None));
    }
}
