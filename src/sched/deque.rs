//! A worker's own queue of nested jobs: the owner pushes and pops at one end, thieves take from the other.
//!
//! Chase and Lev, *Dynamic Circular Work-Stealing Deque* (SPAA 2005), bounded, with the orderings of Lê, Pop, Cohen and
//! Zappa Nardelli, *Correct and Efficient Work-Stealing for Weak Memory Models* (PPoPP 2013), and two changes:
//!
//! * the full fence of the owner's pop is the light half of an asymmetric pair, its heavy half is in `steal`;
//! * every store of `bottom` is a Release: a thief that reads a value which `pop` stored must see the entries that
//!   earlier pushes wrote, and since C++20 a later relaxed store does not continue a release.
//!
//! Entries are two words, function and node, never a job's bytes: a thief reads them before it knows that they are its.

use crate::sync::{AtomicPtr, AtomicU64, Ordering, fence_heavy, fence_light};
use crossbeam_utils::CachePadded;
use std::ptr::{self, NonNull};

/// Jobs a deque holds; more overflow to their function's queue.
pub(crate) const CAPACITY: usize = if cfg!(layshaft_loom) { 4 } else { 4096 };

/// The deque of one worker. `F` is the function, `N` the node.
pub(crate) struct Deque<F, N> {
    /// The oldest entry; thieves advance it.
    top: CachePadded<AtomicU64>,
    /// One past the newest entry; only the owner writes it.
    bottom: CachePadded<AtomicU64>,
    entries: Box<[Entry<F, N>]>,
}

struct Entry<F, N> {
    function: AtomicPtr<F>,
    node: AtomicPtr<N>,
}

/// What an entry refers to.
pub(crate) type Pair<F, N> = (NonNull<F>, NonNull<N>);

impl<F, N> Deque<F, N> {
    pub(crate) fn new() -> Self {
        let entry = |_| Entry { function: AtomicPtr::new(ptr::null_mut()), node: AtomicPtr::new(ptr::null_mut()) };
        Deque {
            // One, so that `bottom - 1` never wraps.
            top: CachePadded::new(AtomicU64::new(1)),
            bottom: CachePadded::new(AtomicU64::new(1)),
            entries: (0..CAPACITY).map(entry).collect(),
        }
    }

    #[inline(always)]
    fn entry(&self, i: u64) -> &Entry<F, N> {
        &self.entries[i as usize % CAPACITY]
    }

    /// Adds the newest entry: `false` when the deque is full.
    ///
    /// # Safety
    /// The caller is the owner.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, (function, node): Pair<F, N>) -> bool {
        // Ordering: Relaxed, only the owner writes it.
        let bottom = self.bottom.load(Ordering::Relaxed);
        // Ordering: Acquire, pairs with the exchange in `steal`: the thief has read the entry that is overwritten here.
        if bottom - self.top.load(Ordering::Acquire) >= CAPACITY as u64 {
            return false;
        }
        let entry = self.entry(bottom);
        // Ordering: Relaxed, released by the store of `bottom`.
        entry.function.store(function.as_ptr(), Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        entry.node.store(node.as_ptr(), Ordering::Relaxed);
        // Ordering: Release, pairs with the Acquire of `bottom` in `steal`.
        self.bottom.store(bottom + 1, Ordering::Release);
        true
    }

    /// Takes the newest entry.
    ///
    /// # Safety
    /// The caller is the owner.
    #[inline(always)]
    pub(crate) unsafe fn pop(&self) -> Option<Pair<F, N>> {
        // Ordering: Relaxed, only the owner writes it.
        let bottom = self.bottom.load(Ordering::Relaxed) - 1;
        // Ordering: Relaxed, a hint that saves the fence on an empty deque: `top` only grows.
        if bottom < self.top.load(Ordering::Relaxed) {
            return None;
        }
        // Ordering: Release, see the module; the fence orders it before the load of `top`.
        self.bottom.store(bottom, Ordering::Release);
        fence_light();
        // Ordering: Relaxed, ordered by the fence; pairs with `fence_heavy` in `steal`.
        let top = self.top.load(Ordering::Relaxed);
        if top > bottom {
            // Ordering: Release, see the module.
            self.bottom.store(bottom + 1, Ordering::Release);
            return None;
        }
        let entry = self.read(bottom);
        if top == bottom {
            // The last entry: a thief may be after it too.
            // Ordering: SeqCst, in one order with the thieves' exchanges; Relaxed on failure, a thief has it.
            let won = self.top.compare_exchange(top, top + 1, Ordering::SeqCst, Ordering::Relaxed).is_ok();
            // Ordering: Release, see the module.
            self.bottom.store(bottom + 1, Ordering::Release);
            return won.then_some(entry).flatten();
        }
        entry
    }

    /// How many entries are newer than the newest one that `is_it` accepts. A thief may take it meanwhile.
    ///
    /// # Safety
    /// The caller is the owner.
    pub(crate) unsafe fn depth_of(&self, is_it: impl Fn(Pair<F, N>) -> bool) -> Option<usize> {
        // Ordering: Relaxed, only the owner writes it.
        let bottom = self.bottom.load(Ordering::Relaxed);
        // Ordering: Acquire, pairs with the exchange in `steal`.
        let top = self.top.load(Ordering::Acquire);
        (top..bottom).rev().position(|i| self.read(i).is_some_and(&is_it))
    }

    /// Takes the oldest entry.
    pub(crate) fn steal(&self) -> Option<Pair<F, N>> {
        loop {
            // Ordering: Acquire, pairs with the exchanges of other thieves.
            let top = self.top.load(Ordering::Acquire);
            // Ordering: Relaxed, a hint that saves the heavy fence.
            if top >= self.bottom.load(Ordering::Relaxed) {
                return None;
            }
            fence_heavy();
            // Ordering: Acquire, pairs with the Release stores of the owner: the entries are visible.
            let bottom = self.bottom.load(Ordering::Acquire);
            if top >= bottom {
                return None;
            }
            // Might be torn by the owner that wraps around; then `top` has moved and the exchange fails.
            let entry = self.read(top);
            // Ordering: SeqCst, in one order with `pop`'s; Relaxed on failure, somebody else has the entry.
            if self.top.compare_exchange(top, top + 1, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                return entry;
            }
        }
    }

    #[inline(always)]
    fn read(&self, i: u64) -> Option<Pair<F, N>> {
        let entry = self.entry(i);
        // Ordering: Relaxed, visible through `bottom`.
        let function = NonNull::new(entry.function.load(Ordering::Relaxed))?;
        // Ordering: Relaxed, as above.
        Some((function, NonNull::new(entry.node.load(Ordering::Relaxed))?))
    }

    /// Whether it looks empty to a thief.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        // Ordering: Relaxed, a hint, or ordered by the caller's `fence_heavy` (`Worker::look_again`).
        let top = self.top.load(Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        top >= self.bottom.load(Ordering::Relaxed)
    }

    /// Whether any entry refers to `function`, for a caller who knows that none is being added.
    pub(crate) fn mentions(&self, function: *const F) -> bool {
        // Ordering: Acquire, pairs with the owner's Release stores of `bottom` and the thieves' exchanges.
        let top = self.top.load(Ordering::Acquire);
        // Ordering: Acquire, as above.
        let bottom = self.bottom.load(Ordering::Acquire);
        // Ordering: Relaxed, visible through `bottom`.
        (top..bottom).any(|i| ptr::eq(self.entry(i).function.load(Ordering::Relaxed), function))
    }
}
