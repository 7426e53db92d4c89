//! How workers park and are woken; `README.md` beside this file is the essay.

use super::counters::Counts;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence_light, futex_wait, futex_wake, load_after_rmw};
use crossbeam_utils::CachePadded;
use std::time::Duration;

/// The sleep state of an engine's workers.
pub(crate) struct Sleep {
    /// [`Counts`], packed.
    counts: CachePadded<AtomicU64>,
    /// Wake-ups handed out and not yet taken: a semaphore that sleepers wait on.
    tokens: CachePadded<AtomicU32>,
}

/// How a park ended. In each case the worker counts as a searcher again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// Somebody woke this worker.
    Notified,
    /// The time was up.
    TimedOut,
}

impl Sleep {
    /// With this many enlisted threads.
    pub(crate) fn new(threads: usize) -> Sleep {
        Sleep {
            counts: CachePadded::new(AtomicU64::new(threads as u64 * Counts::ENLISTED)),
            tokens: CachePadded::new(AtomicU32::new(0)),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        // Ordering: Relaxed, a hint.
        Counts(self.counts.load(Ordering::Relaxed))
    }

    /// The counts as of now, for a caller that counted itself and then looked for work.
    pub(crate) fn counts_in_order(&self) -> Counts {
        Counts(load_after_rmw(&*self.counts))
    }

    /// Wakes a sleeper if nobody is searching. Follows a SeqCst read-modify-write that published work: whether it did.
    #[inline(always)]
    pub(crate) fn notify(&self) -> bool {
        let counts = Counts(load_after_rmw(&*self.counts));
        counts.wants_wake() && self.wake_one(counts)
    }

    /// As [`notify`](Self::notify), after a plain store that published work to `fence_heavy`'s callers (a deque push).
    #[inline(always)]
    pub(crate) fn notify_local(&self) -> bool {
        fence_light();
        // Ordering: Relaxed, ordered after the push by the fence; its partner is `fence_heavy` in `Worker::look_again`.
        let counts = Counts(self.counts.load(Ordering::Relaxed));
        counts.wants_wake() && self.wake_one(counts)
    }

    #[cold]
    #[inline(never)]
    fn wake_one(&self, mut counts: Counts) -> bool {
        while counts.wants_wake() {
            let to = counts.wake();
            // Ordering: SeqCst, one total order of all changes of the counts; AcqRel suffices for the data, which comes
            // through the queues.
            match self.counts.compare_exchange(counts.0, to.0, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => {
                    self.hand_out(1);
                    return true;
                }
                Err(seen) => counts = Counts(seen),
            }
        }
        false
    }

    /// Wakes every sleeper, for shutdown. Follows a SeqCst read-modify-write that told of it.
    pub(crate) fn wake_all(&self) {
        let mut counts = Counts(load_after_rmw(&*self.counts));
        while counts.sleepers() > 0 {
            let to = counts.wake_all();
            // Ordering: SeqCst, as in `wake_one`.
            match self.counts.compare_exchange(counts.0, to.0, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return self.hand_out(counts.sleepers()),
                Err(seen) => counts = Counts(seen),
            }
        }
    }

    fn hand_out(&self, n: u32) {
        // Ordering: Release, pairs with the Acquire in `take_token`: what led to the wake-up is visible to the woken.
        self.tokens.fetch_add(n, Ordering::Release);
        futex_wake(&self.tokens, n as i32);
    }

    /// One thread more takes part.
    pub(crate) fn enlist(&self) {
        // Ordering: SeqCst, as in `wake_one`.
        self.counts.fetch_add(Counts::ENLISTED, Ordering::SeqCst);
    }

    /// One thread less takes part. It is neither asleep nor searching.
    pub(crate) fn dismiss(&self) {
        // Ordering: SeqCst, as in `wake_one`.
        self.counts.fetch_sub(Counts::ENLISTED, Ordering::SeqCst);
    }

    /// This worker starts to search.
    pub(crate) fn start_search(&self) {
        // Ordering: SeqCst, as in `wake_one`.
        self.counts.fetch_add(Counts::SEARCHER, Ordering::SeqCst);
    }

    /// This worker has found something: whether it was the last searcher, and has to pass on what else there is.
    #[must_use]
    pub(crate) fn stop_search(&self) -> bool {
        // Ordering: SeqCst, before the look for more work: a submit that saw a searcher comes before this and its bit is
        // seen, or after it and wakes somebody.
        Counts(self.counts.fetch_sub(Counts::SEARCHER, Ordering::SeqCst)).searchers() == 1
    }

    /// This worker turns from searcher to sleeper. The caller looks for work once more (after
    /// `fence_heavy`), then calls [`park`](Self::park) or [`stay_awake`](Self::stay_awake).
    pub(crate) fn start_sleep(&self) {
        // Ordering: SeqCst, before that look; pairs with `notify`.
        self.counts.fetch_add(Counts::SLEEPER.wrapping_sub(Counts::SEARCHER), Ordering::SeqCst);
    }

    /// Undoes [`start_sleep`](Self::start_sleep): the worker searches again. `false` when somebody has counted it as woken
    /// already: then its token is there or about to be, and it has to [`park`](Self::park) for that.
    #[must_use]
    pub(crate) fn stay_awake(&self) -> bool {
        self.withdraw()
    }

    /// Sleeps until woken, or for `limit`.
    pub(crate) fn park(&self, limit: Option<Duration>) -> Woken {
        if self.wait_for_token(limit) {
            return Woken::Notified;
        }
        if self.withdraw() {
            return Woken::TimedOut;
        }
        self.wait_for_token(None);
        Woken::Notified
    }

    /// Turns a sleeper back into a searcher, unless every sleeper is spoken for.
    fn withdraw(&self) -> bool {
        // Ordering: Relaxed, the exchange checks it.
        let mut counts = Counts(self.counts.load(Ordering::Relaxed));
        while counts.sleepers() > 0 {
            let to = counts.wake();
            // Ordering: SeqCst, as in `wake_one`.
            match self.counts.compare_exchange(counts.0, to.0, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(seen) => counts = Counts(seen),
            }
        }
        false
    }

    /// Takes a token, waiting up to `limit` for one: whether it got one.
    fn wait_for_token(&self, limit: Option<Duration>) -> bool {
        loop {
            // Ordering: Relaxed, the exchange acquires.
            let tokens = self.tokens.load(Ordering::Relaxed);
            if tokens == 0 {
                futex_wait(&self.tokens, 0, limit);
                // Ordering: Relaxed, as above.
                if limit.is_some() && self.tokens.load(Ordering::Relaxed) == 0 {
                    return false;
                }
                continue;
            }
            // Ordering: Acquire, pairs with the Release in `hand_out`.
            let taken = self.tokens.compare_exchange(tokens, tokens - 1, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_ok() {
                return true;
            }
        }
    }
}
