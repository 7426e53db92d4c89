//! What the engine knows of a function: its queue, how to run its jobs, and how long it is needed.

use super::deque::Taken;
use super::events::Events;
use super::registry::Shared;
use super::tally::Counted;
use super::worker::Worker;
use crate::error::JobError;
use crate::job::origin;
use crate::job::slot::ResultSlot;
use crate::queue::block::Shape;
use crate::queue::lane::{Lane, Span};
use crate::queue::managed::Look;
use crate::queue::pool::{Link, Pool};
use crate::queue::priority::Priority;
use crate::queue::record::{Record, RecordId};
use crate::queue::update::Audience;
use crate::quiet::quietly;
use crate::sync::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, IS_MODEL, Ordering, UnsafeCell, load_after_rmw};
use std::alloc::Layout;
use std::any::{Any, TypeId, type_name};
use std::cell::Cell;
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Instant;

/// A registered function, untyped: three cache lines, of which the lane has two. [`Vtable`] knows the types.
#[repr(C, align(64))]
pub(crate) struct Core {
    /// The normal lane: a line for producers, a line for claimers.
    pub(crate) lane: Lane,
    // What follows is read often and written rarely.
    pub(crate) vtable: &'static Vtable,
    class: NonNull<Class>,
    shared: NonNull<Shared>,
    /// The body, or for a function without one what its consumer sets share. Null after the engine has ended.
    pub(crate) body: AtomicPtr<()>,
    /// The lanes of the other priorities, made on first use.
    side: AtomicPtr<Side>,
    pub(crate) index: u32,
    flags: AtomicU8,
    /// The index of the function's record for handles, of which a pool has less than 2^24.
    origin: [u8; 3],
    refs: AtomicU32,
    /// Length of the name.
    name_bytes: u16,
    name: NonNull<u8>,
    /// Model checker only: it has ended, and whoever comes for it is too late.
    #[cfg(any(layshaft_loom, layshaft_shuttle))]
    is_over: UnsafeCell<bool>,
}

/// What few functions have.
struct Side {
    high: Lane,
    low: Lane,
    events: Events,
    /// The queue of a managed function, see `managed`.
    managed: AtomicPtr<()>,
}

/// The function was removed: also its own jobs may not submit to it any more.
pub(crate) const REMOVED: u8 = 1;
/// The engine is draining: only jobs may submit.
pub(crate) const DRAINING: u8 = 2;
/// Takes no submits from outside.
pub(crate) const CLOSED: u8 = REMOVED | DRAINING;
/// No body: consumer sets pull the jobs.
pub(crate) const PULLED: u8 = 4;
/// Limits apply: jobs go through a queue under a lock.
pub(crate) const MANAGED: u8 = 8;

/// Runs a nested job, then the worker's next ones while they are of this function and the budget lasts; each that is taken
/// from the deque is counted off. Returns the one that was taken and is of another function, or not to be run.
pub(crate) type RunNested =
    for<'w> unsafe fn(&'w Worker, &Core, Taken<'w, Core>, &Cell<usize>) -> Option<Taken<'w, Core>>;

/// A function's argument and result.
pub(crate) struct Types {
    ids: [TypeId; 2],
    names: [&'static str; 2],
}

impl Types {
    pub(crate) fn of<A: 'static, R: 'static>() -> Types {
        Types { ids: [TypeId::of::<A>(), TypeId::of::<R>()], names: [type_name::<A>(), type_name::<R>()] }
    }
}

impl PartialEq for Types {
    fn eq(&self, other: &Types) -> bool {
        self.ids == other.ids
    }
}

impl fmt::Display for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fn({}) -> {}", self.names[0], self.names[1])
    }
}

