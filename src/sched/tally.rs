//! How many jobs of a function run, and how many gave a result: exact, for a few stores a batch to memory of the worker's own.
//!
//! Each worker counts for the functions that it served last, in a few places; a function that comes to a place which
//! another one has turns that one's count out, to two words in the function itself. A reader adds these and the places
//! up. Each place has a version, odd while it changes hands, so that no count is missed or met twice.
//!
//! A place that is not turned out refers to its function. So a worker turns all out before it parks, and, while there are
//! removed functions, at each point between two jobs: `registry` frees none before each worker has passed two of these.

use crate::sync::{AtomicPtr, AtomicU64, Ordering, spin_loop};
use std::cell::Cell;
use std::ptr;

/// Functions that a worker counts for at a time.
const PLACES: usize = if crate::sync::IS_MODEL { 1 } else { 16 };
/// A count is the jobs that are done, in these units, and below that the jobs that run: a difference, where jobs began in
/// one place and end in another. More jobs than fit can run nowhere, and those that are done are turned out in time.
const DONE: u64 = 1 << 24;
/// Looks of a reader at a place that keeps changing hands.
const LOOKS: usize = 1000;

/// What jobs are counted for.
pub(crate) trait Counted {
    /// Counts that were turned out: jobs that run, a difference as in a count, and those that are done.
    fn turned_out(&self) -> &[AtomicU64; 2];
    /// Functions with different numbers do not get into each other's way.
    fn number(&self) -> usize;
}

/// A count's jobs that run, a difference, and those that are done.
fn parts(count: u64) -> [u64; 2] {
    let above = DONE.leading_zeros() + 1;
    let running = ((count << above) as i64 >> above) as u64;
    [running, count.wrapping_sub(running) / DONE]
}

/// The places of one worker.
pub(crate) struct Tallies<F>([Tally<F>; PLACES]);

/// A place.
pub(crate) struct Tally<F> {
    function: AtomicPtr<F>,
    count: AtomicU64,
    version: AtomicU64,
}

/// Jobs of a function that were started, and still run or gave their result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) running: u64,
    pub(crate) done: u64,
}

impl<F> Tally<F> {
    /// A job starts. The owner's thread only; likewise below.
    #[inline(always)]
    pub(crate) fn start(&self) {
        self.add(1);
    }

    /// It has given its result. Before whoever waits for it is told, so that they find it counted.
    #[inline(always)]
    pub(crate) fn end(&self) {
        self.add(DONE - 1);
    }

    /// A job that counts as running does not: for a while, or it has ended without a result.
    pub(crate) fn suspend(&self) {
        self.add(u64::MAX);
    }

    #[inline(always)]
    fn add(&self, n: u64) {
        // Ordering: Relaxed, one writer.
        let count = self.count.load(Ordering::Relaxed);
        // Ordering: Release, pairs with the Acquire in `counted`: who sees the count of a function that came after another one
        // sees that the place has changed hands.
        self.count.store(count.wrapping_add(n), Ordering::Release);
    }
}

/// Jobs that run one after the other, on a count that goes up with each start. They count as one that runs all the time, until
/// somebody is told of an end; so those without a handle cost next to nothing.
pub(crate) struct Batch<'t, F> {
    tally: Option<&'t Tally<F>>,
    started: &'t Cell<usize>,
    /// Of these, the ones that are counted, or not to be.
    counted: usize,
    /// Counted as one that runs.
    open: bool,
    inside: bool,
}

impl<'t, F> Batch<'t, F> {
    #[inline(always)]
    pub(crate) fn new(tally: Option<&'t Tally<F>>, started: &'t Cell<usize>) -> Self {
        Batch { tally, started, counted: 0, open: false, inside: false }
    }

    /// A job starts, and is on the count.
    #[inline(always)]
    pub(crate) fn enter(&mut self) {
        if !self.open {
            self.open = true;
            self.counted = self.started.get() - 1;
            self.tally.inspect(|tally| tally.add(1));
        }
        self.inside = true;
    }

    /// It has ended, and nobody is told.
    #[inline(always)]
    pub(crate) fn leave(&mut self) {
        self.inside = false;
    }

    /// It has ended, and whoever is told then finds it counted.
    #[inline(always)]
    pub(crate) fn leave_for_all_to_see(&mut self) {
        self.inside = false;
        self.settle();
    }

    /// A job is on the count, and does not start.
    pub(crate) fn skip(&mut self) {
        self.counted += 1;
    }

