//! One priority level of a function's queue: a lock-free FIFO of blocks, pushed one by one, claimed in batches.
//!
//! Both ends are single words ([`Cursor`]); producers and claimers advance them by compare-exchange. A slot is reserved
//! by the exchange on the tail and published by its control word. At a block's end anyone may link the next block and
//! move the end on, so nobody waits for the thread that took the last slot. What remains: a producer that stalls between
//! reserve and publish delays the later jobs of this lane (not of others), which is the price of FIFO starts.
//!
//! A block goes back to its pool when all its slots are done with and both ends have left it. Threads that lost a race
//! may still read its atomics; the lap in the cursor makes their compare-exchange fail. The one write such a thread can
//! still make is to link a successor to a block that has moved to another lane, and that is harmless: the successor is
//! fresh, and whoever reaches the end of that block uses it.

use super::block::{Header, JobSlot, Shape};
use super::cursor::Cursor;
use super::pool::{NIL, Pool};
use crate::clock;
use crate::job::slot::ResultSlot;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, IS_MODEL, Ordering, load_after_rmw, spin_loop};
use std::ptr::NonNull;

/// Linked in place of a next block: the lane goes on without one.
const RETIRED: u32 = NIL - 1;
/// Of each 16th block from this one on, the first job's wait is a sample; of the 16 first of these, each one's.
const SAMPLES_FROM: u32 = 4;

/// A root that leads to this block at this lap.
const fn root_link(lap: u32, block: u32) -> u64 {
    ((lap as u64) << 32) | block as u64
}

/// A FIFO of jobs with arguments stored as `S`; the type appears in the methods, so that lanes can be kept untyped.
#[repr(C, align(64))]
pub(crate) struct Lane {
    tail: AtomicU64,
    /// Where the lane began after a time without blocks: the lap above, the block's index below. What `next` is to a block,
    /// but never cleared: the lap says which beginning it belongs to.
    root: AtomicU64,
    /// When the first job of a block was about to be queued, and which block; [`NIL`] when nobody took notice.
    stamp: AtomicU64,
    stamped: AtomicU32,
    _producers: [u8; 64 - 28],
    head: AtomicU64,
    /// For whoever counts what was done with the jobs.
    pub(crate) served: [AtomicU64; 2],
    /// Somebody is giving the block back.
    retiring: AtomicBool,
    _consumers: [u8; 64 - 25],
}

/// Whether the wait of a block's first job may be a sample. None in the first blocks, for functions that are hardly used should
/// stay small.
fn is_sample(lap: u32) -> bool {
    !IS_MODEL && ((SAMPLES_FROM..SAMPLES_FROM + 16).contains(&lap) || lap % 16 == 0 && lap > SAMPLES_FROM)
}

/// Slots that the caller has reserved or claimed: `len` from `start` on.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) block: NonNull<Header>,
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// A claim only: this claimer moved the head into the lane's first block.
    pub(crate) began: bool,
    /// A claim only: its first job may be a sample, see [`Lane::take_stamp`].
    pub(crate) sampled: bool,
}

/// Why a push was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The lane was closed.
    Closed,
    /// The pool has no block left.
    Exhausted,
}

/// What became of an attempt to move the head on.
enum Follow {
    /// This thread moved it.
    Moved,
    /// Somebody else did: look again.
    Raced,
    /// Nothing follows yet.
    End,
}

/// What a claim found.
pub(crate) enum Claim {
    /// Jobs, now the caller's.
    Jobs(Span),
    /// No job is queued, or the first one is reserved and not yet published.
    Nothing,
}

impl Lane {
    pub(crate) fn new() -> Lane {
        Lane {
            tail: AtomicU64::new(Cursor::START.0),
            root: AtomicU64::new(root_link(Cursor::START.lap().wrapping_sub(1), NIL)),
            stamp: AtomicU64::new(0),
            stamped: AtomicU32::new(NIL),
            _producers: [0; 36],
            head: AtomicU64::new(Cursor::START.0),
            served: [AtomicU64::new(0), AtomicU64::new(0)],
            retiring: AtomicBool::new(false),
            _consumers: [0; 39],
        }
    }