/// How to handle the jobs of a function whose types only the registration knows.
pub(crate) struct Vtable {
    pub(crate) types: fn() -> Types,
    /// Gives the blocks of empty lanes back: whether no lane has one now.
    pub(crate) retire: unsafe fn(&Core) -> bool,
    /// Claims one job of a priority other than normal and runs it: `false` when the first one is reserved and not yet
    /// published.
    pub(crate) run_single: unsafe fn(&Worker, &Core, Priority) -> bool,
    /// Claims some queued jobs and runs them: `false` when the first one is reserved and not yet published.
    pub(crate) run_ready: unsafe fn(&Worker, &Core) -> bool,
    /// Runs one job of a managed function, if one may start: `false` when it has to be published first.
    pub(crate) run_managed: unsafe fn(&Worker, &Core, Priority) -> bool,
    /// Runs claimed jobs; whether the claim emptied the lane.
    pub(crate) run_span: unsafe fn(&Worker, &Core, Span, bool),
    /// Runs a nested job of this worker. Unwinds when it panics.
    pub(crate) run_nested: RunNested,
    /// The running job of this function panicked: tells its handle.
    pub(crate) panicked: unsafe fn(&Worker, Box<dyn Any + Send>),
    /// Ends claimed jobs as cancelled: how many.
    pub(crate) discard_span: unsafe fn(&Core, Span) -> usize,
    /// Ends a nested job as cancelled: 1, or 0 if it was cancelled before.
    pub(crate) discard_nested: unsafe fn(&Core, Taken<'_, Core>) -> usize,
    /// Ends all queued jobs as cancelled: how many.
    pub(crate) discard_queued: unsafe fn(&Core) -> usize,
    /// Whether nothing is queued.
    pub(crate) is_empty: unsafe fn(&Core) -> bool,
    /// Whether nothing is queued and nothing can be put back.
    pub(crate) is_settled: unsafe fn(&Core) -> bool,
    /// How many jobs of a priority are queued.
    pub(crate) queued: unsafe fn(&Core, Priority) -> usize,
    /// Drops the body.
    pub(crate) drop_body: unsafe fn(*mut ()),
    /// The lanes were closed, or were before and nothing may come any more: tells whoever waits for jobs.
    pub(crate) closed: unsafe fn(&Core),
    /// Of a managed function, see `managed::Kept`.
    pub(crate) managed: ManagedVtable,
    /// Jobs may start: wakes whoever is to run them.
    pub(crate) announce: unsafe fn(&Core),
}

/// What a managed function is told, in terms of its types.
pub(crate) struct ManagedVtable {
    pub(crate) start_ending: unsafe fn(&Core),
    pub(crate) close: unsafe fn(&Core),
    pub(crate) free: unsafe fn(&Core),
    pub(crate) startable: unsafe fn(&Core) -> usize,
    pub(crate) cancelled: unsafe fn(&Core) -> usize,
    pub(crate) late: unsafe fn(&Core) -> usize,
    pub(crate) ended: unsafe fn(&Core),
    pub(crate) earlier_ended: unsafe fn(&Core),
    pub(crate) settle: unsafe fn(&Core, RecordId) -> Option<Record>,
    pub(crate) lose: unsafe fn(&Core, RecordId, JobError),
    pub(crate) audience: unsafe fn(&Core, RecordId) -> Option<Audience>,
    pub(crate) tick: unsafe fn(&Core, Instant),
    pub(crate) told: unsafe fn(&Core),
    pub(crate) is_cancelled: unsafe fn(&Core, RecordId) -> bool,
    pub(crate) is_heard_by: unsafe fn(&Core, RecordId, NonNull<ResultSlot>) -> bool,
    /// What the queue says of a handle's job, or of the one that is next; `None` if the function is not managed.
    pub(crate) look: unsafe fn(&Core, Option<NonNull<ResultSlot>>) -> Option<Look>,
}

/// The pools that functions with the same job layout share, one such set an engine.
pub(crate) struct Class {
    pub(crate) blocks: Pool,
    /// Nodes: arguments of nested jobs that do not fit in a deque's entry.
    pub(crate) nodes: Pool,
    /// Place in each worker's cache of nodes.
    pub(crate) id: usize,