    /// Other things come next.
    #[inline(always)]
    pub(crate) fn settle(&mut self) {
        if self.open {
            // A job that panics is counted by whoever reports it.
            let unfinished = usize::from(self.inside);
            let ended = self.started.get() - unfinished - self.counted;
            self.tally.inspect(|tally| tally.add(ended as u64 * DONE - (1 - unfinished as u64)));
            self.open = false;
        }
    }
}

impl<F> Drop for Batch<'_, F> {
    #[inline(always)]
    fn drop(&mut self) {
        self.settle();
    }
}

/// Nested jobs that are taken one after the other, each but the first off a budget. As in a [`Batch`] they count as one, but for
/// those that are run apart.
pub(crate) struct Round<'t, F> {
    tally: Option<&'t Tally<F>>,
    budget: &'t Cell<usize>,
    /// What the budget was when the first one had been taken.
    from: usize,
    /// Jobs of the round that were run apart.
    pub(crate) apart: &'t Cell<usize>,
    /// The same of the round that this one interrupts.
    outer: usize,
    /// Jobs that were taken and not run here, once the round has come to its end.
    untouched: Option<usize>,
}

impl<'t, F> Round<'t, F> {
    #[inline(always)]
    pub(crate) fn new(tally: Option<&'t Tally<F>>, budget: &'t Cell<usize>, apart: &'t Cell<usize>) -> Self {
        tally.inspect(|tally| tally.add(1));
        Round { tally, budget, from: budget.get(), apart, outer: apart.replace(0), untouched: None }
    }

    /// The last of the jobs has ended; this many were taken after it.
    #[inline(always)]
    pub(crate) fn end(mut self, untouched: usize) {
        self.untouched = Some(untouched);
    }
}

impl<F> Drop for Round<'_, F> {
    #[inline(always)]
    fn drop(&mut self) {
        let apart = self.apart.replace(self.outer);
        let taken = 1 + self.from - self.budget.get();
        // A job that panics is counted by whoever reports it.
        let ended = taken - apart - self.untouched.unwrap_or(1);
        let runs = u64::from(self.untouched.is_some());
        self.tally.inspect(|tally| tally.add((ended as u64 * DONE).wrapping_sub(runs)));
    }
}

impl<F: Counted> Tally<F> {
    /// Keeps the jobs that are done from running over. The owner's thread only, with the function that the place counts for.
    #[inline(always)]
    pub(crate) fn relieve(&self, function: &F) {
        // Half of what fits; or more have ended here than began here, which is rare.
        // Ordering: Relaxed, one writer.
        if self.count.load(Ordering::Relaxed) > u64::MAX / 2 {
            self.turn_to(function);
        }
    }

    /// Turns out what is there, for `function` or nobody.
    #[cold]
    #[inline(never)]
    fn turn_to(&self, function: *const F) {
        // Ordering: Relaxed, one writer.
        let version = self.version.load(Ordering::Relaxed);
        // Ordering: Relaxed, ordered before what follows by the Release of each: who sees any of that sees it.
        self.version.store(version + 1, Ordering::Relaxed);
        // Ordering: Relaxed, one writer, as for the count.
        let old = self.function.load(Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        let count = self.count.load(Ordering::Relaxed);
        // SAFETY: turned out before it is freed, see above.
        if let Some(old) = unsafe { old.as_ref() }.filter(|_| count != 0) {
            for (sum, part) in old.turned_out().iter().zip(parts(count)) {
                // Ordering: Release, pairs with the Acquire in `started`.
                sum.fetch_add(part, Ordering::Release);
            }
        }
        // Ordering: Release, as above.
        self.count.store(0, Ordering::Release);
        // Ordering: Release, as above.
        self.function.store(function.cast_mut(), Ordering::Release);
        // Ordering: Release, pairs with the Acquire in `started`: what was changed is seen.
        self.version.store(version + 2, Ordering::Release);
    }
}

impl<F: Counted> Tallies<F> {
    pub(crate) fn new() -> Self {
        Tallies(std::array::from_fn(|_| Tally {
            function: AtomicPtr::new(ptr::null_mut()),
            count: AtomicU64::new(0),
            version: AtomicU64::new(0),
        }))
    }

    // In models there is one.
    #[cfg_attr(any(layshaft_loom, layshaft_shuttle), allow(clippy::modulo_one))]
    fn place(&self, function: &F) -> &Tally<F> {
        &self.0[function.number() % PLACES]
    }