    /// Appends a job. The exchange on the tail is SeqCst: a caller may go on to look at the ready set.
    #[inline(always)]
    pub(crate) fn push<S>(&self, pool: &Pool, control: *mut ResultSlot, argument: S) -> Result<(), (Refused, S)> {
        match self.reserve::<S>(pool, 1) {
            Ok(span) => {
                // SAFETY: reserved above, and the pool outlives the lane.
                unsafe { Shape::<S>::slot(span.block, span.start) }.publish(control, argument);
                Ok(())
            }
            Err(refused) => Err((refused, argument)),
        }
    }

    /// Reserves up to `want` slots of one block; the caller must publish each of them.
    #[inline(always)]
    pub(crate) fn reserve<S>(&self, pool: &Pool, want: usize) -> Result<Span, Refused> {
        loop {
            // Ordering: Acquire, pairs with the exchanges below and in `extend`: the block's contents are visible.
            let tail = Cursor(self.tail.load(Ordering::Acquire));
            let offset = tail.offset();
            if tail.is_closed() {
                return Err(Refused::Closed);
            }
            if offset == Shape::<S>::CAPACITY || !tail.has_block() {
                self.extend::<S>(pool, tail)?;
                continue;
            }
            let len = want.min(Shape::<S>::CAPACITY - offset);
            let to = tail.advance(len);
            // Ordering: SeqCst on success, the first half of the pair with `ReadySet::clear` then `Lane::is_empty`;
            // Relaxed on failure, the loop loads again.
            if self.tail.compare_exchange_weak(tail.0, to.0, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                let block = pool.at(tail.block()).cast();
                if offset == 0 && is_sample(tail.lap()) {
                    self.stamp(tail.block());
                }
                if offset + len == Shape::<S>::CAPACITY {
                    // Whoever takes the last slot brings the next block, so that others need not. Failing is harmless.
                    let _ = self.extend::<S>(pool, to);
                }
                return Ok(Span { block, start: offset, len, began: false, sampled: false });
            }
            spin_loop();
        }
    }

    /// Moves the tail from the end of its block (or from no block) to the start of the next, making one if needed.
    #[cold]
    #[inline(never)]
    fn extend<S>(&self, pool: &Pool, tail: Cursor) -> Result<(), Refused> {
        let next = if tail.has_block() {
            Self::link_next::<S>(pool, pool.at(tail.block()).cast())?
        } else {
            match self.link_root::<S>(pool, tail.lap())? {
                Some(first) => first,
                // The lane has moved on: the caller looks again.
                None => return Ok(()),
            }
        };
        self.move_tail::<S>(pool, tail, next);
        Ok(())
    }

    /// What follows a block, making it if nothing does yet.
    fn link_next<S>(pool: &Pool, block: NonNull<Header>) -> Result<u32, Refused> {
        // SAFETY: type-stable memory.
        let link = unsafe { &block.as_ref().next };
        // Ordering: Acquire, pairs with the exchange below of the thread that linked it: the new block is initialised.
        let next = link.load(Ordering::Acquire);
        if next != NIL {
            return Ok(next);
        }
        let (fresh, index) = Self::fresh::<S>(pool)?;
        // Ordering: AcqRel, Release publishes the fresh block, Acquire sees the one of whoever was faster.
        link.compare_exchange(NIL, index, Ordering::AcqRel, Ordering::Acquire).map(|_| index).or_else(|winner| {
            pool.put(fresh.cast());
            Ok(winner)
        })
    }

