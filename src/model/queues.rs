//! Queues of plain values: lanes, deques, claims, and the ready set.

use crate::queue::block::{Header, Shape, detached};
use crate::queue::lane::{self, Lane};
use crate::queue::pool::{Link, NIL, Pool};
use crate::sched::claim::{self, Claim};
use crate::sched::deque;
use crate::sched::ready::ReadySet;
use crate::sync::{Ordering, UnsafeCell};
use std::alloc::Layout;
use std::collections::HashSet;
use std::ptr::NonNull;
use std::sync::Arc;

/// A lane with the pool of its blocks.
pub struct Queue<T> {
    lane: Lane,
    pool: Arc<Pool>,
    values: std::marker::PhantomData<fn(T)>,
}

impl<T> Queue<T> {
    pub fn new() -> Self {
        Self::sharing(Arc::new(Shape::<T>::pool()))
    }

    fn sharing(pool: Arc<Pool>) -> Self {
        Queue { lane: Lane::new(), pool, values: std::marker::PhantomData }
    }

    /// Another lane on the same pool.
    pub fn sibling(&self) -> Self {
        Self::sharing(Arc::clone(&self.pool))
    }

    pub fn push(&self, value: T) -> Result<(), T> {
        self.lane.push(&self.pool, detached(), value).map_err(|(_, value)| value)
    }

    /// Reserves room for as many of `values` as go in one block, then publishes them.
    pub fn push_batch(&self, values: &mut Vec<T>) -> bool {
        let Ok(span) = self.lane.reserve::<T>(&self.pool, values.len()) else { return false };
        for (i, value) in (span.start..).zip(values.drain(..span.len)) {
            // SAFETY: reserved above.
            unsafe { Shape::<T>::slot(span.block, i) }.publish(detached(), value);
        }
        true
    }

    /// Claims up to `max` values.
    pub fn claim(&self, max: usize) -> Vec<T> {
        let lane::Claim::Jobs(span) = self.lane.claim::<T>(&self.pool, max) else { return Vec::new() };
        let take = |i| {
            // SAFETY: claimed above.
            let slot = unsafe { Shape::<T>::slot(span.block, i) };
            // SAFETY: as above, once.
            unsafe { slot.take() }.1
        };
        let values = (span.start..span.start + span.len).map(take).collect();
        // SAFETY: taken above.
        unsafe { Shape::<T>::finish(&self.pool, span.block, span.len) };
        values
    }

    pub fn close(&self) {
        self.lane.close();
    }

    pub fn is_empty(&self) -> bool {
        self.lane.is_empty::<T>()
    }

    pub fn retire(&self) -> bool {
        self.lane.retire::<T>(&self.pool)
    }

