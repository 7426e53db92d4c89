//! Type-stable memory: pieces of one shape, found by a 24-bit index, recycled through a lock-free stack.
//!
//! The stack is Treiber's (R. K. Treiber, *Systems Programming: Coping with Parallelism*, 1986) with a counter beside
//! the top index, so that a compare-exchange of a thread that slept through a pop and a push fails. Memory never goes
//! back to the allocator before the pool is dropped: a thread that lost a race may still read a piece's atomics.

use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::alloc::Layout;
use std::ptr::{self, NonNull};

/// The first field of every piece.
#[repr(C)]
pub(crate) struct Link {
    /// While the piece is free: the index of the piece below it. A piece in use may give the word another meaning, with
    /// values above [`NIL`].
    pub(crate) next: AtomicU32,
    /// This piece's own index, written once.
    pub(crate) index: u32,
}

/// No piece.
pub(crate) const NIL: u32 = 0xff_ffff;
/// Pieces in the first segment of the table; each later segment is twice as long.
const FIRST_SEGMENT: u32 = if crate::sync::IS_MODEL { 4 } else { 64 };
/// Enough segments for 2^24 pieces.
const SEGMENTS: usize = if crate::sync::IS_MODEL { 3 } else { 19 };

/// Makes a piece in fresh memory of the pool's layout, with this link as its first field.
pub(crate) type Init = unsafe fn(NonNull<Link>, Link);

/// Pieces of one layout.
pub(crate) struct Pool {
    layout: Layout,
    per_chunk: u32,
    init: Init,
    segments: [AtomicPtr<AtomicPtr<Link>>; SEGMENTS],
    made: AtomicU32,
    /// Index of the top free piece below, a change counter above.
    free: AtomicU64,
}

// SAFETY: the raw pointers are to memory that the pool owns, shared only through atomics.
unsafe impl Send for Pool {}
// SAFETY: as above; every method takes care of its own synchronisation.
unsafe impl Sync for Pool {}

