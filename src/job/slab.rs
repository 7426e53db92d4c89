//! Where result slots live: two process-wide pools (small and large), and a cache of free slots in each thread.
//!
//! Slots are process-wide because a handle may outlive its engine. The cache makes the common case, submit and wait on
//! one thread, touch nothing shared; a thread that frees more than it takes gives slots back in batches.

use super::slot::ResultSlot;
use crate::queue::pool::{Link, Pool};
use crate::sync::{UnsafeCell, global, local};
use std::alloc::Layout;
use std::ptr::NonNull;

/// Slots that a thread keeps at most; above this it gives half back.
const KEEP: usize = 2048;
/// Slots fetched at a time.
const FETCH: usize = 64;

/// The two sizes of slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Size {
    Small,
    Large,
}

/// Bit of a slot number that tells large slots from small ones.
const LARGE_BIT: u32 = 1 << 24;

impl Size {
    /// Bytes for the value.
    pub(crate) const fn value_bytes(self) -> usize {
        match self {
            Size::Small => 32,
            Size::Large => 224,
        }
    }

    fn pool(self) -> Pool {
        let bytes = (size_of::<ResultSlot>() + self.value_bytes()).next_multiple_of(64);
        let layout = Layout::from_size_align(bytes, 64).expect("a small constant layout");
        match self {
            Size::Small => Pool::new(layout, 64, init_small),
            Size::Large => Pool::new(layout, 16, init_large),
        }
    }
}

unsafe fn init_small(piece: NonNull<Link>) {
    // SAFETY: the pool passes fresh memory that starts with a link and is large enough.
    unsafe { ResultSlot::init(piece.cast(), Size::Small) }
}

unsafe fn init_large(piece: NonNull<Link>) {
    // SAFETY: as above.
    unsafe { ResultSlot::init(piece.cast(), Size::Large) }
}

global! {
    static SLABS: [Pool; 2] = [Size::Small.pool(), Size::Large.pool()];
}

/// A thread's free slots, by size.
struct Cache(UnsafeCell<[Vec<NonNull<Link>>; 2]>);

local! {
    static CACHE: Cache = Cache(UnsafeCell::new([Vec::new(), Vec::new()]));
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.0.with_mut(|lists| {
            for (i, pool) in SLABS.iter().enumerate() {
                // SAFETY: the thread is ending and nothing else holds the cache.
                let list = unsafe { &mut (&mut *lists)[i] };
                pool.spill(list, 0);
            }
        });
    }
}

/// A free slot.
///
/// # Panics
/// When 2^24 - 1 slots of this size are in use: over a gigabyte of results that nobody fetched.
#[inline(always)]
pub(crate) fn acquire(size: Size) -> NonNull<ResultSlot> {
    let cached = CACHE.try_with(|cache| {
        cache.0.with_mut(|lists| {
            // SAFETY: the cache is this thread's, and `pop` and `refill` do not call back into it.
            let list = unsafe { &mut (&mut *lists)[size as usize] };
            list.pop().or_else(|| fetch(size, list))
        })
    });
    // A thread whose locals are gone takes straight from the slab.
    let piece = cached.unwrap_or_else(|_| SLABS[size as usize].get());
    piece.expect("16,777,215 jobs have handles that were neither waited for nor dropped").cast()
}

#[cold]
fn fetch(size: Size, list: &mut Vec<NonNull<Link>>) -> Option<NonNull<Link>> {
    SLABS[size as usize].refill(list, FETCH);
    list.pop()
}

/// Takes a slot back that nobody will use.
#[inline(always)]
pub(crate) fn release(slot: NonNull<ResultSlot>, size: Size) {
    let piece: NonNull<Link> = slot.cast();
    let kept = CACHE.try_with(|cache| {
        cache.0.with_mut(|lists| {
            // SAFETY: as in `acquire`.
            let list = unsafe { &mut (&mut *lists)[size as usize] };
            list.push(piece);
            if list.len() > KEEP {
                SLABS[size as usize].spill(list, KEEP / 2);
            }
        })
    });
    if kept.is_err() {
        SLABS[size as usize].put(piece);
    }
}

/// The number of a slot, unique over both sizes.
pub(crate) fn number(index: u32, size: Size) -> u32 {
    match size {
        Size::Small => index,
        Size::Large => index | LARGE_BIT,
    }
}
