//! A worker's own queue of nested jobs: the owner pushes and pops at one end, thieves take from the other.
//!
//! Chase and Lev, *Dynamic Circular Work-Stealing Deque* (SPAA 2005), bounded, with the orderings of Lê, Pop, Cohen and
//! Zappa Nardelli, *Correct and Efficient Work-Stealing for Weak Memory Models* (PPoPP 2013), and two changes:
//!
//! * the full fence of the owner's pop is the light half of an asymmetric pair, its heavy half is in `steal`;
//! * every store of `bottom` is a Release: a thief that reads a value which `pop` stored must see the entries that
//!   earlier pushes wrote, and since C++20 a later relaxed store does not continue a release.
//!
//! An entry is one cache line: function, control word, and up to six words of argument. A thief reads the argument only
//! after its exchange on `top` has made the entry its own. The owner might come round and reuse the entry before the
//! thief has moved the argument out, so an entry in use is marked by its control word: whoever takes the argument stores
//! null there, and a push that finds the entry still in use reports the deque as full.

use crate::job::slot::ResultSlot;
use crate::sync::{AtomicPtr, AtomicU64, Ordering, UnsafeCell, fence_full, fence_heavy, fence_light, yield_now};
use crossbeam_utils::CachePadded;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// Jobs a deque holds; more overflow to their function's queue.
pub(crate) const CAPACITY: usize = if crate::sync::IS_MODEL { 4 } else { 4096 };
/// Words of argument in an entry.
const WORDS: usize = 6;

/// The deque of one worker, with entries of function `F`.
pub(crate) struct Deque<F> {
    /// The oldest entry; thieves advance it.
    top: CachePadded<AtomicU64>,
    /// One past the newest entry; only the owner writes it.
    bottom: CachePadded<AtomicU64>,
    /// Odd while the owner has entries in its hands that it will put back (`raise`), which `mentions` cannot see.
    lifts: AtomicU64,
    /// Null until [`prepare`](Self::prepare). Entries are looked at by the owner, and by who saw one between `top` and
    /// `bottom`, so after that.
    entries: UnsafeCell<*mut Entries<F>>,
}

type Entries<F> = [Entry<F>; CAPACITY];

#[repr(C, align(64))]
struct Entry<F> {
    function: AtomicPtr<F>,
    /// Null while the entry is free.
    control: AtomicPtr<ResultSlot>,
    argument: UnsafeCell<Words>,
}

type Words = [MaybeUninit<u64>; WORDS];

/// Whether arguments stored as `S` fit in an entry.
pub(crate) const fn fits<S>() -> bool {
    size_of::<S>() <= size_of::<Words>() && align_of::<S>() <= align_of::<Words>()
}

/// An entry that the holder has taken and not yet emptied.
#[must_use = "an entry that is not emptied stays in use"]
pub(crate) struct Taken<'a, F> {
    entry: &'a Entry<F>,
}

/// An entry's contents, of unknown type.
struct Lifted<F> {
    function: NonNull<F>,
    control: *mut ResultSlot,
    argument: Words,
}

impl<F> Taken<'_, F> {
    pub(crate) fn function(&self) -> NonNull<F> {
        // Ordering: Relaxed, visible since the entry was taken.
        let function = self.entry.function.load(Ordering::Relaxed);
        // SAFETY: `put` stored a function, and the entry has not been reused.
        unsafe { NonNull::new_unchecked(function) }
    }

    /// Moves the job out and frees the entry.
    ///
    /// # Safety
    /// It was pushed as `S`.
    #[inline(always)]
    pub(crate) unsafe fn empty<S>(self) -> (*mut ResultSlot, S) {
        assert!(fits::<S>(), "checked by the caller, at compile time");
        // Ordering: Relaxed, visible since the entry was taken.
        let control = self.entry.control.load(Ordering::Relaxed);
        // SAFETY: pushed as `S`, and taken by this call alone.
        let argument = self.entry.argument.with(|p| unsafe { p.cast::<S>().read() });
        // Ordering: Release, pairs with the Acquire in `put`: the owner overwrites after our read.
        self.entry.control.store(ptr::null_mut(), Ordering::Release);
        (control, argument)
    }

    fn lift(self) -> Lifted<F> {
        let function = self.function();
        // SAFETY: words of any content.
        let (control, argument) = unsafe { self.empty::<Words>() };
        Lifted { function, control, argument }
    }
}

impl<F> Deque<F> {
    /// An empty deque without memory for entries.
    pub(crate) fn new() -> Self {
        Deque {
            // One, so that `bottom - 1` never wraps.
            top: CachePadded::new(AtomicU64::new(1)),
            bottom: CachePadded::new(AtomicU64::new(1)),
            lifts: AtomicU64::new(0),
            entries: UnsafeCell::new(ptr::null_mut()),
        }
    }