    /// Blocks that are neither free nor linked behind a free one: those in use, or lost. Call it when nobody else is
    /// at it.
    pub fn blocks_out(&self) -> usize {
        const MANY: usize = 12;
        // More than are free, so that the last one is new and has the highest index.
        let free: Vec<_> = (0..MANY).filter_map(|_| self.pool.get()).collect();
        let index = |piece: &NonNull<Link>| {
            // SAFETY: a piece of this pool, which nobody else has.
            unsafe { piece.as_ref() }.index
        };
        let highest = free.iter().map(index).max().expect("the pool is not exhausted");
        let mut found: HashSet<u32> = HashSet::new();
        for piece in &free {
            let mut at = index(piece);
            while at < NIL && found.insert(at) {
                // SAFETY: pieces of this pool are blocks.
                let header = unsafe { self.pool.at(at).cast::<Header>().as_ref() };
                // Ordering: Relaxed, nobody else is at it.
                at = header.next.load(Ordering::Relaxed);
            }
        }
        free.iter().for_each(|piece| self.pool.put(*piece));
        highest as usize + 1 - found.len()
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A pool of pieces that notice when two threads use one at a time.
pub struct Stack(Pool);

#[repr(C)]
struct Piece {
    link: Link,
    uses: UnsafeCell<u32>,
}

unsafe fn init_piece(piece: NonNull<Link>, link: Link) {
    // SAFETY: fresh memory of a piece's layout.
    unsafe { piece.cast().write(Piece { link, uses: UnsafeCell::new(0) }) }
}

/// A piece in use.
pub struct Held(NonNull<Link>);

// SAFETY: whoever holds a piece is its only user; the cell in it reports others.
unsafe impl Send for Held {}

impl Held {
    pub fn index(&self) -> u32 {
        self.piece().link.index
    }

    fn piece(&self) -> &Piece {
        // SAFETY: made by `init_piece`; the pool outlives the model's threads.
        unsafe { self.0.cast().as_ref() }
    }

    /// Writes to the piece.
    pub fn touch(&self) {
        // SAFETY: held by this thread alone; loom checks it.
        self.piece().uses.with_mut(|uses| unsafe { *uses += 1 });
    }
}

impl Stack {
    pub fn new(per_chunk: u32) -> Self {
        Stack(Pool::new(Layout::new::<Piece>(), per_chunk, init_piece))
    }

    pub fn get(&self) -> Held {
        let held = Held(self.0.get().expect("a model needs few pieces"));
        held.touch();
        held
    }

    pub fn put(&self, held: Held) {
        held.touch();
        self.0.put(held.0);
    }

    pub fn refill(&self, n: usize) -> Vec<Held> {
        let mut cache = Vec::new();
        self.0.refill(&mut cache, n);
        let held: Vec<Held> = cache.into_iter().map(Held).collect();
        held.iter().for_each(Held::touch);
        held
    }

    pub fn spill(&self, held: Vec<Held>) {
        held.iter().for_each(Held::touch);
        self.0.spill(&mut held.into_iter().map(|held| held.0).collect(), 0);
    }
}

/// A deque of numbers from 1 on. All but `steal` are the owner's.
pub struct Deque(deque::Deque<u8>);

/// A pointer that tells numbers apart and leads nowhere.
fn mark<T>(n: usize) -> NonNull<T> {
    NonNull::new(std::ptr::without_provenance_mut((n + 1) << 4)).expect("at least 16")
}

impl Deque {
    pub fn new() -> Self {
        let deque = deque::Deque::new();
        // SAFETY: nobody else has it yet.
        unsafe { deque.prepare() };
        Deque(deque)
    }

    /// Each job is of a function of its own.
    pub fn push(&self, n: u64) -> bool {
        // SAFETY: the model calls it on the owner's thread.
        unsafe { self.0.push(mark(n as usize), mark(n as usize).as_ptr(), n) }.is_ok()
    }

    fn empty(taken: deque::Taken<'_, u8>) -> u64 {
        // SAFETY: pushed as a number.
        let (control, n) = unsafe { taken.empty::<u64>() };
        assert_eq!(control, mark(n as usize).as_ptr(), "another entry's control word");
        n
    }

    pub fn pop(&self) -> Option<u64> {
        // SAFETY: the model calls it on the owner's thread.
        unsafe { self.0.pop() }.map(Self::empty)
    }

    pub fn steal(&self) -> Option<u64> {
        self.0.steal().map(Self::empty)
    }

    /// Whether `n` is there, as the collector of removed functions asks.
    pub fn mentions(&self, n: u64) -> bool {
        self.0.mentions(mark(n as usize).as_ptr())
    }

    /// Makes `n` the newest entry.
    pub fn raise(&self, n: u64) -> bool {
        // SAFETY: the model calls it on the owner's thread.
        unsafe { self.0.raise(mark(n as usize).as_ptr()) }
    }

    /// Makes `n` the newest entry and pops it, as a job does that waits for another.
    pub fn help(&self, n: u64) -> Option<u64> {
        self.raise(n).then(|| self.pop()).flatten()
    }
}

impl Default for Deque {
    fn default() -> Self {
        Self::new()
    }
}

/// A claim of numbered jobs. All but `revoke` are the owner's.
pub struct Claims(Claim<u8, u16>);

/// What the owner has left.
pub struct Open(claim::Remaining);

impl Claims {
    pub fn new() -> Self {
        Claims(Claim::new())
    }

    /// `lot` stands for the function and the block.
    pub fn open(&self, lot: usize, start: usize, len: usize) -> Open {
        Open(self.0.open(mark(lot), mark(lot), start, len))
    }

    pub fn start(&self, open: &mut Open) -> Option<usize> {
        self.0.start(&mut open.0)
    }

    pub fn close(&self) {
        self.0.close();
    }

    /// Jobs of a lot that nobody has started or taken.
    pub fn unstarted(&self, lot: usize) -> usize {
        self.0.unstarted(mark::<u8>(lot).as_ptr())
    }

    /// Lot, first job and number of jobs taken.
    pub fn revoke(&self) -> Option<(usize, usize, usize)> {
        let taken = self.0.revoke(|function| function)?;
        assert_eq!(taken.function.addr(), taken.block.addr(), "the function of one claim, the block of another");
        Some(((taken.block.addr().get() >> 4) - 1, taken.start, taken.len))
    }
}

impl Default for Claims {
    fn default() -> Self {
        Self::new()
    }
}

/// The ready set.
pub struct Ready(ReadySet);

impl Ready {
    pub fn new(functions: usize) -> Self {
        let set = ReadySet::new();
        (0..functions).for_each(|i| set.cover(i));
        Ready(set)
    }

    pub fn set(&self, i: usize) -> bool {
        self.0.set(i)
    }

    pub fn clear(&self, i: usize) {
        self.0.clear(i);
    }

    /// As a worker that may have emptied the lane.
    pub fn settle<T>(&self, i: usize, queue: &Queue<T>, announce: impl FnOnce()) -> bool {
        self.0.settle(i, || queue.is_empty(), announce)
    }

    pub fn next(&self, from: usize) -> Option<usize> {
        self.0.next(from)
    }

    pub fn any(&self) -> bool {
        self.0.any()
    }

    pub fn tidy(&self) -> bool {
        self.0.tidy()
    }
}
