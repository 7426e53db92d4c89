//! The ready set: which functions have queued jobs, as a three-level bitmap.
//!
//! A leaf bit is set by the submit that finds it clear, after the job was reserved (`Lane::reserve`), and cleared by the
//! worker that found the lane empty, which then looks at the lane once more. Both sides do a SeqCst read-modify-write
//! followed by a load of the other's word, so one of them sees the other and no job stays without its bit.
//!
//! The two upper levels say where to look. They are set behind the leaf in the same way and cleared lazily, only by a
//! worker that found nothing and is about to sleep (`ReadySet::tidy`): while work flows they cost nothing.

use crate::sync::{AtomicPtr, AtomicU64, Ordering, load_after_rmw};
use crossbeam_utils::CachePadded;
use std::ptr;

/// Leaf words of a group.
const LEAVES: usize = if crate::sync::IS_MODEL { 2 } else { 64 };
/// Functions of a group.
const GROUP: usize = LEAVES * 64;
/// Groups at most.
const GROUPS: usize = if crate::sync::IS_MODEL { 2 } else { 64 };
/// Functions at most.
pub(crate) const LIMIT: usize = GROUP * GROUPS;

/// Functions with queued jobs.
pub(crate) struct ReadySet {
    /// One bit a group.
    root: CachePadded<AtomicU64>,
    groups: [AtomicPtr<Group>; GROUPS],
}

struct Group {
    /// One bit a leaf word.
    summary: CachePadded<AtomicU64>,
    /// One bit a function; a line a word, so that busy functions of different words do not disturb each other.
    leaves: [CachePadded<AtomicU64>; LEAVES],
}

impl ReadySet {
    pub(crate) fn new() -> ReadySet {
        ReadySet {
            root: CachePadded::new(AtomicU64::new(0)),
            groups: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        }
    }

    /// Makes room for function `index`. Calls are serialised by the registry.
    pub(crate) fn cover(&self, index: usize) {
        let entry = &self.groups[index / GROUP];
        // Ordering: Relaxed, writers are serialised.
        if entry.load(Ordering::Relaxed).is_null() {
            let group = Box::new(Group {
                summary: CachePadded::new(AtomicU64::new(0)),
                leaves: std::array::from_fn(|_| CachePadded::new(AtomicU64::new(0))),
            });
            // Ordering: Release, pairs with the Acquire in `group`.
            entry.store(Box::into_raw(group), Ordering::Release);
        }
    }

    #[inline(always)]
    fn group(&self, g: usize) -> Option<&Group> {
        // Ordering: Acquire, pairs with the Release in `cover`.
        let group = self.groups[g].load(Ordering::Acquire);
        // SAFETY: groups are made once and freed with the set.
        unsafe { group.as_ref() }
    }

    /// Sets the bit of a function that has just been given a job: `true` when this call turned it on, and somebody may
    /// have to be woken.
    ///
    /// Follows the SeqCst exchange in `Lane::reserve`.
    #[inline(always)]
    pub(crate) fn set(&self, index: usize) -> bool {
        let Some(group) = self.group(index / GROUP) else { unreachable!("the registry covers each function it knows") };
        let leaf = &*group.leaves[index / 64 % LEAVES];
        let bit = 1 << (index % 64);
        load_after_rmw(leaf) & bit == 0 && self.set_slow(group, index)
    }

    #[cold]
    #[inline(never)]
    fn set_slow(&self, group: &Group, index: usize) -> bool {
        let bit = 1 << (index % 64);
        let leaf = index / 64 % LEAVES;
        // Ordering: SeqCst, before the loads of the upper levels (`tidy`) and of the sleep word (`Sleep::notify`).
        let old = group.leaves[leaf].fetch_or(bit, Ordering::SeqCst);
        if load_after_rmw(&*group.summary) & (1 << leaf) == 0 {
            // Ordering: SeqCst, as above.
            group.summary.fetch_or(1 << leaf, Ordering::SeqCst);
        }
        self.raise_root(index / GROUP);
        old & bit == 0
    }

    /// Sets the root's bit of a group whose summary is not empty.
    fn raise_root(&self, g: usize) {
        if load_after_rmw(&*self.root) & (1 << g) == 0 {
            // Ordering: SeqCst, before whatever the caller looks at next.
            self.root.fetch_or(1 << g, Ordering::SeqCst);
        }
    }

    /// Clears the bit of a function whose lane looked empty or is gone.
    #[inline]
    pub(crate) fn clear(&self, index: usize) {
        let Some(group) = self.group(index / GROUP) else { return };
        // Ordering: SeqCst, before the caller's load of the lane's tail (`Lane::is_empty`).
        group.leaves[index / 64 % LEAVES].fetch_and(!(1 << (index % 64)), Ordering::SeqCst);
    }

