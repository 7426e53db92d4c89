//! One workload on one contestant, in a process of its own: one figure.

use crate::alloc;
use crate::machine;
use crate::peers::{Body, Home, Patience, Peer};
use crate::system::pin;
use crate::tally::{Total, count, sum_below};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::mem;
use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How much of everything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    Full,
    Quick,
    /// Does it run at all? The figures mean nothing.
    Smoke,
}

impl Effort {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Effort::Full => "full",
            Effort::Quick => "quick",
            Effort::Smoke => "smoke",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Effort> {
        [Effort::Full, Effort::Quick, Effort::Smoke].into_iter().find(|effort| effort.name() == name)
    }

    fn repetitions(self) -> usize {
        match self {
            Effort::Full => 7,
            Effort::Quick => 3,
            Effort::Smoke => 1,
        }
    }

    fn jobs(self, full: u64) -> u64 {
        match self {
            Effort::Full => full,
            Effort::Quick => full / 5,
            Effort::Smoke => (full / 500).clamp(100, 2_000),
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Jobs that nobody waits for; nanoseconds a job.
    Send { workers: usize, producers: usize },
    /// The same, so many a call.
    Batch { size: u64 },
    /// Submit and wait with so many outstanding; nanoseconds a job.
    Window { outstanding: usize, patience: Patience },
    /// One outstanding, at once after the last one or after a pause; median nanoseconds.
    RoundTrip { pause: Duration, patience: Patience },
    /// Each job submits two; nanoseconds a job.
    Tree { workers: usize },
    /// Jobs of many functions; nanoseconds a job.
    Functions { functions: usize, is_skewed: bool },
    /// A 200-byte argument with a destructor; nanoseconds a job.
    Parcel,
    /// Bytes allocated a queued job.
    QueuedBytes,
    /// Allocations a job in steady state.
    Allocations { is_awaited: bool },
}

impl Workload {
    pub(crate) fn counts_allocations(self) -> bool {
        matches!(self, Workload::QueuedBytes | Workload::Allocations { .. })
    }

    /// Runs it. Everything that was started ends with the process.
    pub(crate) fn measure<P: Home>(self, effort: Effort) -> f64 {
        match self {
            Workload::Send { workers, producers } => {
                let jobs = effort.jobs(1_000_000) / producers as u64;
                let peer = start::<P, Count>(workers, 1);
                feed(effort, producers, jobs, |_, jobs| jobs.for_each(|arg| peer.send(arg)))
            }
            Workload::Batch { size } => {
                let peer = start::<P, Count>(1, 1);
                feed(effort, 1, effort.jobs(1_000_000), |_, jobs| {
                    let end = jobs.end;
                    jobs.step_by(size as usize).for_each(|at| peer.send_batch(at..end.min(at + size)));
                })
            }
            Workload::Window { outstanding, patience } => window::<P>(effort, outstanding, patience),
            Workload::RoundTrip { pause, patience } => round_trip::<P>(effort, pause, patience),
            Workload::Tree { workers } => tree::<P>(effort, workers),
            Workload::Functions { functions, is_skewed } => {
                let peer = start::<P, Count>(1, functions);
                let order = order(functions, is_skewed);
                feed(effort, 1, effort.jobs(1_000_000), |_, jobs| {
                    jobs.for_each(|arg| peer.send_to(order[arg as usize % ORDER] as usize, arg));
                })
            }
            Workload::QueuedBytes => queued_bytes::<P>(effort),
            Workload::Allocations { is_awaited } => allocations::<P>(effort, is_awaited),
            Workload::Parcel => unreachable!("measured by `measure_parcel`, as the argument has another type"),
        }
    }
}

/// An argument of 200 bytes that must be dropped; dropping it is what counts.
pub(crate) struct Parcel([u64; 25]);

impl Drop for Parcel {
    fn drop(&mut self) {
        count(self.0[24]);
    }
}

/// [`Workload::Parcel`].
pub(crate) fn measure_parcel<P: Peer<Parcel>>(effort: Effort) -> f64 {
    pin(1);
    let peer = P::start::<Unpack>(1, 1);
    P::wait(peer.submit(Parcel([0; 25])), Patience::Park);
    pin(0);
    let figure = feed(effort, 1, effort.jobs(250_000), |_, jobs| jobs.for_each(|arg| peer.send(Parcel([arg; 25]))));
    // Like every contestant it ends with the process.
    mem::forget(peer);
    figure
}

struct Unpack;

impl Body<Parcel> for Unpack {
    #[inline(always)]
    fn run(parcel: Parcel) -> u64 {
        parcel.0[0]
    }
}

/// The body of most workloads: the least that can be checked.
struct Count;

impl Body<u64> for Count {
    #[inline(always)]
    fn run(arg: u64) -> u64 {
        count(arg);
        arg + 1
    }
}

/// Submits two jobs unless the argument is zero.
struct Branch<P>(PhantomData<fn() -> P>);

impl<P: Home> Body<u64> for Branch<P> {
    #[inline(always)]
    fn run(arg: u64) -> u64 {
        count(arg);
        if arg > 0 {
            let peer = P::home().get().expect("bodies run after the start");
            peer.send_nested(arg - 1);
            peer.send_nested(arg - 1);
        }
        arg
    }
}

/// Holds its worker, for one argument, until the gate opens.
struct Gate;

const HOLD: u64 = u64::MAX;
const SHUT: u32 = 0;
const HELD: u32 = 1;
const OPEN: u32 = 2;
static GATE: AtomicU32 = AtomicU32::new(SHUT);

impl Body<u64> for Gate {
    fn run(arg: u64) -> u64 {
        if arg == HOLD {
            GATE.store(HELD, Ordering::SeqCst);
            await_gate(OPEN);
        } else {
            count(arg);
        }
        arg
    }
}

fn await_gate(state: u32) {
    while GATE.load(Ordering::SeqCst) != state {
        thread::sleep(Duration::from_micros(100));
    }
}

/// Starts a contestant. A single worker gets the second core, and the caller the first.
fn start<P: Home, B: Body<u64>>(workers: usize, functions: usize) -> &'static P {
    let is_pinned = workers == 1;
    if is_pinned {
        pin(1);
    }
    let peer = P::home().get_or_init(|| P::start::<B>(workers, functions));
    // Until a worker has run something its thread may not be where it belongs.
    P::wait(peer.submit(0), Patience::Park);
    if is_pinned {
        pin(0);
    }
    peer
}

/// The median of the repetitions after a first one, which warms up.
fn repeat(effort: Effort, mut once: impl FnMut() -> f64) -> f64 {
    once();
    machine::median((0..effort.repetitions()).map(|_| once()).collect())
}

/// Producers that each submit `share` jobs; nanoseconds a job until the last has run.
fn feed(effort: Effort, producers: usize, share: u64, produce: impl Fn(usize, Range<u64>) + Sync) -> f64 {
    let jobs = share * producers as u64;
    repeat(effort, || {
        let done = Total::now().after(jobs, sum_below(share) * producers as u64);
        let barrier = Barrier::new(producers);
        let produce = |n: usize| {
            barrier.wait();
            // The clock starts in the earliest producer: a coordinator could read it late.
            let started = Instant::now();
            produce(n, 0..share);
            started
        };
        let produce = &produce;
        let started = thread::scope(|scope| {
            let producers: Vec<_> = (0..producers).map(|n| scope.spawn(move || produce(n))).collect();
            producers.into_iter().map(|producer| producer.join().expect("no producer panics")).min()
        });
        done.wait();
        nanos(started.expect("there are producers")) / jobs as f64
    })
}

fn nanos(started: Instant) -> f64 {
    started.elapsed().as_nanos() as f64
}

/// Fills the window, then takes results until it is half empty, and so on.
fn window<P: Home>(effort: Effort, outstanding: usize, patience: Patience) -> f64 {
    let peer = start::<P, Count>(1, 1);
    let jobs = effort.jobs(500_000);
    repeat(effort, || {
        let done = Total::now().after(jobs, sum_below(jobs));
        let mut handles = VecDeque::with_capacity(outstanding);
        let (mut next, mut received) = (0, 0);
        let started = Instant::now();
        while received < jobs {
            while handles.len() < outstanding && next < jobs {
                handles.push_back(peer.submit(next));
                next += 1;
            }
            for handle in handles.drain(..handles.len().min(outstanding / 2)) {
                received += 1;
                assert_eq!(P::wait(handle, patience), received, "a result of another job");
            }
        }
        let taken = nanos(started);
        done.wait();
        taken / jobs as f64
    })
}

fn round_trip<P: Home>(effort: Effort, pause: Duration, patience: Patience) -> f64 {
    let peer = start::<P, Count>(1, 1);
    let trips = if pause.is_zero() { effort.jobs(20_000) } else { effort.jobs(1_000) / 4 };
    let once = |arg: u64| {
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        let started = Instant::now();
        let result = P::wait(peer.submit(arg), patience);
        let taken = nanos(started);
        assert_eq!(result, arg + 1, "a result of another job");
        taken
    };
    let taken: Vec<f64> = (0..trips + trips / 10).map(once).collect();
    // The first ones warm up.
    machine::median(taken[trips as usize / 10..].to_vec())
}

fn tree<P: Home>(effort: Effort, workers: usize) -> f64 {
    let peer = start::<P, Branch<P>>(workers, 1);
    let depth = match effort {
        Effort::Full => 19,
        Effort::Quick => 17,
        Effort::Smoke => 8,
    };
    let jobs = (1 << (depth + 1)) - 1;
    let sum = (0..=depth).map(|arg| arg << (depth - arg)).sum();
    repeat(effort, || {
        let done = Total::now().after(jobs, sum);
        let started = Instant::now();
        peer.send(depth);
        done.wait();
        nanos(started) / jobs as f64
    })
}

/// Jobs after which the order of functions repeats.
const ORDER: usize = 1 << 16;

/// Function numbers in the order of their jobs.
fn order(functions: usize, is_skewed: bool) -> Vec<u32> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    if !is_skewed {
        return (0..ORDER).map(|_| (random() % functions as u64) as u32).collect();
    }
    // Zipf: the n-th most used function has a weight of 1/n.
    let mut weight = 0.0;
    let weights: Vec<f64> = (1..=functions)
        .map(|n| {
            weight += 1.0 / n as f64;
            weight
        })
        .collect();
    let pick = |_| {
        let at = (random() >> 11) as f64 / (1_u64 << 53) as f64 * weight;
        let rank = weights.partition_point(|sum| *sum < at).min(functions - 1);
        // Scattered, so that functions in much use are not neighbours.
        (rank * 7_919 % functions) as u32
    };
    (0..ORDER).map(pick).collect()
}

