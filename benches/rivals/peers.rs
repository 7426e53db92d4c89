//! The contestants, each driven as a skilled user would: closures for the pools, a small typed job for the channels.

use crate::alloc;
use crate::workload::{Kind, Workload};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const NAMES: &[&str] =
    &["layshaft", "rayon-core", "tokio", "crossbeam-channel", "crossbeam-deque", "kanal", "flume"];

/// Whether a contestant takes part in a row.
pub(crate) fn takes(name: &str, workload: &Workload) -> bool {
    name == "layshaft" || workload.kind != Kind::Batch || !matches!(name, "rayon-core" | "tokio")
}

/// Counts of finished jobs and sums of their arguments, a line a thread.
#[repr(align(128))]
struct Line(AtomicU64, AtomicU64);

static LINES: [Line; 64] = [const { Line(AtomicU64::new(0), AtomicU64::new(0)) }; 64];
static NEXT_LINE: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static LINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[inline(always)]
fn body(x: u64) -> u64 {
    LINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT_LINE.fetch_add(1, Ordering::Relaxed) % LINES.len());
        }
        let Line(count, sum) = &LINES[mine.get()];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
        sum.store(sum.load(Ordering::Relaxed).wrapping_add(x), Ordering::Relaxed);
    });
    x + 1
}

fn totals() -> (u64, u64) {
    LINES.iter().fold((0, 0), |(n, s), line| (n + line.0.load(Ordering::Acquire), s + line.1.load(Ordering::Relaxed)))
}

fn wait_for(count: u64) {
    while totals().0 < count {
        thread::sleep(Duration::from_micros(20));
    }
}

/// What every contestant can do.
trait Contestant: Send + Sync + 'static {
    type Handle;
    fn start(workers: usize, functions: usize) -> Self;
    fn send(&self, function: usize, x: u64);
    fn send_inside(&self, x: u64) {
        self.send(0, x);
    }
    fn send_batch(&self, from: u64, n: u64) {
        (from..from + n).for_each(|x| self.send(0, x));
    }
    fn submit(&self, x: u64) -> Self::Handle;
    fn wait(handle: Self::Handle) -> u64;
}

/// A job that must not finish before the gate opens.
const HELD: u64 = u64::MAX / 2;
static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
type Nested = Box<dyn Fn(u64) + Send + Sync>;
static INSIDE: OnceLock<Nested> = OnceLock::new();

#[inline(always)]
fn job(x: u64) -> u64 {
    if x < HELD {
        return body(x);
    }
    special(x)
}

#[cold]
fn special(x: u64) -> u64 {
    let mut open = GATE.0.lock().expect("nothing panics under the gate");
    while !*open {
        open = GATE.1.wait(open).expect("nothing panics under the gate");
    }
    x
}

struct Layshaft {
    functions: Vec<layshaft::Function<u64, u64>>,
    _engine: layshaft::Engine,
}

static TREE_FUNCTION: OnceLock<layshaft::Function<u64, u64>> = OnceLock::new();

impl Contestant for Layshaft {
    type Handle = layshaft::JobHandle<u64>;
    fn start(workers: usize, functions: usize) -> Self {
        let engine = layshaft::Engine::builder().workers(workers).start().expect("threads start");
        let register = |i| engine.function(&format!("f{i}"), job).expect("a free name");
        let functions = (0..functions).map(register).collect();
        let tree = engine.function("tree", |x: u64| {
            if x > 0 {
                let own = TREE_FUNCTION.get().expect("set below");
                own.send(x - 1).expect("open");
                own.send(x - 1).expect("open");
            }
            body(x)
        });
        let _ = TREE_FUNCTION.set(tree.expect("a free name"));
        Layshaft { functions, _engine: engine }
    }
    #[inline(always)]
    fn send(&self, function: usize, x: u64) {
        self.functions[function].send(x).expect("open");
    }
    fn send_inside(&self, x: u64) {
        TREE_FUNCTION.get().expect("set at the start").send(x).expect("open");
    }
    fn send_batch(&self, from: u64, n: u64) {
        self.functions[0].send_batch(from..from + n).expect("open");
    }
    #[inline(always)]
    fn submit(&self, x: u64) -> Self::Handle {
        self.functions[0].submit(x).expect("open")
    }
    #[inline(always)]
    fn wait(handle: Self::Handle) -> u64 {
        handle.wait().expect("the job ends")
    }
}

