//! A worker's claim: the jobs it has taken from a lane and not yet started, open to revocation.
//!
//! The owner announces each start with a plain store of its cursor, a light fence and a load of `revoked`. A revoker sets
//! `revoked`, passes the heavy fence, and reads the cursor: from then on the owner starts nothing without asking under
//! the lock, so the jobs from the cursor on are the revoker's to take. It takes the front half, so that jobs keep
//! starting in order while the owner is stuck, and the owner goes on behind them when it comes back.
//!
//! The cases, for the job `i` that the owner is about to start when `revoked` is set:
//!
//! * the revoker reads `i + 1` or more: the owner's store came before the fence; job `i` is the owner's;
//! * the revoker reads `i` or less: the store came after the fence, so the owner's load sees `revoked`, and the owner
//!   asks before it starts.
//!
//! A claim is opened only after the one before was closed with the same three steps, so a revoker that read a cursor
//! other than [`IDLE`] reads the fields of that claim and no mixture.

use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, Mutex, Ordering, fence_heavy, fence_light};
use crossbeam_utils::CachePadded;
use std::ptr::{self, NonNull};

/// The cursor of a worker without a claim.
const IDLE: u32 = u32::MAX;

/// The claim of one worker. `F` is the function, `B` the block.
pub(crate) struct Claim<F, B> {
    hot: CachePadded<Hot>,
    function: AtomicPtr<F>,
    block: AtomicPtr<B>,
    end: AtomicU32,
    /// Where the revoker stopped the owner, valid while `revoked` is set.
    taken: Mutex<Taken>,
}

struct Hot {
    /// The first job that nobody has started or taken, or [`IDLE`].
    cursor: AtomicU32,
    revoked: AtomicBool,
}

#[derive(Clone, Copy)]
struct Taken {
    /// The cursor that the revoker read: jobs before it are the owner's.
    frozen: u32,
    /// The first job that nobody has taken.
    resume: u32,
}

/// The owner's view of its open claim: what to start next.
#[derive(Clone, Copy)]
pub(crate) struct Remaining {
    next: u32,
    end: u32,
}