/// The only worker is held while jobs are queued.
fn queued_bytes<P: Home>(effort: Effort) -> f64 {
    let peer = start::<P, Gate>(1, 1);
    // At rest there may be room already for a few jobs; a million make that vanish.
    let jobs = if effort == Effort::Smoke { 2_000 } else { 1_000_000 };
    peer.send(HOLD);
    await_gate(HELD);
    let done = Total::now().after(jobs, sum_below(jobs));
    let before = alloc::live();
    (0..jobs).for_each(|arg| peer.send(arg));
    let bytes = alloc::live() - before;
    GATE.store(OPEN, Ordering::SeqCst);
    done.wait();
    bytes as f64 / jobs as f64
}

/// Bursts of jobs, each awaited, so that a queue that was once long enough stays so.
fn allocations<P: Home>(effort: Effort, is_awaited: bool) -> f64 {
    const BURST: u64 = 1_000;
    let peer = start::<P, Count>(1, 1);
    let mut handles = Vec::with_capacity(BURST as usize);
    let mut burst = || {
        let done = Total::now().after(BURST, sum_below(BURST));
        if is_awaited {
            handles.extend((0..BURST).map(|arg| peer.submit(arg)));
            for handle in handles.drain(..) {
                P::wait(handle, Patience::Spin);
            }
        } else {
            (0..BURST).for_each(|arg| peer.send(arg));
        }
        done.wait();
    };
    let bursts = effort.jobs(500);
    (0..bursts).for_each(|_| burst());
    let before = alloc::calls();
    (0..bursts).for_each(|_| burst());
    (alloc::calls() - before) as f64 / (bursts * BURST) as f64
}