struct Rayon(rayon_core::ThreadPool);

fn rayon_tree(x: u64) {
    if x > 0 {
        rayon_core::spawn(move || rayon_tree(x - 1));
        rayon_core::spawn(move || rayon_tree(x - 1));
    }
    body(x);
}

impl Contestant for Rayon {
    type Handle = oneshot::Receiver<u64>;
    fn start(workers: usize, _functions: usize) -> Self {
        Rayon(rayon_core::ThreadPoolBuilder::new().num_threads(workers).build().expect("threads start"))
    }
    fn send(&self, _function: usize, x: u64) {
        self.0.spawn(move || {
            job(x);
        });
    }
    fn send_inside(&self, x: u64) {
        self.0.spawn(move || rayon_tree(x));
    }
    fn submit(&self, x: u64) -> Self::Handle {
        let (tell, hear) = oneshot::channel();
        self.0.spawn(move || {
            let _ = tell.send(job(x));
        });
        hear
    }
    fn wait(handle: Self::Handle) -> u64 {
        handle.recv().expect("the job ends")
    }
}

struct Tokio(tokio::runtime::Runtime);

fn tokio_tree(x: u64) {
    if x > 0 {
        tokio::spawn(async move { tokio_tree(x - 1) });
        tokio::spawn(async move { tokio_tree(x - 1) });
    }
    body(x);
}

impl Contestant for Tokio {
    type Handle = tokio::task::JoinHandle<u64>;
    fn start(workers: usize, _functions: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).build();
        Tokio(runtime.expect("threads start"))
    }
    fn send(&self, _function: usize, x: u64) {
        self.0.spawn(async move { job(x) });
    }
    fn send_inside(&self, x: u64) {
        self.0.spawn(async move { tokio_tree(x) });
    }
    fn submit(&self, x: u64) -> Self::Handle {
        self.0.spawn(async move { job(x) })
    }
    fn wait(handle: Self::Handle) -> u64 {
        futures_lite::future::block_on(handle).expect("the job ends")
    }
}

/// The typed job of the channels.
struct Job {
    function: u32,
    x: u64,
    tell: Option<oneshot::Sender<u64>>,
}

/// Bit of `function` for a tree's job.
const TREE_JOB: u32 = 1 << 31;

impl Job {
    #[inline(always)]
    fn run(self) {
        if self.function == TREE_JOB {
            if self.x > 0 {
                let inside = INSIDE.get().expect("set at the start");
                inside(self.x - 1);
                inside(self.x - 1);
            }
            body(self.x);
            return;
        }
        let result = job(self.x);
        if let Some(tell) = self.tell {
            let _ = tell.send(result);
        }
    }
}

macro_rules! channel {
    ($name:ident, $sender:ty, $receiver:ty, $pair:expr) => {
        struct $name($sender);

        impl Contestant for $name {
            type Handle = oneshot::Receiver<u64>;
            fn start(workers: usize, _functions: usize) -> Self {
                let (sender, receiver): ($sender, $receiver) = $pair;
                for _ in 0..workers {
                    let receiver = receiver.clone();
                    thread::spawn(move || {
                        while let Ok(job) = receiver.recv() {
                            job.run();
                        }
                    });
                }
                let inside = sender.clone();
                let _ = INSIDE.set(Box::new(move |x| {
                    let _ = inside.send(Job { function: TREE_JOB, x, tell: None });
                }));
                $name(sender)
            }
            #[inline(always)]
            fn send(&self, function: usize, x: u64) {
                let _ = self.0.send(Job { function: function as u32, x, tell: None });
            }
            fn send_inside(&self, x: u64) {
                let _ = self.0.send(Job { function: TREE_JOB, x, tell: None });
            }
            fn submit(&self, x: u64) -> Self::Handle {
                let (tell, hear) = oneshot::channel();
                let _ = self.0.send(Job { function: 0, x, tell: Some(tell) });
                hear
            }
            fn wait(handle: Self::Handle) -> u64 {
                handle.recv().expect("the job ends")
            }
        }
    };
}
channel!(Crossbeam, crossbeam_channel::Sender<Job>, crossbeam_channel::Receiver<Job>, crossbeam_channel::unbounded());
channel!(Kanal, kanal::Sender<Job>, kanal::Receiver<Job>, kanal::unbounded());
channel!(Flume, flume::Sender<Job>, flume::Receiver<Job>, flume::unbounded());

