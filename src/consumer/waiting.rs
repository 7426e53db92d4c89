//! What parked consumer sets and their functions share, and who is woken.
//!
//! # Wake-ups
//! A set that finds nothing parks: it enters itself in each of its functions' lists of parked sets, then looks once
//! more. A submit queues its job, then looks whether sets are parked. Both orders are kept by SeqCst read-modify-writes
//! (the count of parked sets here, the lane's tail there), so one of the two sees the other.
//!
//! Under the function's lock, one rule decides who is woken: there are as many wake-ups under way as jobs queued, times a
//! number that is the function's setting, as long as sets are parked. A wake-up is under way from the moment a set is taken off the list, the most recently parked
//! first, until that set next pulls, parks again, or is dropped; then the rule is applied again, which passes on what
//! the set did not use.
//!
//! # The end
//! A set of closed functions parks, too, as long as a job may come: one that is queued and may not start yet, or one that
//! was taken and may come back. It enters itself in the lists before it looks for that (a SeqCst read-modify-write again);
//! the last taken job counts itself off by one before it looks at the lists. What else may come is in a managed queue or
//! was discarded: whoever takes the last of it away wakes all sets.

use crate::queue::managed::Entry;
use crate::queue::priority::Priority;
use crate::quiet;
use crate::sched::core::{Core, CoreRef, MANAGED, Recipe, Types, Vtable};
use crate::sched::managed::{self, Desk, Kept};
use crate::sched::run::{Discard, Inline, Lanes, Stored, is_inline};
use crate::sync::{AtomicUsize, Mutex, Ordering, fence_heavy, fence_light, load_after_rmw};
use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

/// What a function without a body has in place of it.
pub(super) struct Waiting {
    /// Parked sets.
    pub(super) parked: AtomicUsize,
    /// Jobs that were put back.
    pub(super) returned: AtomicUsize,
    /// Jobs that are being taken, or are taken and may be put back.
    pub(super) taken: AtomicUsize,
    pub(super) lists: Mutex<Lists>,
    /// Each set that has the function has a clone, which counts it.
    pub(super) had: Arc<()>,
}

/// Keeps a function, and counts as one of its taken jobs.
pub(super) struct Hold(CoreRef);

impl Hold {
    pub(super) fn new(core: &CoreRef) -> Hold {
        // SAFETY: only functions without a body are pulled.
        let waiting = unsafe { waiting(core) };
        // Ordering: Relaxed, ordered before the job leaves its queue by the fence; pairs with `is_settled`.
        waiting.taken.fetch_add(1, Ordering::Relaxed);
        fence_light();
        Hold(core.clone())
    }

    pub(super) fn core(&self) -> &CoreRef {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: only functions without a body are pulled.
        let waiting = unsafe { waiting(&self.0) };
        // Ordering: SeqCst, before the looks at the parked sets and at the end of the lane; pairs with `poll_ready`, and
        // with the close, which wakes sets that look at this then. A job that was put back was so under the lock under
        // which `is_settled` looks; a finished one leaves nothing.
        let was_last = waiting.taken.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && load_after_rmw(&waiting.parked) > 0 && self.0.lane.is_closed_after_rmw() {
            wake_all(waiting);
        }
    }
}

pub(super) struct Lists {
    /// By ticket: the greatest parked last.
    pub(super) parked: BTreeMap<u64, Arc<SetState>>,
    /// Wake-ups under way.
    pub(super) wakes: usize,
    /// How many sets are woken for a job.
    pub(super) per_job: usize,
}

/// [`Waiting`], and the jobs that were put back, which have a type.
#[repr(C)]
pub(super) struct Jobless<S> {
    pub(super) waiting: Waiting,
    pub(super) returned: Mutex<Returned<S>>,
}

/// By priority.
pub(super) type Returned<S> = [VecDeque<Entry<S>>; 3];

/// What parked sets share with whoever wakes them.
pub(super) struct SetState {
    pub(super) inner: Mutex<Parking>,
}

#[derive(Default)]
pub(super) struct Parking {
    pub(super) waker: Option<Waker>,
    /// The ticket under which the set is in its functions' lists.
    pub(super) ticket: Option<u64>,
    /// The function that took it off its list.
    pub(super) woken_by: Option<CoreRef>,
}

