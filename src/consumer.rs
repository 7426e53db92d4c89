//! The seam for everything that runs jobs elsewhere: consumer sets pull jobs of functions without a body, and finish
//! them through completers.
//!
//! # Wake-ups
//! A set that finds nothing parks: it enters itself in each of its functions' lists of parked sets, then looks once
//! more. A submit queues its job, then looks whether sets are parked. Both orders are kept by SeqCst read-modify-writes
//! (the count of parked sets here, the lane's tail there), so one of the two sees the other.
//!
//! Under the function's lock, one rule decides who is woken: there are as many wake-ups under way as jobs queued, as
//! long as sets are parked. A wake-up is under way from the moment a set is taken off the list, the most recently parked
//! first, until that set next pulls, parks again, or is dropped; then the rule is applied again, which passes on what
//! the set did not use.

use crate::error::JobError;
use crate::function::Function;
use crate::job::id::JobId;
use crate::job::slot::ResultSlot;
use crate::queue::block::{Shape, detached};
use crate::queue::lane::Claim;
use crate::sched::core::{Core, CoreRef, Recipe, Vtable};
use crate::sched::run::{Discard, Inline, Stored, is_inline};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, global, load_after_rmw};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// What a function without a body has in place of it.
struct Waiting {
    /// Parked sets.
    parked: AtomicUsize,
    /// Jobs that were put back.
    returned: AtomicUsize,
    /// Jobs that are being taken, or are taken and may be put back.
    taken: AtomicUsize,
    lists: Mutex<Lists>,
}

struct Lists {
    /// By ticket: the greatest parked last.
    parked: BTreeMap<u64, Arc<SetState>>,
    /// Wake-ups under way.
    wakes: usize,
}

/// [`Waiting`], and the jobs that were put back, which have a type.
#[repr(C)]
struct Jobless<S> {
    waiting: Waiting,
    returned: Mutex<VecDeque<(Control, S)>>,
}

/// A job's control word.
struct Control(*mut ResultSlot);

// SAFETY: the job's side of a result slot may move between threads.
unsafe impl Send for Control {}

/// What parked sets share with whoever wakes them.
struct SetState {
    inner: Mutex<Parking>,
}

#[derive(Default)]
struct Parking {
    waker: Option<Waker>,
    /// The ticket under which the set is in its functions' lists.
    ticket: Option<u64>,
    /// The function that took it off its list.
    woken_by: Option<CoreRef>,
}

/// The recipe of a function without a body.
pub(crate) fn without_body<A: Send + 'static, R: Send + 'static>() -> Recipe {
    fn recipe<S: Stored, R>() -> Recipe {
        let waiting = Waiting {
            parked: AtomicUsize::new(0),
            returned: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            lists: Mutex::new(Lists { parked: BTreeMap::new(), wakes: 0 }),
        };
        let body: Box<Jobless<S>> = Box::new(Jobless { waiting, returned: Mutex::new(VecDeque::new()) });
        Recipe { vtable: &Untyped::<S, R>::TABLE, body: Box::into_raw(body).cast(), pulled: true }
    }
    if is_inline::<A>() { recipe::<Inline<A>, R>() } else { recipe::<Box<A>, R>() }
}

struct Untyped<S, R>(PhantomData<fn(S, R)>);

impl<S: Stored, R> Untyped<S, R> {
    const TABLE: Vtable = Vtable {
        retire: |core| core.lane.retire::<S>(&core.class().blocks),
        run_ready: |_, _| unreachable!("jobs without a body are not in the ready set"),
        run_span: |_, _, _| unreachable!("workers do not claim jobs without a body"),
        run_nested: |_, _, _, _| unreachable!("jobs without a body are not in a deque"),
        panicked: |_, _| unreachable!("workers do not run jobs without a body"),
        discard_span: Discard::<S, R>::span,
        discard_nested: Discard::<S, R>::nested,
        discard_queued: Self::discard_queued,
        is_empty: Self::is_empty,
        is_settled: Self::is_settled,
        queued: Self::queued,
        drop_body: Self::drop_body,
        closed: Self::closed,
    };

