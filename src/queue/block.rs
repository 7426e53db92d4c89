//! A block: the unit in which a lane's memory comes and goes, a header and some job slots.

use super::pool::{Link, NIL, Pool};
use crate::job::slot::ResultSlot;
use crate::sync::{AtomicPtr, AtomicU32, Ordering, UnsafeCell};
use std::alloc::Layout;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// One queued job: who hears of it, and its argument.
#[repr(C)]
pub(crate) struct JobSlot<S> {
    /// Null: nothing here yet. [`detached`]: a job without a handle. Else the result slot of its handle.
    pub(crate) control: AtomicPtr<ResultSlot>,
    pub(crate) argument: UnsafeCell<MaybeUninit<S>>,
}

/// The control word of a job without a handle.
#[inline(always)]
pub(crate) fn detached() -> *mut ResultSlot {
    ptr::without_provenance_mut(1)
}

impl<S> JobSlot<S> {
    pub(crate) fn new() -> Self {
        JobSlot { control: AtomicPtr::new(ptr::null_mut()), argument: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Writes a job into a slot that the caller reserved, and publishes it.
    #[inline(always)]
    pub(crate) fn publish(&self, control: *mut ResultSlot, argument: S) {
        // SAFETY: the slot is reserved for this call alone, and nobody reads before the store below.
        self.argument.with_mut(|p| unsafe { p.cast::<S>().write(argument) });
        // Ordering: Release, pairs with the Acquire in `Lane::published`.
        self.control.store(control, Ordering::Release);
    }

    /// The control word, for a prefetch.
    #[inline(always)]
    pub(crate) fn peek(&self) -> *mut ResultSlot {
        // Ordering: Relaxed, the address is only prefetched.
        self.control.load(Ordering::Relaxed)
    }

    /// Moves the job out.
    ///
    /// # Safety
    /// The caller has claimed the slot and takes each job once.
    #[inline(always)]
    pub(crate) unsafe fn take(&self) -> (*mut ResultSlot, S) {
        // Ordering: Relaxed, the claimer acquired it in `Lane::published`; a revoker has that through the claim.
        let control = self.control.load(Ordering::Relaxed);
        debug_assert!(!control.is_null(), "a claim covers published slots only");
        // SAFETY: published, claimed by the caller, and moved out once.
        (control, self.argument.with(|p| unsafe { p.cast::<S>().read() }))
    }
}

/// What a block of `S` looks like.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) link: Link,
    /// The block that follows in the lane, [`NIL`] while undecided.
    pub(crate) next: AtomicU32,
    /// Slots done with, and one each for the tail and the head that have moved on; from [`UNUSED`] on, slots that were
    /// never published.
    pub(crate) done: AtomicU32,
}

/// One slot in `done` that was never published: its control word is clear.
const UNUSED: u32 = 1 << 16;

/// The layout of a block of `S`, and access to its slots.
pub(crate) struct Shape<S>(std::marker::PhantomData<S>);

impl<S> Shape<S> {
    /// Slots of a block: many small ones, few large ones, about 1 to 4 KiB in all.
    pub(crate) const CAPACITY: usize = if crate::sync::IS_MODEL {
        2
    } else {
        match size_of::<JobSlot<S>>() {
            0..=64 => 63,
            65..=128 => 31,
            129..=256 => 15,
            _ => 7,
        }
    };
    const ALIGN: usize = if align_of::<JobSlot<S>>() > 64 { align_of::<JobSlot<S>>() } else { 64 };
    const FIRST: usize = size_of::<Header>().next_multiple_of(align_of::<JobSlot<S>>());

    pub(crate) fn layout() -> Layout {
        let size = Self::FIRST + Self::CAPACITY * size_of::<JobSlot<S>>();
        Layout::from_size_align(size, Self::ALIGN).expect("a block fits in the address space").pad_to_align()
    }

