//! The seam for everything that runs jobs elsewhere: consumer sets pull jobs of functions without a body, and finish
//! them through completers.

mod look;
mod pulled;
mod waiting;

pub(crate) use look::{Sets, sets};
pub use pulled::{Completer, Pulled};
pub(crate) use waiting::{hand_returned_over, without_body};

use crate::function::Function;
use crate::queue::priority::Priority;
use crate::sched::core::{Core, CoreRef, PULLED};
use crate::sched::worker::Worker;
use crate::sync::{AtomicU64, Mutex, Ordering, global};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use waiting::{Parking, SetState, apply_rule, has_takeable, is_needed, is_over, waiting, wake};

/// The pull side of functions without a body. A connection that takes one job at a time, an idle worker process, a
/// checkout: each is a set.
///
/// Functions come and go while it is in use. Over its functions a set takes turns; within one it takes jobs in order,
/// those that were put back first; over all functions high priority comes before normal, and that before low. One job wakes
/// one parked set, the most recently parked first.
pub struct ConsumerSet<A, R> {
    members: Mutex<Members<A, R>>,
    state: Arc<SetState>,
}

struct Members<A, R> {
    /// Shared with those who pull: that meets cancelled jobs, and drops are others' code, which may use the set.
    functions: Arc<Vec<Arc<Member<A, R>>>>,
    /// Where the next look starts.
    cursor: usize,
}

/// A function of a set.
struct Member<A, R> {
    function: Function<A, R>,
    /// Counts the set as one that has the function.
    _has: Arc<()>,
}

impl<A, R> Member<A, R> {
    fn core(&self) -> &CoreRef {
        self.function.core()
    }
}

global! {
    /// Tickets of parked sets, process-wide: later is greater.
    static TICKETS: AtomicU64 = AtomicU64::new(MIDDLE);
}

global! {
    /// Tickets of sets that are parked behind all others: later is less.
    static TICKETS_BEHIND: AtomicU64 = AtomicU64::new(MIDDLE);
}

/// Whether a function has a job for a set.
type Look = fn(&Core) -> bool;

/// Above it are the tickets of sets that are woken in the order of their coming, below it those of the others.
const MIDDLE: u64 = 1 << 63;

impl<A: Send + 'static, R: Send + 'static> ConsumerSet<A, R> {
    pub(crate) fn new() -> Self {
        ConsumerSet {
            members: Mutex::new(Members { functions: Arc::default(), cursor: 0 }),
            state: Arc::new(SetState { inner: Mutex::new(Parking::default()) }),
        }
    }

    /// Adds a function. Adding it again changes nothing. A parked set is woken if the function has jobs.
    ///
    /// # Panics
    /// When the function has a body: its jobs are run by the engine's workers.
    pub fn add(&self, function: &Function<A, R>) {
        let core = function.core();
        assert!(
            core.flags() & PULLED != 0,
            "function {:?} has a body and cannot be pulled; register it with `Engine::consumer`",
            core.name()
        );
        let mut members = self.members.lock();
        if members.functions.iter().all(|f| f.core().as_ptr() != core.as_ptr()) {
            // SAFETY: checked above.
            let has = Arc::clone(&unsafe { waiting(core) }.had);
            let member = Member { function: function.clone(), _has: has };
            Arc::make_mut(&mut members.functions).push(Arc::new(member));
        }
        drop(members);
        // A set that is parked is not on the new function's list: it parks anew.
        self.state.rouse();
    }

    /// Removes a function. Removing one that is not there changes nothing.
    pub fn remove(&self, function: &Function<A, R>) {
        let core = function.core().as_ptr();
        self.unpark();
        let mut members = self.members.lock();
        let at = members.functions.iter().position(|f| f.core().as_ptr() == core);
        let left = at.map(|at| Arc::make_mut(&mut members.functions).remove(at));
        drop(members);
        // Without the lock: the last to know a function drops its jobs.
        drop(left);
        self.state.rouse();
    }

    /// Takes a job, if there is one.
    pub fn try_next(&self) -> Option<Pulled<A, R>> {
        let job = self.pull();
        if job.is_some() {
            self.unpark();
        }
        job
    }

    fn pull(&self) -> Option<Pulled<A, R>> {
        let (functions, cursor) = {
            let members = self.members.lock();
            (Arc::clone(&members.functions), members.cursor)
        };
        let n = functions.len();
        for priority in Priority::ALL {
            for i in 0..n {
                let at = (cursor + i) % n;
                if let Some(job) = Pulled::from(functions[at].core(), priority) {
                    self.members.lock().cursor = at + 1;
                    return Some(job);
                }
            }
        }
        None
    }