    unsafe fn own(core: &Core) -> &Jobless<S> {
        // SAFETY: made by `without_body` for this type, dropped with the core.
        unsafe { &*core.body_ptr().cast::<Jobless<S>>() }
    }

    unsafe fn discard_queued(core: &Core) -> usize {
        // SAFETY: this vtable's core.
        let own = unsafe { Self::own(core) };
        let mut total = 0;
        loop {
            let Some((control, stored)) = own.pop_returned() else { break };
            total += Discard::<S, R>::taken(core, control.0, stored);
        }
        // SAFETY: passed on from the caller.
        total + unsafe { Discard::<S, R>::queued(core) }
    }

    unsafe fn is_empty(core: &Core) -> bool {
        // SAFETY: this vtable's core.
        let waiting = unsafe { waiting(core) };
        // Ordering: SeqCst through the load, pairs with the read-modify-write in `put_back`.
        load_after_rmw(&waiting.returned) == 0 && core.lane.is_empty::<S>()
    }

    unsafe fn is_settled(core: &Core) -> bool {
        // SAFETY: this vtable's core.
        let waiting = unsafe { waiting(core) };
        // Who takes a job is counted before, and who puts one back until after: looking at the count first cannot miss
        // both.
        // SAFETY: as above.
        load_after_rmw(&waiting.taken) == 0 && unsafe { Self::is_empty(core) }
    }

    unsafe fn queued(core: &Core) -> usize {
        // SAFETY: this vtable's core.
        let waiting = unsafe { waiting(core) };
        // Ordering: Relaxed, a count under the lists' lock: who changes it applies the rule afterwards.
        waiting.returned.load(Ordering::Relaxed) + core.lane.len::<S>()
    }

    unsafe fn drop_body(body: *mut ()) {
        // SAFETY: made by `Box::into_raw` in `without_body` for this type.
        drop(unsafe { Box::from_raw(body.cast::<Jobless<S>>()) });
    }

    /// Wakes every set, so that those that wait for a next job see the end.
    unsafe fn closed(core: &Core) {
        // SAFETY: this vtable's core.
        let waiting = unsafe { waiting(core) };
        let sets = {
            let mut lists = waiting.lists.lock();
            // Ordering: SeqCst like every change of the count.
            waiting.parked.store(0, Ordering::SeqCst);
            std::mem::take(&mut lists.parked)
        };
        sets.into_values().for_each(|set| set.rouse());
    }
}

impl<S> Jobless<S> {
    fn pop_returned(&self) -> Option<(Control, S)> {
        // Ordering: Relaxed, a hint; whoever put a job back announces it.
        if self.waiting.returned.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut returned = self.returned.lock();
        let job = returned.pop_front()?;
        // Ordering: SeqCst, as in `put_back`; under the lock, so that the count is never behind.
        self.waiting.returned.fetch_sub(1, Ordering::SeqCst);
        Some(job)
    }
}

/// The untyped part of what a function without a body has.
///
/// # Safety
/// `core` was made by `without_body`.
unsafe fn waiting(core: &Core) -> &Waiting {
    // SAFETY: `Jobless` starts with it, whatever its type.
    unsafe { &*core.body_ptr().cast::<Waiting>() }
}

/// A job was queued: wakes a set if that is due. Follows a SeqCst read-modify-write that queued it.
///
/// # Safety
/// `core` was made by `without_body`.
pub(crate) unsafe fn announce(core: &Core) {
    // SAFETY: passed on.
    let waiting = unsafe { waiting(core) };
    if load_after_rmw(&waiting.parked) > 0 {
        // SAFETY: passed on.
        unsafe { apply_rule(core, 0) };
    }
}

