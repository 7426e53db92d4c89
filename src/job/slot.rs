//! The result slot: one cell between the job that fills it and the handle that reads it.
//!
//! Two parties hold a slot, the job and the handle, and the last one frees it. All of that is in one word, `state`:
//!
//! ```text
//!             handle waits        handle polls               job ends
//! PENDING ----> PARKED       PENDING -> REGISTERING -> WAKER      PENDING, PARKED, REGISTERING -> done
//! PENDING ----> DETACHED (handle dropped; the job frees the slot) WAKER -> COMPLETING -> done
//! ```
//!
//! * The value is written before the state says *done*, and read only after.
//! * The waker belongs to the handle in REGISTERING, to both (untouched) in WAKER, to the job in COMPLETING.
//! * Who parks is woken by a futex call on the word itself. The slot may be reused by then: memory is type-stable, so
//!   that is a spurious wake-up at worst, and every sleeper looks again.
//!
//! **Start or cancel** is decided by two bytes and an asymmetric pair of fences, so that it costs the worker two plain
//! stores and a load (Dekker's entry protocol): the worker stores STARTING, light fence, loads `cancel`; the canceller
//! stores `cancel`, heavy fence, loads `started`. At least one of them sees the other. If the canceller sees STARTING it
//! waits for the worker's next store, a few instructions away, which says what was decided.

use super::id::JobId;
use super::slab::{self, Size};
use crate::error::JobError;
use crate::queue::pool::{Link, NIL};
use crate::sync::{
    AtomicU8, AtomicU32, Ordering, UnsafeCell, fence_heavy, fence_light, futex_wait, futex_wake, spin_loop, yield_now,
};
use std::ptr::{self, NonNull};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

// States of the slot. Above `NIL`, because the word is the free list's link while the slot is free.
const PENDING: u32 = NIL + 1;
/// A thread sleeps on the word.
const PARKED: u32 = NIL + 2;
/// The handle is writing its waker.
const REGISTERING: u32 = NIL + 3;
/// A waker is registered.
const WAKER: u32 = NIL + 4;
/// The job has taken the waker and is about to finish.
const COMPLETING: u32 = NIL + 5;
/// The handle is gone.
const DETACHED: u32 = NIL + 6;
/// Done; everything from here on is.
const DONE_VALUE: u32 = NIL + 16;
const DONE_ERROR: u32 = NIL + 17;
const DONE_CANCELLED: u32 = NIL + 18;
const DONE_TIMED_OUT: u32 = NIL + 19;
const DONE_EVICTED: u32 = NIL + 20;
const DONE_LOST: u32 = NIL + 21;

// What the worker has said about starting.
const NOT_STARTED: u8 = 0;
const STARTING: u8 = 1;
const RUNNING: u8 = 2;
/// The worker saw the cancel and did not start.
const YIELDED: u8 = 3;

// What the handle has asked.
const NOT_ASKED: u8 = 0;
const ASKED: u8 = 1;
/// The job will not run.
const GRANTED: u8 = 2;

/// Spins of a waiter before it parks, about 10 us: half of what a futex wake takes to answer.
const SPINS: u32 = if cfg!(layshaft_loom) { 0 } else { 400 };

/// One result slot; the value's bytes follow it in memory.
#[repr(C, align(16))]
pub(crate) struct ResultSlot {
    /// `link.next` is the state.
    link: Link,
    generation: AtomicU32,
    started: AtomicU8,
    cancel: AtomicU8,
    /// The job is pulled by a consumer set. Written before the job is queued.
    pulled: AtomicU8,
    size: Size,
    waker: UnsafeCell<Option<Waker>>,
    /// Stands for the value's bytes, so that the model checker sees who touches them.
    value: UnsafeCell<()>,
}

/// How a value of type `R` is kept.
struct Place<R>(std::marker::PhantomData<R>);

impl<R> Place<R> {
    /// In the slot, or in a box of its own.
    const INLINE: bool = size_of::<R>() <= Size::Large.value_bytes() && align_of::<R>() <= 16;
    const SIZE: Size =
        if !Self::INLINE || size_of::<R>() <= Size::Small.value_bytes() { Size::Small } else { Size::Large };
}

impl ResultSlot {
    /// Writes a free slot behind its link.
    ///
    /// # Safety
    /// `at` points to memory of a slot's layout that nobody else uses and whose link is written.
    pub(crate) unsafe fn init(at: NonNull<ResultSlot>, size: Size) {
        let at = at.as_ptr();
        // SAFETY: exclusive memory, see above; likewise below.
        unsafe { (&raw mut (*at).generation).write(AtomicU32::new(0)) };
        // SAFETY: as above.
        unsafe { (&raw mut (*at).started).write(AtomicU8::new(0)) };
        // SAFETY: as above.
        unsafe { (&raw mut (*at).cancel).write(AtomicU8::new(0)) };
        // SAFETY: as above.
        unsafe { (&raw mut (*at).pulled).write(AtomicU8::new(0)) };
        // SAFETY: as above.
        unsafe { (&raw mut (*at).size).write(size) };
        // SAFETY: as above.
        unsafe { (&raw mut (*at).waker).write(UnsafeCell::new(None)) };
        // SAFETY: as above.
        unsafe { (&raw mut (*at).value).write(UnsafeCell::new(())) };
    }