/// The recipe of a function without a body.
pub(crate) fn without_body<A: Send + 'static, R: Send + 'static>() -> Recipe {
    fn recipe<S: Stored<Arg: 'static>, R: 'static>() -> Recipe {
        let waiting = Waiting {
            parked: AtomicUsize::new(0),
            returned: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            lists: Mutex::new(Lists { parked: BTreeMap::new(), wakes: 0, per_job: 1 }),
            had: Arc::new(()),
        };
        let body: Box<Jobless<S>> =
            Box::new(Jobless { waiting, returned: Mutex::new(std::array::from_fn(|_| VecDeque::new())) });
        Recipe { vtable: &Untyped::<S, R>::TABLE, body: Box::into_raw(body).cast(), pulled: true }
    }
    if is_inline::<A>() { recipe::<Inline<A>, R>() } else { recipe::<Box<A>, R>() }
}

pub(super) struct Untyped<S, R>(PhantomData<fn(S, R)>);

impl<S: Stored, R: 'static> Untyped<S, R>
where
    S::Arg: 'static,
{
    const TABLE: Vtable = Vtable {
        types: Types::of::<S::Arg, R>,
        retire: Lanes::<S>::retire,
        run_single: |_, _, _| unreachable!("workers do not claim jobs without a body"),
        run_ready: |_, _| unreachable!("jobs without a body are not in the ready set"),
        run_span: |_, _, _, _| unreachable!("workers do not claim jobs without a body"),
        run_nested: |_, _, _, _| unreachable!("jobs without a body are not in a deque"),
        panicked: |_, _| unreachable!("workers do not run jobs without a body"),
        discard_span: Discard::<S, R>::span,
        discard_nested: Discard::<S, R>::nested,
        discard_queued: Self::discard_queued,
        is_empty: Self::is_empty,
        is_settled: Self::is_settled,
        queued: Self::queued,
        drop_body: Self::drop_body,
        run_managed: |_, _, _| unreachable!("workers do not claim jobs without a body"),
        closed: Self::closed,
        managed: Kept::<S, R>::TABLE,
        announce,
    };
}

impl<S: Stored, R> Untyped<S, R> {
    pub(super) unsafe fn own(core: &Core) -> &Jobless<S> {
        // SAFETY: made by `without_body` for this type, dropped with the core.
        unsafe { &*core.body_ptr().cast::<Jobless<S>>() }
    }

    unsafe fn discard_queued(core: &Core) -> usize {
        // SAFETY: this vtable's core.
        let own = unsafe { Self::own(core) };
        let mut total = 0;
        loop {
            // Not `pop_returned`: the lock must be taken, see `put_back`.
            let next = own.pop_locked(&mut own.returned.lock());
            let Some(Entry { control, stored, .. }) = next else { break };
            total += Discard::<S, R>::taken(core, control, stored);
        }
        // SAFETY: passed on from the caller.
        total + unsafe { Discard::<S, R>::queued(core) }
    }

    unsafe fn is_empty(core: &Core) -> bool {
        // SAFETY: this vtable's core.
        let waiting = unsafe { waiting(core) };
        // Ordering: SeqCst through the load, pairs with the read-modify-write in `put_back`.
        let has_returned = load_after_rmw(&waiting.returned) > 0;
        // SAFETY: as above.
        !has_returned && unsafe { Lanes::<S>::is_empty(core) }
    }

    unsafe fn is_settled(core: &Core) -> bool {
        // SAFETY: this vtable's core.
        let own = unsafe { Self::own(core) };
        // Nothing is put back, or taken from there, while this is held.
        let returned = own.returned.lock();
        // The lane is closed and stays empty. Who takes a job is counted before, and who puts one back until after.
        // SAFETY: as above.
        if !returned.iter().all(VecDeque::is_empty) || !unsafe { Lanes::<S>::is_settled(core) } {
            return false;
        }
        let none_taken = || {
            // Between the look at the lane and that at the count; pairs with `Hold::new`.
            fence_heavy();
            // Ordering: Relaxed, after the fence; who puts a job back counts until after it had the lock.
            own.waiting.taken.load(Ordering::Relaxed) == 0
        };
        // Jobs of a managed function go back to its queue: the count is looked at under that lock, too.
        // SAFETY: as above.
        match unsafe { managed::desk::<S>(core) } {
            Some(desk) => desk.read(|state| state.is_settled() && none_taken()),
            None => none_taken(),
        }
    }

