//! Where result slots live: three process-wide pools, one a size, and a cache of free slots in each thread.
//!
//! Slots are process-wide because a handle may outlive its engine. The cache makes the common case, submit and wait on
//! one thread, touch nothing shared; a thread that frees more than it takes gives slots back in batches.

use super::slot::ResultSlot;
use crate::queue::pool::{Init, Link, Pool};
use crate::sync::{UnsafeCell, global, local};
use std::alloc::Layout;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Slots of a size that a thread keeps at most if it submits jobs; above this it gives half back.
const KEEP: usize = if crate::sync::IS_MODEL { 4 } else { 2048 };
/// The same for a thread that only frees slots, as a worker does: they are wanted elsewhere.
const KEEP_FREED: usize = if crate::sync::IS_MODEL { 2 } else { 128 };
/// Slots fetched at a time.
const FETCH: usize = if crate::sync::IS_MODEL { 2 } else { 64 };

/// The sizes of slot: 32, 64 and 256 bytes, of which 16 are the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Size {
    Tiny,
    Small,
    Large,
}

/// Where the size stands in a slot's number.
const SIZE_SHIFT: u32 = 24;

impl Size {
    /// Bytes for the value, at least a waker's.
    pub(crate) const fn value_bytes(self) -> usize {
        match self {
            Size::Tiny => 16,
            Size::Small => 48,
            Size::Large => 240,
        }
    }

    fn pool(self) -> Pool {
        let bytes = (size_of::<ResultSlot>() + self.value_bytes()).next_multiple_of(32);
        let layout = Layout::from_size_align(bytes, bytes.min(64)).expect("a small constant layout");
        let (per_chunk, init): (u32, Init) = match self {
            Size::Tiny => (64, init_tiny),
            Size::Small => (64, init_small),
            Size::Large => (16, init_large),
        };
        Pool::new(layout, if crate::sync::IS_MODEL { 2 } else { per_chunk }, init)
    }
}

unsafe fn init_tiny(piece: NonNull<Link>, link: Link) {
    // SAFETY: the pool passes fresh memory of the layout above.
    unsafe { piece.cast().write(ResultSlot::new(link, Size::Tiny)) }
}

unsafe fn init_small(piece: NonNull<Link>, link: Link) {
    // SAFETY: as above.
    unsafe { piece.cast().write(ResultSlot::new(link, Size::Small)) }
}

unsafe fn init_large(piece: NonNull<Link>, link: Link) {
    // SAFETY: as above.
    unsafe { piece.cast().write(ResultSlot::new(link, Size::Large)) }
}

global! {
    static SLABS: [Pool; 3] = [Size::Tiny.pool(), Size::Small.pool(), Size::Large.pool()];
}

/// A thread's free slots, by size. Without a destructor, so that reaching it costs nothing: [`Flush`] gives them back.
struct Cache {
    lists: UnsafeCell<[ManuallyDrop<Vec<NonNull<Link>>>; 3]>,
    /// The thread is ending: nothing is kept any more.
    closed: Cell<bool>,
}

local! {
    static CACHE: Cache = Cache {
        lists: UnsafeCell::new([const { ManuallyDrop::new(Vec::new()) }; 3]),
        closed: Cell::new(false),
    };
}

local! {
    static FLUSH: Flush = Flush;
}

/// Gives the thread's free slots back when the thread ends.
struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        // Under the model checker the cache may be gone before this.
        let _ = CACHE.try_with(|cache| {
            cache.closed.set(true);
            cache.lists.with_mut(|lists| {
                for (i, pool) in SLABS.iter().enumerate() {
                    // SAFETY: the cache is this thread's, and nothing below calls back into it.
                    let list = unsafe { &mut (&mut *lists)[i] };
                    pool.spill(list, 0);
                    **list = Vec::new();
                }
            });
        });
    }
}

/// A free slot; `None` when 2^24 - 1 slots of this size are in use.
#[inline(always)]
pub(crate) fn acquire(size: Size) -> Option<NonNull<ResultSlot>> {
    CACHE.with(|cache| {
        cache.lists.with_mut(|lists| {
            // SAFETY: the cache is this thread's, and neither `pop` nor `fetch` calls back into it.
            let list = unsafe { &mut (&mut *lists)[size as usize] };
            list.pop().or_else(|| fetch(size, list, &cache.closed)).map(NonNull::cast)
        })
    })
}

#[cold]
#[inline(never)]
fn fetch(size: Size, list: &mut Vec<NonNull<Link>>, closed: &Cell<bool>) -> Option<NonNull<Link>> {
    let slab = &SLABS[size as usize];
    if closed.get() {
        slab.get().inspect(|piece| ResultSlot::reset(piece.cast()))
    } else {
        prepare(list, KEEP);
        slab.refill(list, FETCH);
        list.iter().for_each(|piece| ResultSlot::reset(piece.cast()));
        list.pop()
    }
}

/// Makes room in a list, and has it flushed when the thread ends.
fn prepare(list: &mut Vec<NonNull<Link>>, room: usize) {
    if list.capacity() < room {
        list.reserve_exact(room - list.len());
        FLUSH.with(|_| ());
    }
}

/// Takes a slot back that nobody will use.
#[inline(always)]
pub(crate) fn release(slot: NonNull<ResultSlot>, size: Size) {
    CACHE.with(|cache| {
        cache.lists.with_mut(|lists| {
            // SAFETY: as in `acquire`.
            let list = unsafe { &mut (&mut *lists)[size as usize] };
            if list.len() == list.capacity() {
                return spill(slot, size, list, &cache.closed);
            }
            list.push(slot.cast());
        });
    });
}

/// The list is full, or not made yet.
#[cold]
#[inline(never)]
fn spill(slot: NonNull<ResultSlot>, size: Size, list: &mut Vec<NonNull<Link>>, closed: &Cell<bool>) {
    let slab = &SLABS[size as usize];
    if closed.get() {
        return slab.put(slot.cast());
    }
    prepare(list, KEEP_FREED);
    slab.spill(list, list.len() / 2);
    list.push(slot.cast());
}

/// The number of a slot, unique over all sizes.
pub(crate) fn number(index: u32, size: Size) -> u32 {
    index | ((size as u32) << SIZE_SHIFT)
}