/// An injector, a deque a worker, and a simple sleep: a count of sleepers and one condition variable.
struct Deques(Arc<Shared>);

struct Shared {
    injector: crossbeam_deque::Injector<Job>,
    stealers: Vec<crossbeam_deque::Stealer<Job>>,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

thread_local! {
    static OWN: Cell<*const crossbeam_deque::Worker<Job>> = const { Cell::new(std::ptr::null()) };
}

impl Shared {
    fn announce(&self) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            let _held = self.lock.lock().expect("nothing panics under the lock");
            self.wake.notify_one();
        }
    }

    fn find(&self, own: &crossbeam_deque::Worker<Job>) -> Option<Job> {
        let steal =
            || self.injector.steal_batch_and_pop(own).or_else(|| self.stealers.iter().map(|s| s.steal()).collect());
        own.pop().or_else(|| std::iter::repeat_with(steal).find(|s| !s.is_retry()).and_then(|s| s.success()))
    }

    fn serve(&self, own: &crossbeam_deque::Worker<Job>) {
        OWN.with(|cell| cell.set(own));
        loop {
            let mut spins = 0;
            while spins < 200 {
                match self.find(own) {
                    Some(job) => {
                        job.run();
                        spins = 0;
                    }
                    None => {
                        spins += 1;
                        std::hint::spin_loop();
                    }
                }
            }
            let held = self.lock.lock().expect("nothing panics under the lock");
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if self.injector.is_empty() && self.stealers.iter().all(|s| s.is_empty()) {
                drop(self.wake.wait(held).expect("nothing panics under the lock"));
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Contestant for Deques {
    type Handle = oneshot::Receiver<u64>;
    fn start(workers: usize, _functions: usize) -> Self {
        let owns: Vec<_> = (0..workers).map(|_| crossbeam_deque::Worker::new_lifo()).collect();
        let shared = Arc::new(Shared {
            injector: crossbeam_deque::Injector::new(),
            stealers: owns.iter().map(crossbeam_deque::Worker::stealer).collect(),
            sleepers: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        for own in owns {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.serve(&own));
        }
        let inside = Arc::clone(&shared);
        let _ = INSIDE.set(Box::new(move |x| {
            let own = OWN.with(Cell::get);
            // SAFETY: set by `serve` on this thread, which owns the deque and never returns.
            unsafe { &*own }.push(Job { function: TREE_JOB, x, tell: None });
            inside.announce();
        }));
        Deques(shared)
    }
    #[inline(always)]
    fn send(&self, function: usize, x: u64) {
        self.0.injector.push(Job { function: function as u32, x, tell: None });
        self.0.announce();
    }
    fn send_inside(&self, x: u64) {
        self.0.injector.push(Job { function: TREE_JOB, x, tell: None });
        self.0.announce();
    }
    fn submit(&self, x: u64) -> Self::Handle {
        let (tell, hear) = oneshot::channel();
        self.0.injector.push(Job { function: 0, x, tell: Some(tell) });
        self.0.announce();
        hear
    }
    fn wait(handle: Self::Handle) -> u64 {
        handle.recv().expect("the job ends")
    }
}

fn pin(core: usize) {
    // SAFETY: a set of zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is below the set's size.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set outlives the call. Failing leaves the placement to the system.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs one workload in this process and returns its figure.
pub(crate) fn run(contestant: &str, workload: &Workload, quick: bool) -> f64 {
    match contestant {
        "layshaft" => drive::<Layshaft>(workload, quick),
        "rayon-core" => drive::<Rayon>(workload, quick),
        "tokio" => drive::<Tokio>(workload, quick),
        "crossbeam-channel" => drive::<Crossbeam>(workload, quick),
        "crossbeam-deque" => drive::<Deques>(workload, quick),
        "kanal" => drive::<Kanal>(workload, quick),
        "flume" => drive::<Flume>(workload, quick),
        other => panic!("no contestant {other:?}"),
    }
}

fn drive<C: Contestant>(workload: &Workload, quick: bool) -> f64 {
    let (jobs, repetitions) = if quick { (100_000, 3) } else { (1_000_000, 8) };
    let functions = if let Kind::Send { functions, .. } = workload.kind { functions } else { 1 };
    if matches!(workload.kind, Kind::Bytes | Kind::Allocations) {
        alloc::count();
    }
    // One worker: it on core 1, the producer on core 0. More: the system decides.
    if workload.workers == 1 {
        pin(1);
    }
    let contestant = C::start(workload.workers, functions);
    contestant.send(0, 0);
    wait_for(1);
    if workload.workers == 1 {
        pin(0);
    }
    match workload.kind {
        Kind::Bytes => return bytes(&contestant, jobs),
        Kind::Allocations => return allocations(&contestant, jobs),
        _ => {}
    }
    let mut figures = Vec::new();
    for repetition in 0..repetitions {
        let (before, _) = totals();
        let (took, n) = match workload.kind {
            Kind::Send { producers, functions } => (send(&contestant, producers, functions, jobs, before), jobs),
            Kind::Batch => {
                let start = Instant::now();
                (0..jobs / 64).for_each(|i| contestant.send_batch(i * 64, 64));
                wait_for(before + jobs / 64 * 64);
                (start.elapsed(), jobs)
            }
            Kind::Window(outstanding) => {
                let n = if outstanding == 1 { jobs / 10 } else { jobs };
                (window(&contestant, outstanding, n), n)
            }
            Kind::Tree => {
                let depth = if quick { 16 } else { 19 };
                let n = (1u64 << (depth + 1)) - 1;
                let start = Instant::now();
                contestant.send_inside(depth);
                wait_for(before + n);
                (start.elapsed(), n)
            }
            Kind::Bytes | Kind::Allocations => unreachable!("returned above"),
        };
        if repetition > 0 {
            figures.push(took.as_nanos() as f64 / n as f64);
        }
    }
    median(figures)
}

/// Fire and forget; the clock starts with the earliest producer, which may not be the coordinating thread.
fn send<C: Contestant>(contestant: &C, producers: usize, functions: usize, jobs: u64, before: u64) -> Duration {
    let each = jobs / producers as u64;
    let (_, sum) = totals();
    let barrier = Barrier::new(producers);
    let starts: Vec<Instant> = thread::scope(|scope| {
        let produce = |seed: u64| {
            let barrier = &barrier;
            scope.spawn(move || {
                let mut random = seed * 2 + 0x9e37_79b9_7f4a_7c15;
                barrier.wait();
                let start = Instant::now();
                for x in 0..each {
                    if functions == 1 {
                        contestant.send(0, x);
                        continue;
                    }
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    contestant.send(random as usize % functions, x);
                }
                start
            })
        };
        let running: Vec<_> = (0..producers as u64).map(produce).collect();
        running.into_iter().map(|p| p.join().expect("a producer ends")).collect()
    });
    wait_for(before + each * producers as u64);
    let took = starts.iter().min().expect("a producer at least").elapsed();
    assert_eq!(totals().1 - sum, producers as u64 * (each * (each - 1) / 2), "the sum of what ran");
    took
}

/// Submits up to `outstanding` jobs, waits for the oldest half, and so on.
fn window<C: Contestant>(contestant: &C, outstanding: usize, jobs: u64) -> Duration {
    let mut handles = VecDeque::with_capacity(outstanding);
    let (mut next, mut got) = (0, 0);
    let start = Instant::now();
    while got < jobs {
        while handles.len() < outstanding && next < jobs {
            handles.push_back(contestant.submit(next));
            next += 1;
        }
        for _ in 0..(outstanding / 2).max(1).min(handles.len()) {
            let handle = handles.pop_front().expect("counted");
            got += 1;
            assert_eq!(C::wait(handle), got, "results come in order");
        }
    }
    start.elapsed()
}

/// Live bytes a job while the worker is held in a job and `jobs` are queued.
fn bytes<C: Contestant>(contestant: &C, jobs: u64) -> f64 {
    contestant.send(0, HELD);
    let (before, _) = alloc::counted();
    (0..jobs).for_each(|x| contestant.send(0, x));
    let (after, _) = alloc::counted();
    *GATE.0.lock().expect("nothing panics under the gate") = true;
    GATE.1.notify_all();
    (after - before) as f64 / jobs as f64
}

/// Allocations a job once the first million has warmed everything up.
fn allocations<C: Contestant>(contestant: &C, jobs: u64) -> f64 {
    let (start, _) = totals();
    (0..jobs).for_each(|x| contestant.send(0, x));
    wait_for(start + jobs);
    let (_, before) = alloc::counted();
    (0..jobs).for_each(|x| contestant.send(0, x));
    wait_for(start + 2 * jobs);
    let (_, after) = alloc::counted();
    (after - before) as f64 / jobs as f64
}