    /// Makes room for entries, unless that was done before.
    ///
    /// # Safety
    /// The caller is the owner, and has pushed nothing.
    pub(crate) unsafe fn prepare(&self) {
        // SAFETY: others look at it when they have seen an entry, so after this call.
        if !self.entries.with(|p| unsafe { *p }).is_null() {
            return;
        }
        let entry = |_| Entry {
            function: AtomicPtr::new(ptr::null_mut()),
            control: AtomicPtr::new(ptr::null_mut()),
            argument: UnsafeCell::new([MaybeUninit::uninit(); WORDS]),
        };
        let entries: Box<[Entry<F>]> = (0..CAPACITY).map(entry).collect();
        let Ok(entries) = Box::<Entries<F>>::try_from(entries) else { unreachable!("made with this length") };
        let entries = Box::into_raw(entries);
        // SAFETY: as above.
        self.entries.with_mut(|p| unsafe { *p = entries });
    }

    #[inline(always)]
    fn entry(&self, i: u64) -> &Entry<F> {
        // SAFETY: written before the first push, and nobody calls this before that.
        let entries = self.entries.with(|p| unsafe { *p });
        // SAFETY: made by `prepare`, freed with `self`.
        let entries = unsafe { &*entries };
        &entries[i as usize % CAPACITY]
    }

    /// Adds the newest entry, or hands the argument back when the deque is full.
    ///
    /// # Safety
    /// The caller is the owner, and has prepared the deque.
    #[inline(always)]
    pub(crate) unsafe fn push<S>(&self, function: NonNull<F>, control: *mut ResultSlot, argument: S) -> Result<(), S> {
        assert!(fits::<S>(), "checked by the caller, at compile time");
        // Ordering: Relaxed, only the owner writes it.
        let bottom = self.bottom.load(Ordering::Relaxed);
        let entry = self.entry(bottom);
        // Ordering: Acquire, pairs with the Release in `empty`: whoever had the entry has moved its argument out.
        if !entry.control.load(Ordering::Acquire).is_null() {
            return Err(argument);
        }
        // SAFETY: the entry is free, and only the owner fills entries.
        entry.argument.with_mut(|p| unsafe { p.cast::<S>().write(argument) });
        // Ordering: Relaxed, released by the store of `bottom`.
        entry.function.store(function.as_ptr(), Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        entry.control.store(control, Ordering::Relaxed);
        // Ordering: Release, pairs with the Acquire of `bottom` in `steal`.
        self.bottom.store(bottom + 1, Ordering::Release);
        Ok(())
    }

    /// Takes the newest entry.
    ///
    /// # Safety
    /// The caller is the owner.
    #[inline(always)]
    pub(crate) unsafe fn pop(&self) -> Option<Taken<'_, F>> {
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
        if top < bottom {
            return Some(Taken { entry: self.entry(bottom) });
        }
        // SAFETY: the caller is the owner.
        unsafe { self.pop_last(top, bottom) }
    }

    /// The last entry: a thief may be after it too.
    #[cold]
    unsafe fn pop_last(&self, top: u64, bottom: u64) -> Option<Taken<'_, F>> {
        let won = top == bottom
            // Ordering: SeqCst, in one order with the thieves' exchanges; Relaxed on failure, a thief has it.
            && self.top.compare_exchange(top, top + 1, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        // Ordering: Release, see the module.
        self.bottom.store(bottom + 1, Ordering::Release);
        won.then(|| Taken { entry: self.entry(bottom) })
    }