    /// Clears the bit of a function if its lane is empty: whether it is.
    ///
    /// A submit may come in between and find the bit still set, or set again; and a worker that looked while it was clear
    /// may have fallen asleep. So the bit that is set again is announced as that submit would have: by `announce`.
    #[inline(always)]
    pub(crate) fn settle(&self, index: usize, is_empty: impl Fn() -> bool, announce: impl FnOnce()) -> bool {
        if !is_empty() {
            return false;
        }
        self.clear(index);
        if is_empty() {
            return true;
        }
        if self.set(index) {
            announce();
        }
        false
    }

    /// A function with work, the first at or after `from`, going round.
    #[inline(always)]
    pub(crate) fn next(&self, from: usize) -> Option<usize> {
        let from = if from < LIMIT { from } else { 0 };
        let (g, leaf) = (from / GROUP, from / 64 % LEAVES);
        if let Some(group) = self.group(g) {
            let word = load_after_rmw(&*group.leaves[leaf]) & (!0 << (from % 64));
            if word != 0 {
                return Some(from / 64 * 64 + word.trailing_zeros() as usize);
            }
        }
        self.next_slow(from)
    }

    #[inline(never)]
    fn next_slow(&self, from: usize) -> Option<usize> {
        let (g, leaf) = (from / GROUP, from / 64 % LEAVES);
        let above = if leaf + 1 < 64 { !0 << (leaf + 1) } else { 0 };
        if let Some(found) = self.next_in(g, above) {
            return Some(found);
        }
        let root = load_after_rmw(&*self.root);
        let later = if g + 1 < 64 { !0u64 << (g + 1) } else { 0 };
        let in_order = bits(root & later).chain(bits(root & !later));
        for g in in_order {
            if let Some(found) = self.next_in(g, !0) {
                return Some(found);
            }
        }
        None
    }

    /// The first function with work in a group, among the leaves of `mask`.
    fn next_in(&self, g: usize, mask: u64) -> Option<usize> {
        let group = self.group(g)?;
        for leaf in bits(load_after_rmw(&*group.summary) & mask) {
            let word = load_after_rmw(&*group.leaves[leaf]);
            if word != 0 {
                return Some(g * GROUP + leaf * 64 + word.trailing_zeros() as usize);
            }
        }
        None
    }

    /// Whether any function has work.
    pub(crate) fn any(&self) -> bool {
        bits(load_after_rmw(&*self.root)).any(|g| self.next_in(g, !0).is_some())
    }

    /// Whether some function may have work: a bit of the root, which is cleared late.
    #[inline(always)]
    pub(crate) fn may_have_any(&self) -> bool {
        // Ordering: Relaxed, a hint between two jobs; a worker that falls asleep looks with `any`.
        self.root.load(Ordering::Relaxed) != 0
    }

    /// Clears upper bits above empty words, for a worker that found nothing and looks with `any` before it sleeps. Whether
    /// it had to set one again: another worker may have looked in between, and not seen the way to some job.
    #[cold]
    pub(crate) fn tidy(&self) -> bool {
        let mut restored = false;
        for g in bits(load_after_rmw(&*self.root)) {
            let Some(group) = self.group(g) else { continue };
            for leaf in bits(load_after_rmw(&*group.summary)) {
                if load_after_rmw(&*group.leaves[leaf]) == 0 {
                    // Ordering: SeqCst, before the second look; pairs with the leaf and summary steps of `set_slow`.
                    group.summary.fetch_and(!(1 << leaf), Ordering::SeqCst);
                    if load_after_rmw(&*group.leaves[leaf]) != 0 {
                        // Ordering: SeqCst, before the look at the root: another worker may have seen the summary empty.
                        group.summary.fetch_or(1 << leaf, Ordering::SeqCst);
                        self.raise_root(g);
                        restored = true;
                    }
                }
            }
            if load_after_rmw(&*group.summary) == 0 {
                // Ordering: SeqCst, as above, one level up.
                self.root.fetch_and(!(1 << g), Ordering::SeqCst);
                if load_after_rmw(&*group.summary) != 0 {
                    // Ordering: SeqCst, as above.
                    self.root.fetch_or(1 << g, Ordering::SeqCst);
                    restored = true;
                }
            }
        }
        restored
    }
}

impl Drop for ReadySet {
    fn drop(&mut self) {
        for entry in &self.groups {
            // Ordering: Relaxed, `&mut self`: nobody else is left.
            let group = entry.load(Ordering::Relaxed);
            if !group.is_null() {
                // SAFETY: made by `Box::into_raw` in `cover`, freed once.
                drop(unsafe { Box::from_raw(group) });
            }
        }
    }
}

/// The set bits of a word, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        (word != 0).then(|| {
            word &= word - 1;
            bit
        })
    })
}