/// Ends `over` wake-ups and starts those that are due.
///
/// # Safety
/// `core` was made by `without_body`.
#[cold]
unsafe fn apply_rule(core: &Core, mut over: usize) {
    // SAFETY: passed on.
    let waiting = unsafe { waiting(core) };
    loop {
        let mut woken = Vec::new();
        {
            let mut lists = waiting.lists.lock();
            lists.wakes -= over;
            // SAFETY: the vtable was made for this core.
            while lists.wakes < unsafe { (core.vtable.queued)(core) } {
                let Some(parked) = lists.parked.pop_last() else { break };
                // Ordering: SeqCst like every change of the count.
                waiting.parked.fetch_sub(1, Ordering::SeqCst);
                lists.wakes += 1;
                woken.push(parked);
            }
        }
        // SAFETY: the caller refers to the core, so it is alive.
        let keep = || unsafe { CoreRef::keep(NonNull::from(core)) };
        // A set that came back by itself, or that another function has woken, does not need this wake-up.
        over = woken.into_iter().filter(|(ticket, set)| !set.wake(*ticket, keep())).count();
        if over == 0 {
            return;
        }
    }
}

impl SetState {
    /// Called by whoever took the set off a list, where it was under this ticket: whether the set has the wake-up.
    fn wake(&self, ticket: u64, by: CoreRef) -> bool {
        let waker = {
            let mut parking = self.inner.lock();
            if parking.ticket != Some(ticket) || parking.woken_by.is_some() {
                return false;
            }
            parking.woken_by = Some(by);
            parking.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Has the set look again, without a job for it.
    fn rouse(&self) {
        let waker = self.inner.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The pull side of functions without a body. A connection that takes one job at a time, an idle worker process, a
/// checkout: each is a set.
///
/// Functions come and go while it is in use. Over its functions a set takes turns; within one it takes jobs in order,
/// those that were put back first. One job wakes one parked set, the most recently parked first.
pub struct ConsumerSet<A, R> {
    members: Mutex<Members<A, R>>,
    state: Arc<SetState>,
}

struct Members<A, R> {
    functions: Vec<Function<A, R>>,
    /// Where the next look starts.
    cursor: usize,
}

global! {
    /// Tickets of parked sets, process-wide: later is greater.
    static TICKETS: AtomicU64 = AtomicU64::new(0);
}

impl<A: Send + 'static, R: Send + 'static> ConsumerSet<A, R> {
    pub(crate) fn new() -> Self {
        ConsumerSet {
            members: Mutex::new(Members { functions: Vec::new(), cursor: 0 }),
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
            core.flags() & crate::sched::core::PULLED != 0,
            "function {:?} has a body and cannot be pulled; register it with `Engine::consumer`",
            core.name()
        );
        let mut members = self.members.lock();
        if members.functions.iter().all(|f| f.core().as_ptr() != core.as_ptr()) {
            members.functions.push(function.clone());
        }
        drop(members);
        // A set that is parked is not on the new function's list: it parks anew.
        self.state.rouse();
    }

    /// Removes a function. Removing one that is not there changes nothing.
    pub fn remove(&self, function: &Function<A, R>) {
        let core = function.core().as_ptr();
        self.unpark();
        self.members.lock().functions.retain(|f| f.core().as_ptr() != core);
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
        let mut members = self.members.lock();
        let n = members.functions.len();
        for i in 0..n {
            let at = (members.cursor + i) % n;
            if let Some(job) = Pulled::from(members.functions[at].core()) {
                members.cursor = at + 1;
                return Some(job);
            }
        }
        None
    }

    /// Whether a job may be there, or every function has been closed; otherwise parks the set, and `cx` is woken when that
    /// may have changed.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.unpark();
        let members = self.members.lock();
        // Ordering: Relaxed, only uniqueness and growth matter.
        let ticket = TICKETS.fetch_add(1, Ordering::Relaxed);
        {
            let mut parking = self.state.inner.lock();
            parking.waker = Some(cx.waker().clone());
            parking.ticket = Some(ticket);
        }
        for function in &members.functions {
            // SAFETY: only functions without a body are added.
            let waiting = unsafe { waiting(function.core()) };
            let mut lists = waiting.lists.lock();
            lists.parked.insert(ticket, Arc::clone(&self.state));
            // Ordering: SeqCst, before the look at the lane below; pairs with `announce`.
            waiting.parked.fetch_add(1, Ordering::SeqCst);
        }
        for function in &members.functions {
            // SAFETY: the vtable was made for this core.
            unsafe { (function.core().vtable.retire)(function.core()) };
        }
        // SAFETY: the vtable was made for this core.
        let has_jobs = |f: &Function<A, R>| !unsafe { (f.core().vtable.is_empty)(f.core()) };
        let functions = &members.functions;
        let over = !functions.is_empty() && functions.iter().all(|f| f.core().lane.is_closed());
        if over || functions.iter().any(has_jobs) {
            drop(members);
            self.unpark();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Waits for a job. `None` when every function of the set is closed and empty, and for a set without functions.
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
                thread::park();
            }
        }
    }

    fn is_over(&self) -> bool {
        let members = self.members.lock();
        // SAFETY: the vtable was made for this core.
        members.functions.iter().all(|f| f.core().lane.is_closed() && unsafe { (f.core().vtable.is_empty)(f.core()) })
    }
}

impl<A, R> ConsumerSet<A, R> {
    /// Leaves all lists, and ends a wake-up that was under way.
    fn unpark(&self) {
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
                    // Ordering: SeqCst like every change of the count.
                    waiting.parked.fetch_sub(1, Ordering::SeqCst);
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

/// Wakes a thread that waits in `next`.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A job taken by a consumer set. Dropping it reports the job as lost.
#[must_use = "dropping a pulled job reports it as lost"]
pub struct Pulled<A, R> {
    /// Taken out by `take` and `put_back`.
    arg: Option<A>,
    completer: Completer<R>,
    hold: Hold,
}

/// Keeps a function, and counts as one of its taken jobs.
struct Hold(CoreRef);

impl Hold {
    fn new(core: &CoreRef) -> Hold {
        // SAFETY: only functions without a body are pulled.
        let waiting = unsafe { waiting(core) };
        // Ordering: SeqCst, before the job leaves its queue; pairs with `is_settled`.
        waiting.taken.fetch_add(1, Ordering::SeqCst);
        Hold(core.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: only functions without a body are pulled.
        let waiting = unsafe { waiting(&self.0) };
        // Ordering: SeqCst, after the job was put back; pairs with `is_settled`.
        waiting.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<A: Send + 'static, R: Send + 'static> Pulled<A, R> {
    fn from(core: &CoreRef) -> Option<Self> {
        if is_inline::<A>() { Self::from_stored::<Inline<A>>(core) } else { Self::from_stored::<Box<A>>(core) }
    }

    fn from_stored<S: Stored<Arg = A>>(core: &CoreRef) -> Option<Self> {
        let hold = Hold::new(core);
        loop {
            // SAFETY: only functions without a body are pulled, and this one's jobs are stored as `S`.
            let own = unsafe { Untyped::<S, R>::own(core) };
            let (control, stored) = match own.pop_returned() {
                Some((control, stored)) => (control.0, stored),
                None => Self::claim_one::<S>(core)?,
            };
            let slot = NonNull::new(control).filter(|_| control != detached());
            // SAFETY: the slab's slots live as long as the process.
            if slot.is_some_and(|slot| !unsafe { slot.as_ref() }.begin()) {
                // Met as cancelled: not counted as discarded.
                let _ = Discard::<S, R>::taken(core, control, stored);
                continue;
            }
            let completer = Completer { slot, result: PhantomData };
            return Some(Pulled { arg: Some(stored.unwrap()), completer, hold });
        }
    }

    fn claim_one<S: Stored<Arg = A>>(core: &Core) -> Option<(*mut ResultSlot, S)> {
        let Claim::Jobs(span) = core.lane.claim::<S>(&core.class().blocks, 1) else { return None };
        // SAFETY: claimed above, one slot.
        let slot = unsafe { Shape::<S>::slot(span.block, span.start) };
        // SAFETY: as above, taken once.
        let job = unsafe { slot.take() };
        // SAFETY: moved out above.
        unsafe { Shape::<S>::finish(&core.class().blocks, span.block, 1) };
        Some(job)
    }

    /// The argument.
    pub fn arg(&self) -> &A {
        self.arg.as_ref().expect("present until taken")
    }

    /// The name of the job's function.
    pub fn function(&self) -> &str {
        self.hold.0.name()
    }

    /// The job's id; `None` for a job that was sent.
    pub fn id(&self) -> Option<JobId> {
        self.completer.id()
    }

    /// The argument, and what finishes the job.
    pub fn take(mut self) -> (A, Completer<R>) {
        let arg = self.arg.take().expect("present until taken");
        let slot = self.completer.slot.take();
        // What is left of `self` finishes nothing.
        self.completer.result = PhantomData;
        (arg, Completer { slot, result: PhantomData })
    }

    /// Queues the job again, before all others of its function, under the same id.
    pub fn put_back(mut self) {
        let arg = self.arg.take().expect("present until taken");
        let slot = self.completer.slot.take();
        if is_inline::<A>() {
            self.return_stored::<Inline<A>>(slot, Inline::wrap(arg));
        } else {
            self.return_stored::<Box<A>>(slot, <Box<A>>::wrap(arg));
        }
    }

    fn return_stored<S: Stored<Arg = A>>(&self, slot: Option<NonNull<ResultSlot>>, stored: S) {
        if let Some(slot) = slot {
            // SAFETY: the slab's slots live as long as the process.
            unsafe { slot.as_ref() }.unbegin();
        }
        let control = slot.map_or_else(detached, NonNull::as_ptr);
        // SAFETY: as in `from_stored`.
        let own = unsafe { Untyped::<S, R>::own(&self.hold.0) };
        {
            let mut returned = own.returned.lock();
            returned.push_front((Control(control), stored));
            // Ordering: SeqCst, before the look at the parked sets in `announce`; pairs with `poll_ready`. Under the
            // lock, so that the count is never behind.
            own.waiting.returned.fetch_add(1, Ordering::SeqCst);
        }
        // SAFETY: a function without a body.
        unsafe { announce(&self.hold.0) };
    }
}

impl<A, R> fmt::Debug for Pulled<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulled").field("function", &self.hold.0.name()).finish_non_exhaustive()
    }
}

/// The write side of a job's handle. Dropping it unfinished reports the job as lost.
#[must_use = "dropping a completer reports its job as lost"]
pub struct Completer<R> {
    /// `None` for a job without a handle, and after the end.
    slot: Option<NonNull<ResultSlot>>,
    result: PhantomData<fn(R)>,
}

// SAFETY: the job's side of a slot may be used from any thread, and moves an `R` there.
unsafe impl<R: Send> Send for Completer<R> {}
// SAFETY: through a shared completer only atomics can be reached.
unsafe impl<R: Send> Sync for Completer<R> {}

impl<R> Completer<R> {
    /// Finishes the job with its result.
    pub fn complete(self, result: R) {
        self.finish(Ok(result));
    }

    /// Finishes the job as failed: its handle reports [`JobError::Failed`].
    pub fn fail(self, why: impl Into<String>) {
        self.finish(Err(JobError::Failed(why.into())));
    }

    fn finish(mut self, outcome: Result<R, JobError>) {
        if let Some(slot) = self.slot.take() {
            // SAFETY: the job's side, last use.
            unsafe { ResultSlot::complete(slot, outcome) };
        }
    }

    /// Whether the caller asked to cancel this job after it was taken.
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: the slab's slots live as long as the process.
        self.slot.is_some_and(|slot| unsafe { slot.as_ref() }.is_cancel_requested())
    }

    /// The job's id; `None` for a job that was sent.
    pub fn id(&self) -> Option<JobId> {
        // SAFETY: the slab's slots live as long as the process.
        self.slot.map(|slot| unsafe { slot.as_ref() }.id())
    }
}

impl<R> Drop for Completer<R> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            // SAFETY: the job's side, last use.
            unsafe { ResultSlot::complete::<R>(slot, Err(JobError::Lost)) };
        }
    }
}

impl<R> fmt::Debug for Completer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer").field("id", &self.id()).finish()
    }
}