    key: (Layout, usize),
}

/// A nested job's argument outside its deque.
#[repr(C)]
pub(crate) struct Node<S> {
    link: Link,
    pub(crate) argument: UnsafeCell<MaybeUninit<S>>,
}

impl Class {
    pub(crate) fn new<S>(id: usize) -> Class {
        unsafe fn init<S>(piece: NonNull<Link>, link: Link) {
            let node: Node<S> = Node { link, argument: UnsafeCell::new(MaybeUninit::uninit()) };
            // SAFETY: fresh memory of a node's layout.
            unsafe { piece.cast().write(node) };
        }
        Class {
            blocks: Shape::<S>::pool(),
            nodes: Pool::new(Layout::new::<Node<S>>(), if IS_MODEL { 2 } else { 32 }, init::<S>),
            id,
            key: Shape::<S>::key(),
        }
    }

    /// Whether jobs stored as `S` fit.
    pub(crate) fn fits<S>(&self) -> bool {
        self.key == Shape::<S>::key() && self.nodes.layout() == Layout::new::<Node<S>>().pad_to_align()
    }
}

impl Core {
    #[inline(always)]
    pub(crate) fn class(&self) -> &Class {
        // SAFETY: the engine's shared part owns the classes, and a core keeps that part alive.
        unsafe { self.class.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &Shared {
        // SAFETY: a core holds a count on the shared part.
        unsafe { self.shared.as_ref() }
    }

    /// Whether it is the engine's own function, which has no name: its jobs are never discarded for good.
    pub(crate) fn is_internal(&self) -> bool {
        self.name_bytes == 0
    }

    pub(crate) fn name(&self) -> &str {
        if self.is_internal() {
            return "scope";
        }
        // SAFETY: leaked from a `Box<str>` of this length in `new`, freed with the core.
        let bytes = unsafe { std::slice::from_raw_parts(self.name.as_ptr(), usize::from(self.name_bytes)) };
        // SAFETY: they are a `str`'s.
        unsafe { std::str::from_utf8_unchecked(bytes) }
    }

    /// The lane of a priority, if it was made.
    #[inline(always)]
    pub(crate) fn lane(&self, priority: Priority) -> Option<&Lane> {
        if priority == Priority::Normal {
            return Some(&self.lane);
        }
        // Ordering: SeqCst through the load: the closer of a function closes what it sees, and `make_side` looks whether it
        // was closed, both under the registry's lock; a submit reads it without.
        // SAFETY: made once, freed with the core.
        let side = unsafe { load_after_rmw(&self.side).as_ref() }?;
        Some(if priority == Priority::High { &side.high } else { &side.low })
    }

    /// The lanes there are, most urgent first.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (Priority, &Lane)> {
        Priority::ALL.into_iter().filter_map(|priority| Some((priority, self.lane(priority)?)))
    }

    /// Makes the lanes of the other priorities, closed if the function is. The caller holds the registry's lock, as
    /// whoever closes the lanes does.
    pub(crate) fn make_side(&self) {
        // Ordering: Relaxed, under the lock.
        if !self.side.load(Ordering::Relaxed).is_null() {
            return;
        }
        let (managed, events) = (AtomicPtr::new(ptr::null_mut()), Events::new());
        let side = Side { high: Lane::new(), low: Lane::new(), events, managed };
        if self.lane.is_closed() {
            side.high.close();
            side.low.close();
        }
        // Ordering: Release, pairs with the loads in `lane`: the lanes are initialised.
        self.side.store(Box::into_raw(Box::new(side)), Ordering::Release);
    }

    /// What is counted, if anything was.
    pub(crate) fn events(&self) -> Option<&Events> {
        // SAFETY: made once, freed with the core.
        Some(&unsafe { load_after_rmw(&self.side).as_ref() }?.events)
    }

    /// What is counted.
    pub(super) fn make_events(&self) -> &Events {
        if self.events().is_none() {
            self.shared().make_side(self);
        }
        self.events().expect("made above")
    }

    /// The queue of a managed function, or null.
    pub(crate) fn managed(&self) -> *mut () {
        // SAFETY: made once, freed with the core.
        let side = unsafe { load_after_rmw(&self.side).as_ref() };
        // Ordering: Acquire, pairs with the Release in `set_managed`.
        side.map_or(ptr::null_mut(), |side| side.managed.load(Ordering::Acquire))
    }

    /// Gives a function with all lanes its queue. The caller holds the registry's lock.
    pub(crate) fn set_managed(&self, managed: *mut ()) {
        // Ordering: Relaxed, the lanes were made under the lock.
        // SAFETY: as above.
        let side = unsafe { self.side.load(Ordering::Relaxed).as_ref() }.expect("all lanes are made");
        // Ordering: Release, pairs with the Acquire in `managed`.
        side.managed.store(managed, Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn flags(&self) -> u8 {
        // Ordering: Relaxed, an early refusal; the closed bit in the lane's tail decides races.
        self.flags.load(Ordering::Relaxed)
    }

    /// Index of the record that handles refer to.
    #[inline(always)]
    pub(crate) fn origin(&self) -> u32 {
        let [a, b, c] = self.origin;
        u32::from_le_bytes([a, b, c, 0])
    }

    pub(crate) fn raise(&self, flag: u8) {
        if self.flags() & flag == 0 {
            // Ordering: Relaxed, as in `flags`.
            self.flags.fetch_or(flag, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub(crate) fn body_ptr(&self) -> *mut () {
        // Ordering: Relaxed, set before the core was shared, and cleared when nobody looks any more.
        self.body.load(Ordering::Relaxed)
    }

    /// Refuses every later submit. The caller holds the registry's lock (see `make_side`), and calls
    /// [`tell_closed`](Self::tell_closed) without.
    pub(crate) fn close(&self) {
        self.lanes().for_each(|(_, lane)| lane.close());
        // SAFETY: the vtable was made for this core.
        unsafe { (self.vtable.managed.close)(self) };
    }

    /// Tells whoever waits for jobs that the lanes were closed.
    pub(crate) fn tell_closed(&self) {
        // SAFETY: the vtable was made for this core.
        unsafe { (self.vtable.managed.told)(self) };
        // SAFETY: the vtable was made for this core.
        unsafe { (self.vtable.closed)(self) };
    }

    /// Drops the body. Nothing runs the function any more.
    pub(crate) fn drop_body(&self) {
        // Ordering: Relaxed, exactly one caller gets the pointer; that all runs are over is the caller's to know.
        let body = self.body.swap(ptr::null_mut(), Ordering::Relaxed);
        if !body.is_null() {
            // SAFETY: the vtable was made for this body, and the swap gave it to this call alone.
            quietly(|| unsafe { (self.vtable.drop_body)(body) });
        }
    }
}

impl Counted for Core {
    fn turned_out(&self) -> &[AtomicU64; 2] {
        #[cfg(any(layshaft_loom, layshaft_shuttle))]
        self.is_over.with(|is_over| {
            // SAFETY: written by the end alone; loom checks that nobody comes beside it.
            assert!(!unsafe { *is_over }, "jobs are counted for a function that is no more");
        });
        &self.lane.served
    }

    fn number(&self) -> usize {
        self.index as usize
    }
}

/// A counted reference to a core.
pub(crate) struct CoreRef(NonNull<Core>);

// SAFETY: a core is shared between threads through atomics; its typed parts are Send (and the body Sync) by the bounds
// of the registration.
unsafe impl Send for CoreRef {}
// SAFETY: as above.
unsafe impl Sync for CoreRef {}

/// What a new core is made from.
pub(crate) struct Recipe {
    pub(crate) vtable: &'static Vtable,
    pub(crate) body: *mut (),
    pub(crate) pulled: bool,
}

impl CoreRef {
    pub(crate) fn new(shared: &Arc<Shared>, class: NonNull<Class>, index: u32, name: &str, recipe: Recipe) -> CoreRef {
        let origin = origin::acquire(shared.number, recipe.pulled);
        let [a, b, c, _] = origin.to_le_bytes();
        // Given back in `destroy`.
        std::mem::forget(Arc::clone(shared));
        let core = Box::new(Core {
            lane: Lane::new(),
            vtable: recipe.vtable,
            class,
            shared: NonNull::from(&**shared),
            body: AtomicPtr::new(recipe.body),
            side: AtomicPtr::new(ptr::null_mut()),
            index,
            flags: AtomicU8::new(if recipe.pulled { PULLED } else { 0 }),
            origin: [a, b, c],
            refs: AtomicU32::new(1),
            name_bytes: name.len().try_into().expect("names are limited to 512 bytes"),
            // SAFETY: a box is not null.
            name: unsafe { NonNull::new_unchecked(Box::into_raw(Box::<str>::from(name)).cast()) },
            #[cfg(any(layshaft_loom, layshaft_shuttle))]
            is_over: UnsafeCell::new(false),
        });
        CoreRef(NonNull::from(Box::leak(core)))
    }

    pub(crate) fn as_ptr(&self) -> NonNull<Core> {
        self.0
    }

    /// A reference that does not count.
    ///
    /// # Safety
    /// Somebody else's reference outlives it.
    pub(crate) unsafe fn borrow(core: NonNull<Core>) -> ManuallyDrop<CoreRef> {
        ManuallyDrop::new(CoreRef(core))
    }

    /// Another reference to a core that is known to be alive.
    ///
    /// # Safety
    /// Somebody else's reference outlives this call.
    pub(crate) unsafe fn keep(core: NonNull<Core>) -> CoreRef {
        // SAFETY: passed on from the caller.
        let borrowed = unsafe { CoreRef::borrow(core) };
        CoreRef::clone(&borrowed)
    }

    #[cold]
    fn destroy(&mut self) {
        let core = self.0;
        // SAFETY: the last reference is going away; the core itself is still whole.
        let this = unsafe { core.as_ref() };
        // SAFETY: the vtable was made for this core, and nobody else claims from it any more.
        unsafe { (this.vtable.discard_queued)(this) };
        // SAFETY: as above.
        unsafe { (this.vtable.retire)(this) };
        this.drop_body();
        origin::release(this.origin());
        let shared = this.shared;
        // Ordering: Relaxed, the last reference: nobody else is left.
        let side = this.side.load(Ordering::Relaxed);
        // SAFETY: the vtable was made for this core, which ends.
        unsafe { (this.vtable.managed.free)(this) };
        if !side.is_null() {
            // SAFETY: made by `Box::into_raw` in `make_side`, freed once.
            drop(unsafe { Box::from_raw(side) });
        }
        let name = ptr::slice_from_raw_parts_mut(this.name.as_ptr(), usize::from(this.name_bytes));
        // SAFETY: leaked from a box in `new`, freed once, and not looked at any more.
        drop(unsafe { Box::from_raw(name) });
        #[cfg(any(layshaft_loom, layshaft_shuttle))]
        // SAFETY: the last use.
        this.is_over.with_mut(|is_over| unsafe { *is_over = true });
        // Where jobs are counted, a model finds who comes too late.
        if !(IS_MODEL && this.shared().counts_jobs()) {
            // SAFETY: made by `Box::leak` in `new`; nobody refers to it any more.
            drop(unsafe { Box::from_raw(core.as_ptr()) });
        }
        // SAFETY: gives back the count taken in `new`.
        unsafe { Arc::decrement_strong_count(shared.as_ptr()) };
    }
}

impl Deref for CoreRef {
    type Target = Core;

    #[inline(always)]
    fn deref(&self) -> &Core {
        // SAFETY: counted.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for CoreRef {
    fn clone(&self) -> Self {
        // Ordering: Relaxed, the caller holds a reference already.
        let old = self.refs.fetch_add(1, Ordering::Relaxed);
        assert!(old < u32::MAX / 2, "too many references to one function");
        CoreRef(self.0)
    }
}

impl Drop for CoreRef {
    fn drop(&mut self) {
        // Ordering: AcqRel, Release so that our uses come before the end, Acquire so that the end comes after all others'.
        if self.refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.destroy();
        }
    }
}