    /// The place that counts for this function, until another one comes to it. The owner's thread only; likewise below.
    #[inline(always)]
    pub(crate) fn of(&self, function: &F) -> &Tally<F> {
        let place = self.place(function);
        // Ordering: Relaxed, one writer.
        if !ptr::eq(place.function.load(Ordering::Relaxed), function) {
            place.turn_to(function);
        }
        place
    }

    /// Refers to no function any more.
    pub(crate) fn turn_out(&self) {
        for place in &self.0 {
            // Ordering: Relaxed, one writer.
            if !place.function.load(Ordering::Relaxed).is_null() {
                place.turn_to(ptr::null());
            }
        }
    }
}

/// The jobs of a function, over these workers. Exact for jobs whose end the caller has learnt of; of a function that many
/// others take places from all the time it may be off by some.
pub(crate) fn started<'w, F: Counted + 'w>(
    function: &F,
    workers: impl Iterator<Item = &'w Tallies<F>> + Clone,
) -> Started {
    let mut sums = [0; 2];
    for _ in 0..LOOKS {
        // Ordering: Acquire, pairs with the last Release in `turn_to`.
        let version = |tallies: &Tallies<F>| tallies.place(function).version.load(Ordering::Acquire);
        let before = workers.clone().map(version);
        let versions: Vec<u64> = before.collect();
        let add = |[a, b]: [u64; 2], [c, d]: [u64; 2]| [a.wrapping_add(c), b.wrapping_add(d)];
        sums = workers.clone().map(|tallies| parts(tallies.counted(function))).fold([0; 2], add);
        // Ordering: Acquire, pairs with the Release in `turn_to`: a count that came from a place shows that it changes hands.
        sums = add(sums, function.turned_out().each_ref().map(|sum| sum.load(Ordering::Acquire)));
        if versions.iter().all(|version| version % 2 == 0) && workers.clone().map(version).eq(versions) {
            break;
        }
        spin_loop();
    }
    // More have ended than were started only where a reader was late: then none runs.
    let [running, done] = sums;
    Started { running: u64::try_from(running as i64).unwrap_or(0), done }
}

impl<F: Counted> Tallies<F> {
    /// What this worker has counted for a function and not turned out.
    fn counted(&self, function: &F) -> u64 {
        let place = self.place(function);
        // Ordering: Acquire, as for the function's own count; likewise below.
        let is_its = ptr::eq(place.function.load(Ordering::Acquire), function);
        // Ordering: Acquire, as above.
        if is_its { place.count.load(Ordering::Acquire) } else { 0 }
    }
}

#[cfg(all(test, not(any(layshaft_loom, layshaft_shuttle))))]
mod tests {
    use super::*;

    struct Function([AtomicU64; 2]);

    impl Function {
        fn new() -> Function {
            Function([AtomicU64::new(0), AtomicU64::new(0)])
        }
    }

    impl Counted for Function {
        fn turned_out(&self) -> &[AtomicU64; 2] {
            &self.0
        }

        fn number(&self) -> usize {
            0
        }
    }

    fn read(function: &Function, tallies: &[Tallies<Function>]) -> (u64, u64) {
        let Started { running, done } = started(function, tallies.iter());
        (running, done)
    }

    /// Calls in calls, as deep as a stack of a gigabyte allows, some of whose jobs end where others began.
    #[test]
    fn many_run_at_a_time() {
        let (one, other) = (Function::new(), Function::new());
        let tallies = [Tallies::new(), Tallies::new()];
        (0..1_000_000).for_each(|_| tallies[0].of(&one).start());
        assert_eq!(read(&one, &tallies), (1_000_000, 0));
        (0..400_000).for_each(|_| tallies[1].of(&one).end());
        assert_eq!(read(&one, &tallies), (600_000, 400_000));
        tallies.iter().for_each(|tallies| _ = tallies.of(&other));
        assert_eq!(read(&one, &tallies), (600_000, 400_000));
        (0..600_000).for_each(|_| tallies[0].of(&one).end());
        assert_eq!((read(&one, &tallies), read(&other, &tallies)), ((0, 1_000_000), (0, 0)));
    }

    /// A worker that runs one function for years.
    #[test]
    fn many_are_done() {
        let function = Function::new();
        let tallies = [Tallies::new()];
        let each = u64::MAX / DONE / 3;
        for n in 1..=1_000 {
            let place = tallies[0].of(&function);
            place.relieve(&function);
            place.start();
            place.add(each * DONE);
            assert_eq!(read(&function, &tallies), (n, n * each));
        }
    }
}