    /// Takes the oldest entry.
    pub(crate) fn steal(&self) -> Option<Taken<'_, F>> {
        loop {
            // Ordering: Relaxed, the heavy fence below comes before everything that depends on it.
            let top = self.top.load(Ordering::Relaxed);
            // Ordering: Relaxed, a hint that saves the heavy fence.
            if top >= self.bottom.load(Ordering::Relaxed) {
                return None;
            }
            fence_heavy();
            // Ordering: Acquire, pairs with the Release stores of the owner: the entries are visible.
            if top >= self.bottom.load(Ordering::Acquire) {
                return None;
            }
            // Ordering: SeqCst, in one order with `pop`'s; Relaxed on failure, somebody else has the entry.
            if self.top.compare_exchange(top, top + 1, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                return Some(Taken { entry: self.entry(top) });
            }
        }
    }

    /// Makes the entry with this control word the newest, if it is there: whether it was. What came later stays, in order.
    ///
    /// # Safety
    /// The caller is the owner.
    pub(crate) unsafe fn raise(&self, control: *mut ResultSlot) -> bool {
        // Ordering: Relaxed, only the owner writes it.
        let bottom = self.bottom.load(Ordering::Relaxed);
        // Ordering: Relaxed, where to look: what is still there is decided by the pops below.
        let top = self.top.load(Ordering::Relaxed);
        // Ordering: Relaxed, the owner wrote it; a thief may take it meanwhile, and then it is not found below.
        let is_it = |i: &u64| ptr::eq(self.entry(*i).control.load(Ordering::Relaxed), control);
        let newest_first = (top..bottom).rev();
        let above = newest_first.take_while(|i| !is_it(i)).count() as u64;
        if above == bottom - top || above == 0 {
            return above < bottom - top;
        }
        // Ordering: Relaxed, only the owner writes it.
        let lifts = self.lifts.load(Ordering::Relaxed);
        // Ordering: Relaxed, ordered before every change of an entry by the fence; pairs with that of `mentions`.
        self.lifts.store(lifts + 1, Ordering::Relaxed);
        fence_full();
        let mut later = Vec::with_capacity(above as usize);
        let mut found = None;
        while found.is_none() && later.len() as u64 <= above {
            // SAFETY: the caller is the owner.
            let Some(taken) = (unsafe { self.pop() }) else { break };
            let lifted = taken.lift();
            if ptr::eq(lifted.control, control) { found = Some(lifted) } else { later.push(lifted) }
        }
        let was_there = found.is_some();
        for mut lifted in later.into_iter().rev().chain(found) {
            // SAFETY: the caller is the owner, and has lifted this entry.
            while let Err(back) = unsafe { self.push_lifted(lifted) } {
                // A thief has won the entry that is the newest now, and has not moved its job out yet.
                lifted = back;
                yield_now();
            }
        }
        // Ordering: Release, pairs with the Acquire in `mentions`: what was put back is visible.
        self.lifts.store(lifts + 2, Ordering::Release);
        was_there
    }

    /// Puts a lifted entry back as the newest. There is room for it, but after the last one was popped against a thief the
    /// ring has moved on by one, to an entry that another thief may still be emptying: then it comes back.
    ///
    /// # Safety
    /// The caller is the owner.
    unsafe fn push_lifted(&self, lifted: Lifted<F>) -> Result<(), Lifted<F>> {
        let Lifted { function, control, argument } = lifted;
        // SAFETY: the caller is the owner.
        unsafe { self.push(function, control, argument) }.map_err(|argument| Lifted { function, control, argument })
    }

    /// Whether it looks empty to a thief.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        // Ordering: Relaxed, a hint, or ordered by the caller's `fence_heavy` (`Worker::look_again`).
        let top = self.top.load(Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        top >= self.bottom.load(Ordering::Relaxed)
    }

    /// Whether any entry refers to `function`, for a caller who knows that none is being added. May say yes when it cannot
    /// know, because the owner is moving entries about.
    pub(crate) fn mentions(&self, function: *const F) -> bool {
        // Ordering: Acquire, pairs with the Release in `raise`: what was put back by then is visible.
        let lifts = self.lifts.load(Ordering::Acquire);
        if lifts % 2 == 1 || self.entries_of(function) > 0 {
            return true;
        }
        // If an entry that the owner put back was seen above, so is the lift below, as in a sequence lock.
        fence_full();
        // Ordering: Relaxed, ordered by the fence.
        self.lifts.load(Ordering::Relaxed) != lifts
    }

    /// How many entries refer to `function`: exact while the owner changes nothing.
    pub(crate) fn entries_of(&self, function: *const F) -> usize {
        // Ordering: Relaxed, in `mentions` every push of `function` came before the epochs that the caller has acquired, so it
        // is visible; a view that is older than the pops since then finds more, never less. Else a figure for people.
        let top = self.top.load(Ordering::Relaxed);
        // Ordering: Relaxed, as for `top`; of entries that are put back meanwhile `mentions` hears by the lifts.
        let bottom = self.bottom.load(Ordering::Relaxed);
        // Ordering: Relaxed, as for `top`.
        (top..bottom).filter(|&i| ptr::eq(self.entry(i).function.load(Ordering::Relaxed), function)).count()
    }
}

impl<F> Drop for Deque<F> {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: nobody else is left.
        let entries = self.entries.with(|p| unsafe { *p });
        if !entries.is_null() {
            // SAFETY: made by `Box::into_raw` in `prepare`, freed once.
            drop(unsafe { Box::from_raw(entries) });
        }
    }
}