impl Pool {
    /// A pool of pieces of `layout`, allocated `per_chunk` at a time. `layout` starts with a [`Link`].
    pub(crate) fn new(layout: Layout, per_chunk: u32, init: Init) -> Pool {
        Pool {
            layout: layout.pad_to_align(),
            per_chunk,
            init,
            segments: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            made: AtomicU32::new(0),
            free: AtomicU64::new(u64::from(NIL)),
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The entry of the table for `index`: segment and place in it.
    #[inline(always)]
    fn place(index: u32) -> (usize, usize) {
        let n = index + FIRST_SEGMENT;
        let segment = n.ilog2() - FIRST_SEGMENT.ilog2();
        (segment as usize, (n - (FIRST_SEGMENT << segment)) as usize)
    }

    /// The piece with this index, which some call of this pool returned.
    #[inline(always)]
    pub(crate) fn at(&self, index: u32) -> NonNull<Link> {
        let (segment, offset) = Self::place(index);
        // Ordering: Relaxed, `grow` wrote or acquired it before it gave the index out, and every index travels through
        // Release and Acquire.
        let table = self.segments[segment].load(Ordering::Relaxed);
        // SAFETY: an index exists only after its segment was installed, and `offset` is below the segment's length.
        let entry = unsafe { table.add(offset) };
        // SAFETY: inside the segment, which lives as long as the pool.
        let entry = unsafe { &*entry };
        // Ordering: Relaxed, as above.
        let piece = entry.load(Ordering::Relaxed);
        // SAFETY: `grow` stored the piece before it gave the index out.
        unsafe { NonNull::new_unchecked(piece) }
    }

    /// A free piece, or a new one. `None` when almost 2^24 pieces are in use.
    pub(crate) fn get(&self) -> Option<NonNull<Link>> {
        self.pop(1).map(|(piece, _)| piece).or_else(|| self.grow(|extra| self.push(extra.0, extra.1)))
    }

    /// Gives back a piece that nobody else will use.
    pub(crate) fn put(&self, piece: NonNull<Link>) {
        self.push(piece, piece);
    }

    /// Fills `cache` with `n` pieces at most, at least one unless the pool is exhausted.
    pub(crate) fn refill(&self, cache: &mut Vec<NonNull<Link>>, n: usize) {
        match self.pop(n) {
            Some((mut piece, count)) => {
                for _ in 1..count {
                    cache.push(piece);
                    // SAFETY: the chain of `count` pieces is ours since the pop.
                    let link = unsafe { piece.as_ref() };
                    // Ordering: Relaxed, acquired by the pop.
                    piece = self.at(link.next.load(Ordering::Relaxed));
                }
                cache.push(piece);
            }
            None => cache.extend(self.grow(|extra| self.push(extra.0, extra.1))),
        }
    }

    /// Gives back all pieces from `from` on.
    pub(crate) fn spill(&self, cache: &mut Vec<NonNull<Link>>, from: usize) {
        let Some((&first, &last)) = cache.get(from).zip(cache.last()) else { return };
        for pair in cache[from..].windows(2) {
            // SAFETY: cached pieces are free and ours.
            let link = unsafe { pair[0].as_ref() };
            // SAFETY: as above.
            let below = unsafe { pair[1].as_ref() }.index;
            // Ordering: Release, pairs with the Acquire of a stale reader in `pop`.
            link.next.store(below, Ordering::Release);
        }
        cache.truncate(from);
        self.push(first, last);
    }

    /// Takes up to `n` pieces off the top: the first of the chain and its length.
    fn pop(&self, n: usize) -> Option<(NonNull<Link>, usize)> {
        // Ordering: Acquire, pairs with the Release in `push`: the links below the top are visible.
        let mut top = self.free.load(Ordering::Acquire);
        loop {
            let first = top as u32;
            if first == NIL {
                return None;
            }
            // A piece on the way may be popped and reused meanwhile; then its link is noise, and the exchange fails.
            let (mut below, mut count) = (first, 0);
            while below != NIL && count < n {
                // SAFETY: type-stable memory, the link is atomic.
                let link = unsafe { self.at(below).as_ref() };
                // Ordering: Acquire, pairs with the Release in `push` and `spill`: even a stale value, which the exchange
                // refuses, names a piece that `at` finds.
                let next = link.next.load(Ordering::Acquire);
                if next > NIL {
                    break;
                }
                below = next;
                count += 1;
            }
            let new = (top & !u64::from(u32::MAX)).wrapping_add(1 << 32) | u64::from(below);
            // Ordering: Acquire on success, pairs with `push`; the counter in the word refuses a reused top.
            match self.free.compare_exchange_weak(top, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) if count > 0 => return Some((self.at(first), count)),
                Ok(_) => unreachable!("a chain that did not change has at least its top"),
                Err(seen) => top = seen,
            }
        }
    }

    /// Puts the chain from `first` to `last` on top.
    fn push(&self, first: NonNull<Link>, last: NonNull<Link>) {
        // SAFETY: the pieces are the caller's.
        let index = unsafe { first.as_ref() }.index;
        // SAFETY: as above.
        let last = unsafe { last.as_ref() };
        // Ordering: Acquire, pairs with the Release of the push that put the top there: who reads its index in our link
        // finds the piece.
        let mut top = self.free.load(Ordering::Acquire);
        loop {
            // Ordering: Release, pairs with the Acquire of a stale reader in `pop`.
            last.next.store(top as u32, Ordering::Release);
            let new = (top & !u64::from(u32::MAX)).wrapping_add(1 << 32) | u64::from(index);
            // Ordering: Release on success, pairs with the Acquire in `pop`; Acquire on failure, as for the load above.
            match self.free.compare_exchange_weak(top, new, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return,
                Err(seen) => top = seen,
            }
        }
    }

    /// Allocates a chunk: returns its first piece and hands the others to `rest`, linked in a chain.
    #[cold]
    fn grow(&self, rest: impl FnOnce((NonNull<Link>, NonNull<Link>))) -> Option<NonNull<Link>> {
        // Ordering: Relaxed, only uniqueness matters; the pieces are published through the table.
        let first = self.made.fetch_add(self.per_chunk, Ordering::Relaxed);
        if first.checked_add(self.per_chunk).is_none_or(|end| end >= NIL) {
            // Ordering: Relaxed, undoes the reservation above; indices past the end are never used.
            self.made.fetch_sub(self.per_chunk, Ordering::Relaxed);
            return None;
        }
        let (chunk, _) = self.chunk_layout();
        // SAFETY: a piece holds a link at least, so the layout is not empty.
        let base = unsafe { std::alloc::alloc_zeroed(chunk) };
        let Some(base) = NonNull::new(base) else { std::alloc::handle_alloc_error(chunk) };
        let piece = |i: u32| -> NonNull<Link> {
            // SAFETY: `i` is below `per_chunk`, so this stays inside the chunk.
            unsafe { base.add(i as usize * self.layout.size()) }.cast()
        };
        for i in 0..self.per_chunk {
            let index = first + i;
            let next = if i + 1 < self.per_chunk { index + 1 } else { NIL };
            // SAFETY: fresh memory of the pool's layout.
            unsafe { (self.init)(piece(i), Link { next: AtomicU32::new(next), index }) };
            let (segment, offset) = Self::place(index);
            // SAFETY: `offset` is below the segment's length.
            let entry = unsafe { self.segment(segment).add(offset) };
            // SAFETY: inside the segment, which lives as long as the pool.
            let entry = unsafe { &*entry };
            // Ordering: Relaxed, published with the index, see `at`.
            entry.store(piece(i).as_ptr(), Ordering::Relaxed);
        }
        if self.per_chunk > 1 {
            rest((piece(1), piece(self.per_chunk - 1)));
        }
        Some(piece(0))
    }

    /// The table segment, made when missing.
    fn segment(&self, segment: usize) -> *mut AtomicPtr<Link> {
        // Ordering: Acquire, pairs with the Release of the thread that installed it.
        let seen = self.segments[segment].load(Ordering::Acquire);
        if !seen.is_null() {
            return seen;
        }
        let length = (FIRST_SEGMENT as usize) << segment;
        let fresh: Box<[AtomicPtr<Link>]> = (0..length).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        let fresh = Box::into_raw(fresh);
        // Ordering: Release, pairs with the Acquire load above; Acquire on failure for the winner's table.
        let won =
            self.segments[segment].compare_exchange(ptr::null_mut(), fresh.cast(), Ordering::AcqRel, Ordering::Acquire);
        match won {
            Ok(_) => fresh.cast(),
            Err(winner) => {
                // SAFETY: made above and not shared.
                drop(unsafe { Box::from_raw(fresh) });
                winner
            }
        }
    }

    /// Layout of a chunk and the distance of its pieces.
    fn chunk_layout(&self) -> (Layout, usize) {
        let size = self.layout.size() * self.per_chunk as usize;
        (
            Layout::from_size_align(size, self.layout.align()).expect("a chunk fits in the address space"),
            self.layout.size(),
        )
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let (chunk, _) = self.chunk_layout();
        // Ordering: Relaxed, `&mut self`: nobody else is left.
        let made = self.made.load(Ordering::Relaxed);
        for index in (0..made).step_by(self.per_chunk as usize) {
            // SAFETY: the first piece of a chunk is the address that was allocated with this layout.
            unsafe { std::alloc::dealloc(self.at(index).as_ptr().cast(), chunk) };
        }
        for (segment, table) in self.segments.iter().enumerate() {
            // Ordering: Relaxed, as above.
            let table = table.load(Ordering::Relaxed);
            if !table.is_null() {
                let length = (FIRST_SEGMENT as usize) << segment;
                // SAFETY: made by `segment` as a boxed slice of this length.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(table, length)) });
            }
        }
    }
}