    /// A pool of blocks of `S`. Blocks of another type with the same layout may share it: slots start with their
    /// control word, and sizes and places agree.
    pub(crate) fn pool() -> Pool {
        unsafe fn init<S>(piece: NonNull<Link>, link: Link) {
            let unused = Shape::<S>::CAPACITY as u32 * UNUSED;
            let header = Header { link, next: AtomicU32::new(NIL), done: AtomicU32::new(unused) };
            // SAFETY: fresh memory of a block's layout.
            unsafe { piece.cast().write(header) };
            for i in 0..Shape::<S>::CAPACITY {
                // SAFETY: as above; the slot lies inside the block.
                unsafe { Shape::<S>::slot_ptr(piece.cast(), i).write(JobSlot::new()) };
            }
        }
        Pool::new(Self::layout(), 1, init::<S>)
    }

    /// What tells two pools apart: blocks with equal keys are interchangeable.
    pub(crate) fn key() -> (Layout, usize) {
        (Self::layout(), size_of::<JobSlot<S>>())
    }

    #[inline(always)]
    fn slot_ptr(block: NonNull<Header>, i: usize) -> NonNull<JobSlot<S>> {
        debug_assert!(i < Self::CAPACITY);
        // SAFETY: every block of this shape has `CAPACITY` slots from `FIRST` on.
        unsafe { block.byte_add(Self::FIRST + i * size_of::<JobSlot<S>>()).cast() }
    }

    /// The `i`th slot.
    ///
    /// # Safety
    /// `block` is of this shape and its pool outlives `'a`.
    #[inline(always)]
    pub(crate) unsafe fn slot<'a>(block: NonNull<Header>, i: usize) -> &'a JobSlot<S> {
        // SAFETY: initialised by `pool`'s init and never freed before the pool; slots are shared by atomics.
        unsafe { Self::slot_ptr(block, i).as_ref() }
    }

    /// A block ready for use, or `None` when the pool is exhausted.
    pub(crate) fn fresh(pool: &Pool) -> Option<NonNull<Header>> {
        let block: NonNull<Header> = pool.get()?.cast();
        // SAFETY: pieces of this pool are blocks.
        let header = unsafe { block.as_ref() };
        // Ordering: Relaxed, visible through the pool.
        let unused = header.done.load(Ordering::Relaxed) / UNUSED;
        // Ordering: Relaxed, published with the link in `Lane::extend`.
        header.done.store(0, Ordering::Relaxed);
        for i in 0..Self::CAPACITY - unused as usize {
            // SAFETY: this pool's blocks have this shape.
            let slot = unsafe { Self::slot(block, i) };
            // Ordering: Relaxed, as above.
            slot.control.store(ptr::null_mut(), Ordering::Relaxed);
        }
        Some(block)
    }

    /// Counts `n` slots (or an end that moved on) as done with; the last recycles the block.
    ///
    /// # Safety
    /// `block` is of this pool, `n` is not 0, and the caller does not use these slots again.
    #[inline]
    pub(crate) unsafe fn finish(pool: &Pool, block: NonNull<Header>, n: usize) {
        debug_assert!(n > 0, "a block without slots of ours may be in its next use");
        // SAFETY: passed on.
        unsafe { Self::count(pool, block, n as u32) };
    }

    /// As [`finish`](Self::finish), for the last `n` slots of the block, of which none was published.
    ///
    /// # Safety
    /// As for `finish`.
    pub(crate) unsafe fn finish_unused(pool: &Pool, block: NonNull<Header>, n: usize) {
        // SAFETY: passed on.
        unsafe { Self::count(pool, block, n as u32 * (1 + UNUSED)) };
    }

    #[inline(always)]
    unsafe fn count(pool: &Pool, block: NonNull<Header>, n: u32) {
        // SAFETY: type-stable memory.
        let header = unsafe { block.as_ref() };
        // Ordering: AcqRel, Release so that our reads of the slots come before the reuse, Acquire so that the one that
        // recycles comes after everybody's.
        let before = header.done.fetch_add(n, Ordering::AcqRel);
        if (before + n) % UNUSED == Self::CAPACITY as u32 + 2 {
            // From here on a producer that still holds this block as its lane's last one may link a successor, which
            // then waits for the block's next use; see `Lane`.
            // Ordering: Relaxed, published by the pool. All that moved an end over the old link come before this (the
            // count above), so coherence keeps a later link from them.
            header.next.store(NIL, Ordering::Relaxed);
            pool.put(block.cast());
        }
    }
}
