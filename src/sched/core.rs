//! What the engine knows of a function: its queue, how to run its jobs, and how long it is needed.

use super::deque::Taken;
use super::registry::Shared;
use super::run::swallow;
use super::worker::Worker;
use crate::job::origin;
use crate::queue::block::Shape;
use crate::queue::lane::{Lane, Span};
use crate::queue::pool::{Link, Pool};
use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, UnsafeCell};
use std::alloc::Layout;
use std::any::Any;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// A registered function, untyped: three cache lines. [`Vtable`] knows the types.
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
    pub(crate) index: u32,
    /// Flags in the low byte, the index of the function's record for handles above.
    tag: AtomicU32,
    refs: AtomicUsize,
    name: Box<str>,
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
    /// Gives the lane's block back if the lane is empty: whether the lane has none now.
    pub(crate) retire: unsafe fn(&Core) -> bool,
    /// Claims some queued jobs and runs them: `false` when the first one is reserved and not yet published.
    pub(crate) run_ready: unsafe fn(&Worker, &Core) -> bool,
    /// Runs claimed jobs.
    pub(crate) run_span: unsafe fn(&Worker, &Core, Span),
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
    /// How many jobs are queued.
    pub(crate) queued: unsafe fn(&Core) -> usize,
    /// Drops the body.
    pub(crate) drop_body: unsafe fn(*mut ()),
    /// The lane was closed: tells whoever waits for jobs.
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
            nodes: Pool::new(Layout::new::<Node<S>>(), if cfg!(layshaft_loom) { 2 } else { 32 }, init::<S>),
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
        &self.name
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
        // Ordering: Acquire, pairs with the Release in `drop_body`.
        self.body.load(Ordering::Acquire)
    }

    /// Refuses every later submit.
    pub(crate) fn close(&self) {
        self.lane.close();
        // SAFETY: the vtable was made for this core.
        unsafe { (self.vtable.closed)(self) };
    }

    /// Drops the body. Nothing runs the function any more.
    pub(crate) fn drop_body(&self) {
        // Ordering: AcqRel, exactly one caller gets the pointer.
        let body = self.body.swap(ptr::null_mut(), Ordering::AcqRel);
        if !body.is_null() {
            // SAFETY: the vtable was made for this body, and the swap gave it to this call alone.
            let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { (self.vtable.drop_body)(body) }));
            if let Err(payload) = dropped {
                swallow(payload);
            }
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
            index,
            tag: AtomicU32::new(u32::from(if recipe.pulled { PULLED } else { 0 }) | (origin << 8)),
            refs: AtomicUsize::new(1),
            name: name.into(),
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
        assert!(old < usize::MAX / 2, "too many references to one function");
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