    /// Whether a job may be there, or none will come any more (as where [`next`](Self::next) ends); otherwise parks the set,
    /// and `cx` is woken when that may have changed.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Ordering: Relaxed, only uniqueness and growth matter.
        self.park(cx, TICKETS.fetch_add(1, Ordering::Relaxed), has_takeable)
    }

    /// The same for a set that is far away: it is not told of jobs for which as many sets are on their way already as are to be
    /// woken for them ([`Function::set_wakeups`]), and parked instead. One that is `busy` is woken before others. One that is
    /// not, having taken nothing since it was woken last, is woken after all others, so that those that do something stay busy,
    /// and the others can be retired.
    pub fn poll_needed(&self, cx: &mut Context<'_>, busy: bool) -> Poll<()> {
        let ticket = if busy {
            // Ordering: Relaxed, only uniqueness and growth matter.
            TICKETS.fetch_add(1, Ordering::Relaxed)
        } else {
            // Ordering: Relaxed, as above.
            TICKETS_BEHIND.fetch_sub(1, Ordering::Relaxed) - 1
        };
        self.park(cx, ticket, is_needed)
    }

    fn park(&self, cx: &mut Context<'_>, ticket: u64, has_job: Look) -> Poll<()> {
        self.unpark();
        // Cloned and dropped without a lock: wakers are others' code.
        let waker = cx.waker().clone();
        let _before;
        let members = self.members.lock();
        {
            let mut parking = self.state.inner.lock();
            _before = parking.waker.replace(waker);
            parking.ticket = Some(ticket);
        }
        for function in members.functions.iter() {
            // SAFETY: only functions without a body are added.
            let waiting = unsafe { waiting(function.core()) };
            let mut lists = waiting.lists.lock();
            lists.parked.insert(ticket, Arc::clone(&self.state));
            // Ordering: SeqCst, before the look at the lane below; pairs with `announce`.
            waiting.parked.fetch_add(1, Ordering::SeqCst);
        }
        for function in members.functions.iter() {
            // SAFETY: the vtable was made for this core.
            unsafe { (function.core().vtable.retire)(function.core()) };
        }
        let functions = &members.functions;
        let over = !functions.is_empty() && functions.iter().all(|f| is_over(f.core()));
        if over || functions.iter().any(|f| has_job(f.core())) {
            drop(members);
            self.unpark();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Waits for a job. `None` when every function of the set is closed and no job of them will come any more, and for a set
    /// without functions.
    ///
    /// A job that was taken may still come: a [`Pulled`] can be put back, and where lost jobs run again
    /// ([`Function::set_retry`]), or jobs have a key or a time, so may one whose completer is in use. This waits for all of
    /// them, also for those that the caller holds. After a discard none comes back, and it does not wait.
    pub fn next(&self) -> Option<Pulled<A, R>> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Some(job) = self.try_next() {
                return Some(job);
            }
            if self.is_over() {
                return None;
            }
            if self.poll_ready(&mut cx).is_pending() {
                sleep();
            }
        }
    }

    fn is_over(&self) -> bool {
        self.members.lock().functions.iter().all(|f| is_over(f.core()))
    }
}

impl<A, R> ConsumerSet<A, R> {
    /// Whether the set was woken for a job since it was parked, and has not looked yet: it counts as one on its way there.
    /// Otherwise a waker that was woken only says that something changed, and the set is to be parked anew.
    pub fn is_woken(&self) -> bool {
        self.state.inner.lock().woken_by.is_some()
    }

    /// Ends waiting: the set is not woken any more, and a wake-up that was under way to it goes to another set.
    pub fn unpark(&self) {
        // Leaves all lists, and ends the wake-up.
        let (ticket, woken_by) = {
            let mut parking = self.state.inner.lock();
            (parking.ticket.take(), parking.woken_by.take())
        };
        if let Some(ticket) = ticket {
            for core in self.members.lock().functions.iter().map(|f| CoreRef::clone(f.core())) {
                // SAFETY: only functions without a body are added.
                let waiting = unsafe { waiting(&core) };
                let mut lists = waiting.lists.lock();
                if lists.parked.remove(&ticket).is_some() {
                    // Ordering: Relaxed, under the lock; `announce` may not miss an increment, but a decrement.
                    waiting.parked.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
        // Who took the set off a list and comes later finds the ticket gone, and keeps the wake-up.
        if let Some(core) = woken_by {
            // SAFETY: only functions without a body wake sets.
            unsafe { apply_rule(&core, 1) };
        }
    }
}

/// How parked sets of a function are woken. Nothing for a function with a body.
pub(crate) fn set_wakeups(core: &Core, sets_per_job: usize) {
    if core.flags() & PULLED != 0 {
        // SAFETY: checked above.
        unsafe { waiting(core) }.lists.lock().per_job = sets_per_job;
        // SAFETY: as above.
        unsafe { apply_rule(core, 0) };
    }
}

/// Wakes more sets, if the function has jobs that they could take: how many.
pub(crate) fn wake_more(core: &Core, sets: usize) -> usize {
    if core.flags() & PULLED == 0 || !has_takeable(core) {
        return 0;
    }
    // SAFETY: checked above.
    unsafe { wake(core, 0, sets) }
}

impl<A, R> Drop for ConsumerSet<A, R> {
    fn drop(&mut self) {
        self.unpark();
    }
}

impl<A, R> fmt::Debug for ConsumerSet<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerSet").field("functions", &self.members.lock().functions.len()).finish()
    }
}

/// Parks the thread; inside a job, with a spare in its worker's place: others than the workers may be those who wake it.
fn sleep() {
    Worker::with_current(|worker| {
        let _blocked = worker.and_then(|worker| worker.block(true));
        thread::park();
    });
}

/// Wakes a thread that waits in `next`.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