    /// The first block after a time without one, making it if there is none yet; `None` when that time is over.
    fn link_root<S>(&self, pool: &Pool, lap: u32) -> Result<Option<u32>, Refused> {
        // Ordering: Acquire, as in `link_next`.
        let mut seen = self.root.load(Ordering::Acquire);
        let mut made = None;
        let found = loop {
            let age = lap.wrapping_sub((seen >> 32) as u32) as i32;
            if age <= 0 {
                break (age == 0).then_some(seen as u32);
            }
            let (_, index) = match made {
                Some(made) => made,
                None => *made.insert(Self::fresh::<S>(pool)?),
            };
            // Ordering: AcqRel and Acquire, as in `link_next`.
            match self.root.compare_exchange(seen, root_link(lap, index), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(Some(index)),
                Err(winner) => seen = winner,
            }
        };
        if let Some((unused, _)) = made {
            pool.put(unused.cast());
        }
        Ok(found)
    }

    /// The first job of a block is about to be queued: takes notice of when, if the last one that was noticed has started.
    #[cold]
    fn stamp(&self, block: u32) {
        // Ordering: Relaxed, a block that is named here is this thread's to name, or its job has not started.
        let stamped = self.stamped.load(Ordering::Relaxed);
        if stamped != NIL && stamped != block {
            return;
        }
        // Ordering: Relaxed, published with the job.
        if self.stamped.compare_exchange(stamped, block, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            // Ordering: Relaxed, as above.
            self.stamp.store(clock::now(), Ordering::Relaxed);
        }
    }

    /// When the first job of this span was about to be queued, if that is a sample.
    #[inline(always)]
    pub(crate) fn take_stamp(&self, span: Span) -> Option<u64> {
        if span.sampled { self.take_stamp_of(span.block) } else { None }
    }

    #[cold]
    fn take_stamp_of(&self, block: NonNull<Header>) -> Option<u64> {
        // SAFETY: a live block; its index never changes.
        let index = unsafe { block.as_ref() }.link.index;
        // Ordering: Relaxed, written before the job was published, and by nobody else until this call.
        if self.stamped.load(Ordering::Relaxed) != index {
            return None;
        }
        // Ordering: Relaxed, as above.
        let stamp = self.stamp.load(Ordering::Relaxed);
        // Ordering: Release, the stamp was read before another one is written.
        self.stamped.store(NIL, Ordering::Release);
        Some(stamp)
    }

    fn fresh<S>(pool: &Pool) -> Result<(NonNull<Header>, u32), Refused> {
        let fresh = Shape::<S>::fresh(pool).ok_or(Refused::Exhausted)?;
        // SAFETY: a live block; its index never changes.
        Ok((fresh, unsafe { fresh.as_ref() }.link.index))
    }

