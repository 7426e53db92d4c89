//! Do long jobs hold up short ones? One job in 1,000 runs 10 ms, on two workers.
//!
//! `cargo bench --bench mixed`. Jobs are sent at fixed times, whether or not earlier ones have ended; a short one's latency is from
//! when it was due to its end. Rounds with and without long jobs take turns. Two long jobs at once leave nobody for the short
//! ones, with any scheduler that does not interrupt jobs: the table says how often chance has them so.

mod support;

use layshaft::{Engine, Function};
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_millis(10);
const SHORT: Duration = Duration::from_micros(1);
const ONE_IN: usize = 1000;
const WORKERS: usize = 2;

/// Where each job leaves its latency in nanoseconds, or 0 if it was long.
type Latencies = Arc<Vec<AtomicU64>>;

fn burn(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

struct Job {
    index: usize,
    due: Instant,
    is_long: bool,
    latencies: Latencies,
}

fn run(job: Job) {
    burn(if job.is_long { LONG } else { SHORT });
    if !job.is_long {
        let nanos = job.due.elapsed().as_nanos() as u64;
        // Ordering: Relaxed, read when all jobs have ended.
        job.latencies[job.index].store(nanos.max(1), Ordering::Relaxed);
    }
}

/// Sends `jobs` jobs at a rate: the latencies of the short ones, in order of size.
fn round(function: &Function<Job, ()>, rate: u32, jobs: usize, has_long: bool) -> Vec<u64> {
    let latencies: Latencies = Arc::new((0..jobs).map(|_| AtomicU64::new(0)).collect());
    let started = Instant::now();
    for index in 0..jobs {
        let due = started + Duration::from_secs(1) * index as u32 / rate;
        if let Some(left) = due.checked_duration_since(Instant::now()) {
            thread::sleep(left);
        }
        // Not at fixed distances from each other: a multiplicative hash of the index.
        let is_long = has_long && (index.wrapping_mul(0x9e37_79b9) >> 8) % ONE_IN == 0;
        let job = Job { index, due, is_long, latencies: Arc::clone(&latencies) };
        function.send(job).expect("the function is open");
    }
    while function.stats().done + function.stats().panicked < function.stats().accepted() {
        thread::sleep(Duration::from_millis(1));
    }
    // Ordering: Relaxed, all jobs have ended.
    let mut all: Vec<u64> = latencies.iter().map(|nanos| nanos.load(Ordering::Relaxed)).filter(|n| *n > 0).collect();
    all.sort_unstable();
    all
}

fn at(sorted: &[u64], part: f64) -> f64 {
    let rank = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(rank).map_or(0.0, |nanos| *nanos as f64 / 1000.0)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let is_bench = env::args().any(|arg| arg == "--bench");
    let (rounds, time) = if is_bench { (7, Duration::from_secs(2)) } else { (1, Duration::from_millis(20)) };
    support::system::sharpen_timers();
    let engine = Engine::builder().workers(WORKERS).start().expect("the engine starts");
    let function = engine.function("mixed", run).expect("the name is free");
    println!(
        "short jobs of {SHORT:?}, one in {ONE_IN} of {LONG:?}, {WORKERS} workers; medians of {rounds} rounds, in us\n"
    );
    println!("| jobs/s | p50 | p99 | with long ones: p50 | p99 | p99 over p99 | both workers in a long one |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for rate in [1_000, 5_000, 10_000, 20_000] {
        let jobs = (f64::from(rate) * time.as_secs_f64()) as usize;
        let pairs: Vec<_> =
            (0..rounds).map(|_| [false, true].map(|has_long| round(&function, rate, jobs, has_long))).collect();
        let figure = |which: usize, part| median(pairs.iter().map(|pair| at(&pair[which], part)).collect());
        let ratio = median(pairs.iter().map(|pair| at(&pair[1], 0.99) / at(&pair[0], 0.99).max(0.001)).collect());
        // Erlang's loss formula for two servers: `load` is what the long jobs keep busy, in workers.
        let load = f64::from(rate) / ONE_IN as f64 * LONG.as_secs_f64();
        let both = load * load / 2.0 / (1.0 + load + load * load / 2.0);
        println!(
            "| {rate} | {:.1} | {:.1} | {:.1} | {:.1} | {ratio:.2} | {:.2} % |",
            figure(0, 0.5),
            figure(0, 0.99),
            figure(1, 0.5),
            figure(1, 0.99),
            both * 100.0
        );
    }
}