    /// A slot for a job with result `R`.
    #[inline(always)]
    pub(crate) fn acquire<R>(pulled: bool) -> NonNull<ResultSlot> {
        let slot = slab::acquire(Place::<R>::SIZE);
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        // Ordering: Relaxed, published with the job (`JobSlot::publish`).
        this.state().store(PENDING, Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        this.started.store(NOT_STARTED, Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        this.cancel.store(NOT_ASKED, Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        this.pulled.store(u8::from(pulled), Ordering::Relaxed);
        slot
    }

    #[inline(always)]
    fn state(&self) -> &AtomicU32 {
        &self.link.next
    }

    #[inline(always)]
    fn value_ptr(slot: NonNull<ResultSlot>) -> NonNull<u8> {
        // SAFETY: every slot is followed by its value's bytes.
        unsafe { slot.add(1).cast() }
    }

    /// Ends a use of the slot. The caller is the last party.
    #[inline(always)]
    fn free(slot: NonNull<ResultSlot>) {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        // Ordering: Relaxed, the last party owns the slot alone.
        let generation = this.generation.load(Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        this.generation.store(generation.wrapping_add(1), Ordering::Relaxed);
        slab::release(slot, this.size);
    }

    pub(crate) fn id(&self) -> JobId {
        // Ordering: Relaxed, changes only between uses.
        let generation = self.generation.load(Ordering::Relaxed);
        JobId::new(slab::number(self.link.index, self.size), generation)
    }

    // The job's side.

    /// The job is about to start: `false` when it was cancelled, and must be finished as such without running.
    #[inline(always)]
    pub(crate) fn begin(&self) -> bool {
        // Ordering: Relaxed, ordered before the load below by the fences (`fence_heavy` in `cancel`).
        self.started.store(STARTING, Ordering::Relaxed);
        fence_light();
        // Ordering: Relaxed, ordered by the fences as above.
        if self.cancel.load(Ordering::Relaxed) != NOT_ASKED {
            return self.yield_to_cancel();
        }
        // Ordering: Release, pairs with the Acquire in `cancel`.
        self.started.store(RUNNING, Ordering::Release);
        true
    }

    #[cold]
    fn yield_to_cancel(&self) -> bool {
        // Ordering: Release, pairs with the Acquire in `cancel`.
        self.started.store(YIELDED, Ordering::Release);
        false
    }

    /// A started job goes back to its queue.
    pub(crate) fn unbegin(&self) {
        // Ordering: Relaxed, published with the job when it is queued again.
        self.started.store(NOT_STARTED, Ordering::Relaxed);
    }

    /// Whether the caller asked to cancel: a running body may look and end early.
    pub(crate) fn is_cancel_requested(&self) -> bool {
        // Ordering: Relaxed, a hint to the body.
        self.cancel.load(Ordering::Relaxed) != NOT_ASKED
    }

    pub(crate) fn is_pulled(&self) -> bool {
        // Ordering: Relaxed, written by the submit that made the handle.
        self.pulled.load(Ordering::Relaxed) != 0
    }

    /// The job has ended; the job's side gives the slot up.
    ///
    /// # Safety
    /// The caller is the job's side of a slot acquired for `R`, and this is its last use.
    #[inline(always)]
    pub(crate) unsafe fn complete<R>(slot: NonNull<ResultSlot>, outcome: Result<R, JobError>) {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        // SAFETY: the job's side owns the value until the state says done.
        let done = unsafe { Self::write(slot, outcome) };
        // Ordering: AcqRel, Release pairs with the Acquire of the handle that sees `done`; Acquire on failure for the
        // waker of a handle that registered one.
        if let Err(seen) = this.state().compare_exchange(PENDING, done, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: as for this function.
            unsafe { Self::complete_slow::<R>(slot, seen, done) };
        }
    }

    #[cold]
    #[inline(never)]
    unsafe fn complete_slow<R>(slot: NonNull<ResultSlot>, mut state: u32, done: u32) {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        loop {
            let to = match state {
                DETACHED => {
                    // SAFETY: the handle is gone: the value written above is ours alone.
                    drop(unsafe { Self::read::<R>(slot, done) });
                    return;
                }
                WAKER => COMPLETING,
                _ => done,
            };
            // Ordering: AcqRel and Acquire as in `complete`.
            match this.state().compare_exchange(state, to, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(seen) => state = seen,
            }
        }
        match state {
            PARKED => futex_wake(this.state(), 1),
            WAKER => {
                // SAFETY: COMPLETING gives the waker to the job's side.
                let waker = this.waker.with_mut(|w| unsafe { (*w).take() });
                // Ordering: Release, pairs with the Acquire of the handle that sees `done`.
                this.state().store(done, Ordering::Release);
                waker.expect("WAKER means that a waker is registered").wake();
            }
            _ => {}
        }
    }

    /// Puts the outcome into the slot and returns the state that announces it.
    #[inline(always)]
    unsafe fn write<R>(slot: NonNull<ResultSlot>, outcome: Result<R, JobError>) -> u32 {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        let at = Self::value_ptr(slot);
        match outcome {
            Ok(value) if Place::<R>::INLINE => {
                // SAFETY: the place is large and aligned enough, and the caller owns it.
                this.value.with_mut(|_| unsafe { at.cast::<R>().write(value) });
                DONE_VALUE
            }
            Ok(value) => {
                let boxed = Box::into_raw(Box::new(value));
                // SAFETY: a pointer fits in every place.
                this.value.with_mut(|_| unsafe { at.cast::<*mut R>().write(boxed) });
                DONE_VALUE
            }
            Err(JobError::Cancelled) => DONE_CANCELLED,
            Err(JobError::TimedOut) => DONE_TIMED_OUT,
            Err(JobError::Evicted) => DONE_EVICTED,
            Err(JobError::Lost) => DONE_LOST,
            Err(error) => {
                let boxed = Box::into_raw(Box::new(error));
                // SAFETY: a pointer fits in every place.
                this.value.with_mut(|_| unsafe { at.cast::<*mut JobError>().write(boxed) });
                DONE_ERROR
            }
        }
    }

    /// Moves the outcome out and frees the slot.
    #[inline(always)]
    unsafe fn read<R>(slot: NonNull<ResultSlot>, done: u32) -> Result<R, JobError> {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        let at = Self::value_ptr(slot);
        let outcome = match done {
            // SAFETY: DONE_VALUE says that `write` put an `R` here, and the caller is the only one left.
            DONE_VALUE if Place::<R>::INLINE => Ok(this.value.with(|_| unsafe { at.cast::<R>().read() })),
            DONE_VALUE => {
                // SAFETY: as above, boxed.
                let boxed = this.value.with(|_| unsafe { at.cast::<*mut R>().read() });
                // SAFETY: made by `Box::into_raw` in `write`, taken once.
                Ok(*unsafe { Box::from_raw(boxed) })
            }
            DONE_CANCELLED => Err(JobError::Cancelled),
            DONE_TIMED_OUT => Err(JobError::TimedOut),
            DONE_EVICTED => Err(JobError::Evicted),
            DONE_LOST => Err(JobError::Lost),
            _ => {
                // SAFETY: DONE_ERROR says that `write` put a boxed error here.
                let boxed = this.value.with(|_| unsafe { at.cast::<*mut JobError>().read() });
                // SAFETY: made by `Box::into_raw` in `write`, taken once.
                Err(*unsafe { Box::from_raw(boxed) })
            }
        };
        Self::free(slot);
        outcome
    }

    // The handle's side.

    pub(crate) fn is_done(&self) -> bool {
        // Ordering: Acquire, pairs with the Release in `complete`.
        self.state().load(Ordering::Acquire) >= DONE_VALUE
    }

    /// Takes the outcome of a job that is done, and gives the slot up.
    ///
    /// # Safety
    /// The caller is the handle's side of a slot acquired for `R`, `is_done` said yes, and this is its last use.
    #[inline(always)]
    pub(crate) unsafe fn take<R>(slot: NonNull<ResultSlot>) -> Result<R, JobError> {
        // Ordering: Acquire, pairs with the Release in `complete`.
        // SAFETY: the slab's slots live as long as the process.
        let done = unsafe { slot.as_ref() }.state().load(Ordering::Acquire);
        // SAFETY: passed on from the caller.
        unsafe { Self::read(slot, done) }
    }

    /// The handle goes away; the job goes on.
    ///
    /// # Safety
    /// The caller is the handle's side of a slot acquired for `R`, and this is its last use.
    pub(crate) unsafe fn detach<R>(slot: NonNull<ResultSlot>) {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        while !this.is_done() {
            this.unregister();
            // Ordering: Release, so that the job's side frees the slot after our last use; Relaxed on failure, the loop
            // looks again.
            let gone = this.state().compare_exchange(PENDING, DETACHED, Ordering::Release, Ordering::Relaxed);
            if gone.is_ok() {
                return;
            }
        }
        // SAFETY: done, and passed on from the caller.
        drop(unsafe { Self::take::<R>(slot) });
    }

    /// Asks for the job not to run: `true` if it will not.
    pub(crate) fn cancel(&self) -> bool {
        if self.is_done() {
            // Ordering: Relaxed, `is_done` acquired everything that led to it.
            return self.state().load(Ordering::Relaxed) == DONE_CANCELLED;
        }
        // Ordering: Relaxed, ordered before the loads below by the heavy fence (`fence_light` in `begin`).
        self.cancel.store(ASKED, Ordering::Relaxed);
        fence_heavy();
        loop {
            // Ordering: Acquire, pairs with the Release stores in `begin`.
            match self.started.load(Ordering::Acquire) {
                NOT_STARTED | YIELDED => break,
                RUNNING => return false,
                _ => yield_now(),
            }
        }
        // Ordering: Relaxed, for this handle's own later calls.
        self.cancel.store(GRANTED, Ordering::Relaxed);
        true
    }

    /// Whether [`cancel`](Self::cancel) said that the job will not run.
    #[inline]
    pub(crate) fn is_cancel_granted(&self) -> bool {
        // Ordering: Relaxed, written by this handle.
        self.cancel.load(Ordering::Relaxed) == GRANTED
    }

    /// Gives up a slot whose job was never queued.
    pub(crate) fn abandon(slot: NonNull<ResultSlot>) {
        Self::free(slot);
    }

    /// Waits until the job is done, `limit` at most: whether it is.
    #[inline(always)]
    pub(crate) fn wait(&self, limit: Option<Duration>) -> bool {
        self.is_done() || self.wait_slow(limit)
    }

    #[cold]
    fn wait_slow(&self, limit: Option<Duration>) -> bool {
        for i in 0..SPINS {
            if self.is_done() {
                return true;
            }
            if i % 64 == 63 { yield_now() } else { spin_loop() }
        }
        let end = limit.and_then(|d| Instant::now().checked_add(d));
        loop {
            self.unregister();
            // Ordering: Acquire on both sides, pairs with the Release in `complete`.
            match self.state().compare_exchange(PENDING, PARKED, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) | Err(PARKED) => {}
                Err(seen) if seen >= DONE_VALUE => return true,
                Err(_) => continue,
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                // Ordering: Acquire on both sides, as above.
                return self.state().compare_exchange(PARKED, PENDING, Ordering::Acquire, Ordering::Acquire).is_err();
            }
            futex_wait(self.state(), PARKED, left);
        }
    }

    /// Registers the waker of `cx`, unless the job is done.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        // Cloned first: the window in which the waker is half written must not contain foreign code.
        let mut fresh = None;
        loop {
            // Ordering: Acquire, pairs with the Release in `complete`.
            let state = self.state().load(Ordering::Acquire);
            if state >= DONE_VALUE {
                return Poll::Ready(());
            }
            if state == COMPLETING {
                // The job's side holds the old waker and finishes a few instructions from now.
                yield_now();
                continue;
            }
            let waker = fresh.take().unwrap_or_else(|| cx.waker().clone());
            // Ordering: Acquire, so that what the last use left in the waker's place is visible; Relaxed on failure.
            if self.state().compare_exchange(state, REGISTERING, Ordering::Acquire, Ordering::Relaxed).is_err() {
                fresh = Some(waker);
                continue;
            }
            // SAFETY: REGISTERING gives the waker's place to the handle.
            let old = self.waker.with_mut(|w| unsafe { ptr::replace(w, Some(waker)) });
            // Ordering: Release publishes the waker to `complete_slow`; Acquire on failure, pairs with its Release.
            let set = self.state().compare_exchange(REGISTERING, WAKER, Ordering::Release, Ordering::Acquire);
            drop(old);
            if set.is_ok() {
                return Poll::Pending;
            }
            // SAFETY: done meanwhile, straight from REGISTERING: the job's side leaves the waker's place alone.
            drop(self.waker.with_mut(|w| unsafe { (*w).take() }));
        }
    }

    /// Takes a registered waker out, so that the state is PENDING or done.
    fn unregister(&self) {
        loop {
            // Ordering: Acquire, pairs with the Release in `complete`.
            match self.state().load(Ordering::Acquire) {
                // Ordering: Acquire, as in `poll`; Relaxed on failure, the loop looks again.
                WAKER => match self.state().compare_exchange(WAKER, REGISTERING, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(_) => continue,
                },
                COMPLETING => yield_now(),
                _ => return,
            }
        }
        // SAFETY: REGISTERING gives the waker's place to the handle.
        let waker = self.waker.with_mut(|w| unsafe { (*w).take() });
        // Ordering: Release, so that the job's side comes after our use of the waker; a failure means done.
        let _ = self.state().compare_exchange(REGISTERING, PENDING, Ordering::Release, Ordering::Relaxed);
        drop(waker);
    }
}