    unsafe fn queued(core: &Core, priority: Priority) -> usize {
        // SAFETY: this vtable's core.
        let own = unsafe { Self::own(core) };
        // Ordering: Relaxed, a count: who changes it applies the rule of wake-ups afterwards.
        let has_returned = own.waiting.returned.load(Ordering::Relaxed) > 0;
        let returned = if has_returned { own.returned.lock()[priority.index()].len() } else { 0 };
        // SAFETY: as above.
        returned + unsafe { Lanes::<S>::queued(core, priority) }
    }

    unsafe fn drop_body(body: *mut ()) {
        // SAFETY: made by `Box::into_raw` in `without_body` for this type.
        drop(unsafe { Box::from_raw(body.cast::<Jobless<S>>()) });
    }

    /// Wakes every set, so that those that wait for a next job see the end.
    unsafe fn closed(core: &Core) {
        // SAFETY: this vtable's core.
        wake_all(unsafe { waiting(core) });
    }
}

impl<S> Jobless<S> {
    pub(super) fn pop_returned(&self, priority: Priority) -> Option<Entry<S>> {
        // Ordering: Relaxed, a hint; whoever put a job back announces it.
        if self.waiting.returned.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut returned = self.returned.lock();
        self.pop_front(&mut returned[priority.index()])
    }

    /// The first of any priority.
    fn pop_locked(&self, returned: &mut Returned<S>) -> Option<Entry<S>> {
        returned.iter_mut().find_map(|jobs| self.pop_front(jobs))
    }

    /// Under the lock.
    fn pop_front(&self, jobs: &mut VecDeque<Entry<S>>) -> Option<Entry<S>> {
        let job = jobs.pop_front()?;
        // Ordering: Relaxed, under the lock, so that the count is never behind; `is_empty` may miss a decrement.
        self.waiting.returned.fetch_sub(1, Ordering::Relaxed);
        Some(job)
    }
}

/// The untyped part of what a function without a body has.
///
/// # Safety
/// `core` was made by `without_body`.
pub(super) unsafe fn waiting(core: &Core) -> &Waiting {
    // SAFETY: `Jobless` starts with it, whatever its type.
    unsafe { &*core.body_ptr().cast::<Waiting>() }
}

/// Has every set look again.
#[cold]
fn wake_all(waiting: &Waiting) {
    let sets = {
        let mut lists = waiting.lists.lock();
        // Ordering: Relaxed, under the lock; `announce` may not miss an increment, but a decrement.
        waiting.parked.store(0, Ordering::Relaxed);
        std::mem::take(&mut lists.parked)
    };
    sets.into_values().for_each(|set| set.rouse());
}

/// Whether the function is closed and nothing is queued. A job that was taken may still come back.
pub(super) fn has_ended(core: &Core) -> bool {
    // SAFETY: the vtable was made for this core.
    core.lanes().all(|(_, lane)| lane.is_closed()) && unsafe { (core.vtable.is_empty)(core) }
}

/// Whether there is no job of the function to come any more.
pub(super) fn is_over(core: &Core) -> bool {
    // What would come back while jobs are discarded ends as cancelled.
    // SAFETY: the vtable was made for this core.
    has_ended(core) && (core.shared().phase.is_discarding() || unsafe { (core.vtable.is_settled)(core) })
}

/// Whether a set could take a job now.
pub(super) fn has_takeable(core: &Core) -> bool {
    if core.flags() & MANAGED != 0 {
        return takeable(core) > 0;
    }
    // SAFETY: the vtable was made for this core.
    !unsafe { (core.vtable.is_empty)(core) }
}

/// Whether there are more jobs than sets on their way to them.
pub(super) fn is_needed(core: &Core) -> bool {
    if !has_takeable(core) {
        return false;
    }
    // SAFETY: only functions without a body are in sets.
    let lists = unsafe { waiting(core) }.lists.lock();
    lists.wakes < takeable(core).saturating_mul(lists.per_job.max(1))
}