/// Jobs taken from another worker's claim.
pub(crate) struct Revoked<K, B> {
    /// Keeps the function.
    pub(crate) function: K,
    pub(crate) block: NonNull<B>,
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl<F, B> Claim<F, B> {
    pub(crate) fn new() -> Self {
        Claim {
            hot: CachePadded::new(Hot { cursor: AtomicU32::new(IDLE), revoked: AtomicBool::new(false) }),
            function: AtomicPtr::new(ptr::null_mut()),
            block: AtomicPtr::new(ptr::null_mut()),
            end: AtomicU32::new(0),
            taken: Mutex::new(Taken { frozen: 0, resume: 0 }),
        }
    }

    /// Opens a claim of jobs `start..start + len`. Owner only; the claim before was closed.
    #[inline(always)]
    pub(crate) fn open(&self, function: NonNull<F>, block: NonNull<B>, start: usize, len: usize) -> Remaining {
        let end = (start + len) as u32;
        // Ordering: Relaxed, released by the store of the cursor below.
        self.function.store(function.as_ptr(), Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        self.block.store(block.as_ptr(), Ordering::Relaxed);
        // Ordering: Release, pairs with the Acquire in `unstarted`: who sees this end sees whose it is.
        self.end.store(end, Ordering::Release);
        // Ordering: Release publishes the fields above: from here on the claim can be revoked and watched.
        self.hot.cursor.store(start as u32, Ordering::Release);
        Remaining { next: start as u32, end }
    }

    /// The next job to start, or `None` when the claim is used up. Owner only.
    #[inline(always)]
    pub(crate) fn start(&self, remaining: &mut Remaining) -> Option<usize> {
        loop {
            let i = remaining.next;
            if i >= remaining.end {
                return None;
            }
            // Ordering: Release, a revoker reads the claim's fields whichever cursor it sees; ordered before the load of
            // `revoked` by the fences.
            self.hot.cursor.store(i + 1, Ordering::Release);
            fence_light();
            // Ordering: Relaxed, pairs through `fence_heavy` with the store in `revoke`.
            if !self.hot.revoked.load(Ordering::Relaxed) {
                remaining.next = i + 1;
                return Some(i as usize);
            }
            let (mine, next) = self.ask(i);
            remaining.next = next;
            if mine {
                return Some(i as usize);
            }
        }
    }

    /// The owner met a revocation on its way to job `i`: whether that job is still its, and which comes next.
    #[cold]
    #[inline(never)]
    fn ask(&self, i: u32) -> (bool, u32) {
        let taken = self.taken.lock();
        // Ordering: Relaxed, under the lock.
        if !self.hot.revoked.load(Ordering::Relaxed) {
            return (true, i + 1);
        }
        // The next revoker starts from here: jobs before it are taken or are being started.
        // Ordering: Relaxed, under the lock: a revoker that reads it holds the lock after us.
        self.hot.cursor.store(taken.resume, Ordering::Relaxed);
        // Ordering: Relaxed, under the lock.
        self.hot.revoked.store(false, Ordering::Relaxed);
        (i < taken.frozen, taken.resume)
    }

    /// Closes the claim. Owner only.
    #[inline(always)]
    pub(crate) fn close(&self) {
        // Ordering: Relaxed, who reads it reads nothing else; ordered before the load of `revoked` by the fences.
        self.hot.cursor.store(IDLE, Ordering::Relaxed);
        fence_light();
        // Ordering: Relaxed, as in `start`.
        if self.hot.revoked.load(Ordering::Relaxed) {
            self.acknowledge();
        }
    }

    #[cold]
    fn acknowledge(&self) {
        let _taken = self.taken.lock();
        // Ordering: Relaxed, under the lock.
        self.hot.revoked.store(false, Ordering::Relaxed);
    }

    /// Takes the front half of what the owner has not started. `None` when there is nothing.
    ///
    /// `keep` is called while the claim is known to be open, and so its function to be alive.
    pub(crate) fn revoke<K>(&self, keep: impl FnOnce(NonNull<F>) -> K) -> Option<Revoked<K, B>> {
        self.revoke_of(None, keep)
    }

    /// The same, only if the jobs are of this function.
    pub(crate) fn revoke_of<K>(
        &self,
        function: Option<NonNull<F>>,
        keep: impl FnOnce(NonNull<F>) -> K,
    ) -> Option<Revoked<K, B>> {
        let mut taken = self.taken.lock();
        // Ordering: Relaxed, under the lock.
        let fresh = !self.hot.revoked.load(Ordering::Relaxed);
        if fresh {
            // Ordering: Relaxed, ordered before the load of the cursor by the fence; pairs with `start` and `close`.
            self.hot.revoked.store(true, Ordering::Relaxed);
            fence_heavy();
            // Ordering: Acquire, pairs with the Release in `start`: the claim's fields are visible.
            let cursor = self.hot.cursor.load(Ordering::Acquire);
            *taken = Taken { frozen: cursor, resume: cursor };
        }
        // Ordering: Relaxed, visible through the cursor.
        let end = self.end.load(Ordering::Relaxed);
        let idle = taken.frozen == IDLE;
        // Ordering: Relaxed, visible through the cursor.
        let is_other = || function.is_some_and(|f| f.as_ptr() != self.function.load(Ordering::Relaxed));
        if idle || taken.resume >= end || is_other() {
            if fresh {
                // Ordering: Relaxed, under the lock: the owner that saw it set finds it cleared and goes on.
                self.hot.revoked.store(false, Ordering::Relaxed);
            }
            return None;
        }
        let start = taken.resume;
        let len = (end - start).div_ceil(2);
        taken.resume += len;
        // Ordering: Relaxed, visible through the cursor.
        let function = NonNull::new(self.function.load(Ordering::Relaxed))?;
        // Ordering: Relaxed, as above.
        let block = NonNull::new(self.block.load(Ordering::Relaxed))?;
        Some(Revoked { function: keep(function), block, start: start as usize, len: len as usize })
    }

    /// What a watcher compares between two looks: equal values mean that the owner has started nothing meanwhile.
    /// `None` when nothing can be taken.
    pub(crate) fn glance(&self) -> Option<(u32, *mut B)> {
        // Ordering: Relaxed, a hint.
        let cursor = self.hot.cursor.load(Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        let end = self.end.load(Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        (self.first_left(cursor) < end).then(|| (cursor, self.block.load(Ordering::Relaxed)))
    }

    /// How many jobs of a function are claimed and neither started nor taken. Exact when nobody starts or takes any of that
    /// function meanwhile, whatever else the owner does.
    pub(crate) fn unstarted(&self, function: *const F) -> usize {
        // Ordering: Relaxed, looked at again below.
        let is_its = || ptr::eq(self.function.load(Ordering::Relaxed), function);
        if !is_its() {
            return 0;
        }
        // Ordering: Acquire, pairs with the Release in `open`: who sees a later claim's cursor sees whose it is.
        let cursor = self.hot.cursor.load(Ordering::Acquire);
        // Ordering: Acquire, as above for the end.
        let end = self.end.load(Ordering::Acquire);
        let left = end.saturating_sub(self.first_left(cursor)) as usize;
        if is_its() { left } else { 0 }
    }

    /// The first job from `cursor` on that no revoker has taken.
    fn first_left(&self, cursor: u32) -> u32 {
        // Ordering: Relaxed, checked again under the lock.
        if cursor == IDLE || !self.hot.revoked.load(Ordering::Relaxed) {
            return cursor;
        }
        let taken = self.taken.lock();
        // Ordering: Relaxed, under the lock.
        if self.hot.revoked.load(Ordering::Relaxed) { taken.resume.max(cursor) } else { cursor }
    }
}
