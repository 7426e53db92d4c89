//! What the engine knows of a function: its queue, how to run its jobs, and how long it is needed.

use super::deque::Taken;
use super::registry::Shared;
use super::worker::Worker;
use crate::job::origin;
use crate::queue::block::Shape;
use crate::queue::lane::{Lane, Span};
use crate::queue::pool::{Link, Pool};
use crate::queue::priority::Priority;
use crate::quiet::quietly;
use crate::sync::{AtomicPtr, AtomicU32, Ordering, UnsafeCell, load_after_rmw};
use std::alloc::Layout;
use std::any::Any;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;

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
    /// Flags in the low byte, the index of the function's record for handles above.
    tag: AtomicU32,
    refs: AtomicU32,
    /// Length of the name.
    name_bytes: u16,
    name: NonNull<u8>,
}

/// The lanes that few functions have.
struct Side {
    high: Lane,
    low: Lane,
}

/// The function was removed: also its own jobs may not submit to it any more.
pub(crate) const REMOVED: u8 = 1;
/// The engine is draining: only jobs may submit.
pub(crate) const DRAINING: u8 = 2;
/// No body: consumer sets pull the jobs.
pub(crate) const PULLED: u8 = 4;

/// Runs a nested job, then the worker's next ones while they are of this function and the budget lasts; each that is taken
/// from the deque is counted off. Returns the one that was taken and is of another function, or not to be run.
pub(crate) type RunNested =
    for<'w> unsafe fn(&'w Worker, &Core, Taken<'w, Core>, &Cell<usize>) -> Option<Taken<'w, Core>>;

/// How to handle the jobs of a function whose types only the registration knows.
pub(crate) struct Vtable {
    /// Gives the blocks of empty lanes back: whether no lane has one now.
    pub(crate) retire: unsafe fn(&Core) -> bool,
    /// Claims one job of a priority other than normal and runs it: `false` when the first one is reserved and not yet
    /// published.
    pub(crate) run_single: unsafe fn(&Worker, &Core, Priority) -> bool,
    /// Claims some queued jobs and runs them: `false` when the first one is reserved and not yet published.
    pub(crate) run_ready: unsafe fn(&Worker, &Core) -> bool,
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
    /// The lanes were closed: tells whoever waits for jobs.
    pub(crate) closed: unsafe fn(&Core),
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
            nodes: Pool::new(Layout::new::<Node<S>>(), if crate::sync::IS_MODEL { 2 } else { 32 }, init::<S>),
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

    pub(crate) fn name(&self) -> &str {
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
        if !load_after_rmw(&self.side).is_null() {
            return;
        }
        let side = Side { high: Lane::new(), low: Lane::new() };
        if self.lane.is_closed() {
            side.high.close();
            side.low.close();
        }
        // Ordering: Release, pairs with the loads in `lane`: the lanes are initialised.
        self.side.store(Box::into_raw(Box::new(side)), Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn flags(&self) -> u8 {
        // Ordering: Relaxed, an early refusal; the closed bit in the lane's tail decides races.
        self.tag.load(Ordering::Relaxed) as u8
    }

    /// Index of the record that handles refer to.
    #[inline(always)]
    pub(crate) fn origin(&self) -> u32 {
        // Ordering: Relaxed, this part of the word never changes.
        self.tag.load(Ordering::Relaxed) >> 8
    }

    pub(crate) fn raise(&self, flag: u8) {
        // Ordering: Relaxed, as in `flags`.
        self.tag.fetch_or(u32::from(flag), Ordering::Relaxed);
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
    }

    /// Tells whoever waits for jobs that the lanes were closed.
    pub(crate) fn tell_closed(&self) {
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
            tag: AtomicU32::new(u32::from(if recipe.pulled { PULLED } else { 0 }) | (origin << 8)),
            refs: AtomicU32::new(1),
            name_bytes: name.len().try_into().expect("names are limited to 512 bytes"),
            // SAFETY: a box is not null.
            name: unsafe { NonNull::new_unchecked(Box::into_raw(Box::<str>::from(name)).cast()) },
        });
        CoreRef(NonNull::from(Box::leak(core)))
    }

    pub(crate) fn as_ptr(&self) -> NonNull<Core> {
        self.0
    }

    /// Another reference to a core that is known to be alive.
    ///
    /// # Safety
    /// Somebody else's reference outlives this call.
    pub(crate) unsafe fn keep(core: NonNull<Core>) -> CoreRef {
        // Not dropped: it stands for the reference that is somebody else's.
        let borrowed = std::mem::ManuallyDrop::new(CoreRef(core));
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
        if !side.is_null() {
            // SAFETY: made by `Box::into_raw` in `make_side`, freed once.
            drop(unsafe { Box::from_raw(side) });
        }
        let name = ptr::slice_from_raw_parts_mut(this.name.as_ptr(), usize::from(this.name_bytes));
        // SAFETY: leaked from a box in `new`, freed once, and not looked at any more.
        drop(unsafe { Box::from_raw(name) });
        // SAFETY: made by `Box::leak` in `new`; nobody refers to it any more.
        drop(unsafe { Box::from_raw(core.as_ptr()) });
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