    /// Moves the tail off its block's end (or from no block) to what was linked, unless somebody else has.
    fn move_tail<S>(&self, pool: &Pool, tail: Cursor, next: u32) {
        // Ordering: SeqCst like every change of the tail; Relaxed on failure: somebody else moved it or closed it.
        let moved =
            self.tail.compare_exchange(tail.0, tail.follow(next).0, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        if moved && tail.has_block() {
            // SAFETY: the exchange above made this thread the one that moved the tail off the block.
            unsafe { Shape::<S>::finish(pool, pool.at(tail.block()).cast(), 1) };
        }
    }

    /// Takes up to `max` published jobs from the front, all of one block.
    #[inline(always)]
    pub(crate) fn claim<S>(&self, pool: &Pool, max: usize) -> Claim {
        let mut began = false;
        loop {
            // Ordering: Acquire, pairs with the exchange in `follow`: the block is the lane's.
            let head = Cursor(self.head.load(Ordering::Acquire));
            let start = head.offset();
            if start == Shape::<S>::CAPACITY || !head.has_block() {
                match self.follow::<S>(pool, head) {
                    Follow::Moved => began |= !head.has_block(),
                    Follow::Raced => {}
                    Follow::End => return Claim::Nothing,
                }
                continue;
            }
            let block = pool.at(head.block()).cast();
            let most = max.min(Shape::<S>::CAPACITY - start);
            let len = Self::published::<S>(block, start, most);
            if len == 0 {
                // Ordering: Relaxed, only tells a stale view from an empty lane; both answers are safe.
                if self.head.load(Ordering::Relaxed) != head.0 {
                    continue;
                }
                return Claim::Nothing;
            }
            let to = head.advance(len);
            // Ordering: Relaxed, the load above acquired the block, no value of the word comes back, and the exchange goes
            // on with the release of the one that moved the head there; Relaxed on failure, the loop loads again.
            if self.head.compare_exchange(head.0, to.0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                let sampled = start == 0 && is_sample(head.lap());
                return Claim::Jobs(Span { block, start, len, began, sampled });
            }
            spin_loop();
        }
    }

    /// How many slots from `start` on, `most` at most, hold published jobs.
    #[inline(always)]
    fn published<S>(block: NonNull<Header>, start: usize, most: usize) -> usize {
        let is_published = |i: usize| {
            // SAFETY: inside the block; if the block has moved on, the value is noise and the exchange on the head fails.
            let slot: &JobSlot<S> = unsafe { Shape::slot(block, start + i) };
            // Ordering: Acquire, pairs with `JobSlot::publish`.
            !slot.control.load(Ordering::Acquire).is_null()
        };
        (0..most).take_while(|&i| is_published(i)).count()
    }

    /// Moves the head from the end of its block (or from no block) to what was linked, if anything was.
    #[cold]
    #[inline(never)]
    fn follow<S>(&self, pool: &Pool, head: Cursor) -> Follow {
        let Some(next) = self.next_of(pool, head) else { return Follow::End };
        // Ordering: Release, hands on the block that `next_of` acquired; Relaxed on failure: somebody else moved it.
        if self.head.compare_exchange(head.0, head.follow(next).0, Ordering::Release, Ordering::Relaxed).is_err() {
            return Follow::Raced;
        }
        if head.has_block() {
            // SAFETY: the exchange above made this thread the one that moved the head off the block.
            unsafe { Shape::<S>::finish(pool, pool.at(head.block()).cast(), 1) };
        }
        Follow::Moved
    }

    /// What was linked behind the end that `at` is.
    fn next_of(&self, pool: &Pool, at: Cursor) -> Option<u32> {
        if at.has_block() {
            let block: NonNull<Header> = pool.at(at.block()).cast();
            // SAFETY: type-stable memory.
            let link = unsafe { &block.as_ref().next };
            // Ordering: Acquire, pairs with the exchange in `link_next`.
            return Some(link.load(Ordering::Acquire)).filter(|next| *next != NIL);
        }
        // Ordering: Acquire, pairs with the exchange in `link_root`.
        let root = self.root.load(Ordering::Acquire);
        ((root >> 32) as u32 == at.lap()).then_some(root as u32)
    }

    /// Gives the block of an empty lane back to the pool: whether the lane has none now. A lane that is in use is left
    /// alone.
    ///
    /// Reserves the rest of the block as a producer would and claims it as a worker would, without publishing anything in
    /// between, then links [`RETIRED`] where a producer would link the next block.
    pub(crate) fn retire<S>(&self, pool: &Pool) -> bool {
        // Ordering: Relaxed, one at a time; what the other did is checked by the exchanges on the two ends, whose values
        // do not come back.
        if self.retiring.swap(true, Ordering::Relaxed) {
            return false;
        }
        let retired = self.retire_alone::<S>(pool);
        // Ordering: Relaxed, as above.
        self.retiring.store(false, Ordering::Relaxed);
        retired
    }

    fn retire_alone<S>(&self, pool: &Pool) -> bool {
        // Ordering: Acquire, as in `claim`.
        let mut head = Cursor(self.head.load(Ordering::Acquire));
        if head.offset() == Shape::<S>::CAPACITY {
            self.follow::<S>(pool, head);
            // Ordering: Acquire, as above.
            head = Cursor(self.head.load(Ordering::Acquire));
        }
        // Ordering: Acquire, as in `reserve`.
        let mut tail = Cursor(self.tail.load(Ordering::Acquire));
        if tail.has_block()
            && tail.offset() == Shape::<S>::CAPACITY
            && let Some(next) = self.next_of(pool, tail)
        {
            // Left behind by a producer whose exchange a close has refused.
            self.move_tail::<S>(pool, tail, next);
            // Ordering: Acquire, as above.
            tail = Cursor(self.tail.load(Ordering::Acquire));
        }
        if !tail.has_block() {
            return !head.has_block();
        }
        let rest = Shape::<S>::CAPACITY - head.offset();
        if tail.open() != head || rest == 0 {
            return false;
        }
        let block: NonNull<Header> = pool.at(head.block()).cast();
        let end = tail.advance(rest);
        // Ordering: SeqCst like every change of the tail; Relaxed on failure: a producer came.
        if self.tail.compare_exchange(tail.0, end.0, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return false;
        }
        // Until the reserved slots are done with, the block stays in this lane, so the link below is this lane's.
        // SAFETY: type-stable memory.
        let link = unsafe { &block.as_ref().next };
        // Ordering: AcqRel and Acquire, as in `extend`.
        let linked = link.compare_exchange(NIL, RETIRED, Ordering::AcqRel, Ordering::Acquire);
        // Ordering: Relaxed, as in `claim`; it succeeds, for nobody claims slots that are not published.
        let claimed = self.head.compare_exchange(head.0, head.advance(rest).0, Ordering::Relaxed, Ordering::Relaxed);
        debug_assert!(claimed.is_ok(), "a slot was claimed without being published");
        // SAFETY: reserved and claimed above, and not used.
        unsafe { Shape::<S>::finish_unused(pool, block, rest) };
        // A producer may have been faster; then the lane goes on with its block.
        self.move_tail::<S>(pool, end, linked.err().unwrap_or(RETIRED));
        self.follow::<S>(pool, head.advance(rest));
        linked.is_ok()
    }

    /// Refuses every later push. What was reserved before stays and is claimed as usual.
    pub(crate) fn close(&self) {
        // Ordering: SeqCst like every change of the tail: a push comes before it and counts, or after it and is refused.
        self.tail.fetch_or(Cursor::START.closed().0 & !Cursor::START.0, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Ordering: Acquire, so that a caller who sees it closed sees what led to it.
        Cursor(self.tail.load(Ordering::Acquire)).is_closed()
    }

    /// The same for who has just done a SeqCst read-modify-write: it sees the close, or the closer sees that.
    pub(crate) fn is_closed_after_rmw(&self) -> bool {
        Cursor(load_after_rmw(&self.tail)).is_closed()
    }

    /// Jobs reserved and not claimed. Exact when nobody pushes or claims meanwhile.
    pub(crate) fn len<S>(&self) -> usize {
        // Ordering: Relaxed, a figure for people; the head is read first so that it cannot overtake the tail.
        let head = Cursor(self.head.load(Ordering::Relaxed));
        // Ordering: Relaxed, as above.
        let tail = Cursor(self.tail.load(Ordering::Relaxed));
        tail.distance(head, Shape::<S>::CAPACITY)
    }

    /// Whether nothing is reserved beyond what is claimed; the load that follows `ReadySet::clear`.
    #[inline]
    pub(crate) fn is_empty<S>(&self) -> bool {
        // Ordering: Relaxed; a head that is behind makes the lane look fuller, and one that is beyond the tail that is read
        // below has passed every job which that tail counts.
        let head = Cursor(self.head.load(Ordering::Relaxed));
        // The second half of the pair with `reserve`.
        let tail = Cursor(load_after_rmw(&self.tail)).open();
        tail.distance(head, Shape::<S>::CAPACITY) == 0
    }
}