/// A function was made managed: the jobs that were put back join the others.
///
/// # Safety
/// `core` was made by `without_body`, and its jobs are stored as `S`.
pub(crate) unsafe fn hand_returned_over<S: Stored, R>(core: &Core, desk: Desk<'_, S>) {
    // SAFETY: passed on.
    let own = unsafe { Untyped::<S, R>::own(core) };
    // On their way they are in no queue.
    // SAFETY: the caller refers to the core, so it is alive.
    let _hold = Hold::new(&unsafe { CoreRef::keep(NonNull::from(core)) });
    for priority in Priority::ALL {
        let jobs = {
            // Who puts a job back looks at the flag under this lock.
            let mut returned = own.returned.lock();
            let jobs = std::mem::take(&mut returned[priority.index()]);
            // Ordering: Relaxed, under the lock, as in `pop_front`.
            own.waiting.returned.fetch_sub(jobs.len(), Ordering::Relaxed);
            jobs
        };
        desk.update(|state, _| state.put_first(priority, jobs.into_iter()));
    }
}

/// Whether jobs were put back and not taken again.
pub(super) fn has_returned(core: &Core) -> bool {
    // SAFETY: only functions without a body are pulled.
    let waiting = unsafe { waiting(core) };
    // Ordering: Relaxed, a hint; whoever puts a job back announces it.
    waiting.returned.load(Ordering::Relaxed) > 0
}

/// A job was queued: wakes a set if that is due. Follows a SeqCst read-modify-write that queued it.
///
/// # Safety
/// `core` was made by `without_body`.
pub(super) unsafe fn announce(core: &Core) {
    // SAFETY: passed on.
    let waiting = unsafe { waiting(core) };
    if load_after_rmw(&waiting.parked) > 0 {
        // SAFETY: passed on.
        unsafe { apply_rule(core, 0) };
    }
}

/// How many jobs a set could take now.
fn takeable(core: &Core) -> usize {
    if core.flags() & MANAGED != 0 {
        // SAFETY: the vtable was made for this core.
        return unsafe { (core.vtable.managed.startable)(core) };
    }
    let at = |priority| {
        // SAFETY: the vtable was made for this core.
        unsafe { (core.vtable.queued)(core, priority) }
    };
    Priority::ALL.into_iter().map(at).sum()
}

/// Ends `over` wake-ups and starts those that are due.
///
/// # Safety
/// `core` was made by `without_body`.
#[cold]
pub(super) unsafe fn apply_rule(core: &Core, over: usize) {
    // SAFETY: passed on.
    let _ = unsafe { wake(core, over, 0) };
}

/// The same, and wakes so many sets in any case, if so many are parked. How many were woken.
///
/// # Safety
/// `core` was made by `without_body`.
#[cold]
pub(super) unsafe fn wake(core: &Core, mut over: usize, mut more: usize) -> usize {
    // SAFETY: passed on.
    let waiting = unsafe { waiting(core) };
    let mut total = 0;
    loop {
        let mut woken = Vec::new();
        {
            let mut lists = waiting.lists.lock();
            lists.wakes -= over;
            while more > 0 || lists.wakes < takeable(core).saturating_mul(lists.per_job) {
                more = more.saturating_sub(1);
                let Some(parked) = lists.parked.pop_last() else { break };
                // Ordering: Relaxed, as in `closed`.
                waiting.parked.fetch_sub(1, Ordering::Relaxed);
                lists.wakes += 1;
                woken.push(parked);
            }
        }
        // SAFETY: the caller refers to the core, so it is alive.
        let keep = || unsafe { CoreRef::keep(NonNull::from(core)) };
        // A set that came back by itself, or that another function has woken, does not need this wake-up.
        let taken = woken.len();
        over = woken.into_iter().filter(|(ticket, set)| !set.wake(*ticket, keep())).count();
        total += taken - over;
        if over == 0 {
            return total;
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
            quiet::wake(waker);
        }
        true
    }

    /// Has the set look again, without a job for it.
    pub(super) fn rouse(&self) {
        let waker = self.inner.lock().waker.take();
        if let Some(waker) = waker {
            quiet::wake(waker);
        }
    }
}
