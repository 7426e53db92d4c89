//! Queues of plain values: lanes, deques, claims, and the ready set.

use crate::queue::block::{Header, Shape, detached};
use crate::queue::lane::{self, Lane};
use crate::queue::pool::{Link, NIL, Pool};
use crate::sched::claim::{self, Claim};
use crate::sched::deque;
use crate::sched::ready::ReadySet;
use crate::sync::Ordering;
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

/// A deque of numbers. `push` and `pop` are the owner's.
pub struct Deque(deque::Deque<u8>);

impl Deque {
    pub fn new() -> Self {
        Deque(deque::Deque::new())
    }

    pub fn push(&self, n: u64) -> bool {
        // SAFETY: the model calls it on the owner's thread.
        unsafe { self.0.push(NonNull::dangling(), detached(), n) }.is_ok()
    }

    pub fn pop(&self) -> Option<u64> {
        // SAFETY: the model calls it on the owner's thread.
        let taken = unsafe { self.0.pop() }?;
        // SAFETY: pushed as a number.
        Some(unsafe { taken.empty::<u64>() }.1)
    }

    pub fn steal(&self) -> Option<u64> {
        let taken = self.0.steal()?;
        // SAFETY: pushed as a number.
        Some(unsafe { taken.empty::<u64>() }.1)
    }
}

impl Default for Deque {
    fn default() -> Self {
        Self::new()
    }
}

/// A claim of numbered jobs. All but `revoke` are the owner's.
pub struct Claims(Claim<u8, u8>);

/// What the owner has left.
pub struct Open(claim::Remaining);

impl Claims {
    pub fn new() -> Self {
        Claims(Claim::new())
    }

    pub fn open(&self, start: usize, len: usize) -> Open {
        Open(self.0.open(NonNull::dangling(), NonNull::dangling(), start, len))
    }

    pub fn start(&self, open: &mut Open) -> Option<usize> {
        self.0.start(&mut open.0)
    }

    pub fn close(&self) {
        self.0.close();
    }

    /// First job and number of jobs taken.
    pub fn revoke(&self) -> Option<(usize, usize)> {
        self.0.revoke(|_| ()).map(|taken| (taken.start, taken.len))
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

    pub fn next(&self, from: usize) -> Option<usize> {
        self.0.next(from)
    }

    pub fn any(&self) -> bool {
        self.0.any()
    }

    pub fn tidy(&self) {
        self.0.tidy();
    }
}
