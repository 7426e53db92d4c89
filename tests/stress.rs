//! Does the engine lose or repeat a job when everything contends at once?
//!
//! Bursts from several threads, nested submits, cancels, removals and thefts, on 2 to 8 workers, checked by the number
//! of jobs and by the sum of their ids. `LAYSHAFT_STRESS_SECONDS` makes it longer, `LAYSHAFT_SEED` repeats a run (up
//! to what the machine's own timing decides).

mod common;

use common::rng::{Rng, jitter, seed};
use common::{Live, PATIENCE, Token, engine, watchdog_for};
use layshaft::{Engine, Function, JobError, JobHandle, Shutdown, WaitError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// A count and a sum, of what was accepted or what ran.
#[derive(Default)]
struct Sums {
    count: AtomicU64,
    sum: AtomicU64,
}

impl Sums {
    fn add(&self, id: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(id, Ordering::Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        (self.count.load(Ordering::SeqCst), self.sum.load(Ordering::SeqCst))
    }
}

/// One round's shared state.
struct Round {
    seed: u64,
    next_id: AtomicU64,
    accepted: Sums,
    ran: Sums,
    cancelled: Sums,
    /// Ends that no job should have.
    wrong: Mutex<Vec<String>>,
    live: Live,
    functions: OnceLock<Vec<Function<Arg, u64>>>,
}

struct Arg {
    id: u64,
    depth: u64,
    _token: Token,
}

impl Round {
    fn new(seed: u64) -> Arc<Round> {
        Arc::new(Round {
            seed,
            next_id: AtomicU64::new(1),
            accepted: Sums::default(),
            ran: Sums::default(),
            cancelled: Sums::default(),
            wrong: Mutex::default(),
            live: Live::default(),
            functions: OnceLock::new(),
        })
    }

    fn arg(&self, depth: u64) -> Arg {
        Arg { id: self.next_id.fetch_add(1, Ordering::Relaxed), depth, _token: self.live.token() }
    }

    fn submit(&self, function: &Function<Arg, u64>, depth: u64) -> Option<(u64, JobHandle<u64>)> {
        let arg = self.arg(depth);
        let id = arg.id;
        let handle = function.submit(arg).ok()?;
        self.accepted.add(id);
        Some((id, handle))
    }

    fn send(&self, function: &Function<Arg, u64>, depth: u64) {
        let arg = self.arg(depth);
        let id = arg.id;
        if function.send(arg).is_ok() {
            self.accepted.add(id);
        }
    }

    fn batch(&self, function: &Function<Arg, u64>, jobs: u64, depth: u64) {
        let first = self.next_id.fetch_add(jobs, Ordering::Relaxed);
        let args = (first..first + jobs).map(|id| Arg { id, depth, _token: self.live.token() });
        let accepted = match function.send_batch(args) {
            Ok(all) => all as u64,
            Err(error) => error.accepted() as u64,
        };
        (first..first + accepted).for_each(|id| self.accepted.add(id));
    }

    fn cancel(&self, (id, handle): (u64, JobHandle<u64>)) {
        if handle.cancel() {
            self.cancelled.add(id);
        }
    }

    fn wait(&self, (id, handle): (u64, JobHandle<u64>)) {
        match handle.wait() {
            Ok(result) if result == id => {}
            Err(WaitError::Job(JobError::Panicked(panic))) if panic.message() == id.to_string() => {}
            // Every worker may be waiting already; the job still runs.
            Err(WaitError::WouldNeverEnd(_)) => {}
            // Not a panic: in a body it would be just another failed job.
            other => self.wrong.lock().unwrap().push(format!("job {id} ended with {other:?}")),
        }
    }

    /// Bodies burn some time, submit more, wait for some of it, and sometimes panic.
    fn body(&self, arg: Arg) -> u64 {
        let mut rng = Rng::new(self.seed ^ arg.id.wrapping_mul(0x1_0001));
        if rng.one_in(4) {
            jitter(&mut rng);
        }
        if arg.depth > 0 {
            let functions = self.functions.get().unwrap();
            let function = &functions[rng.below(functions.len() as u64) as usize];
            match rng.below(6) {
                0 | 1 => self.send(function, arg.depth - 1),
                2 => self.batch(function, rng.below(20), 0),
                3 => drop(self.submit(function, arg.depth - 1).map(|job| self.cancel(job))),
                4 => drop(self.submit(function, arg.depth - 1).map(|job| self.wait(job))),
                _ => {
                    let jobs: Vec<_> = (0..rng.below(8)).filter_map(|_| self.submit(function, 0)).collect();
                    jobs.into_iter().rev().for_each(|job| self.wait(job));
                }
            }
        }
        self.ran.add(arg.id);
        if rng.one_in(100) {
            std::panic::resume_unwind(Box::new(arg.id.to_string()));
        }
        arg.id
    }

    /// One thread's bursts.
    fn produce(&self, producer: u64, until: Instant) {
        let mut rng = Rng::new(self.seed + producer);
        let functions = self.functions.get().unwrap();
        let mut kept = Vec::new();
        while Instant::now() < until {
            let function = &functions[rng.below(functions.len() as u64) as usize];
            for _ in 0..rng.below(64) {
                match rng.below(8) {
                    0..=2 => self.send(function, rng.below(3)),
                    3 => self.batch(function, rng.below(150), 1),
                    4 => drop(self.submit(function, 1)),
                    5 => drop(self.submit(function, 1).map(|job| self.cancel(job))),
                    _ => kept.extend(self.submit(function, 2)),
                }
            }
            // Between bursts the workers catch up and go to sleep, which is half of what this looks for.
            if rng.one_in(3) {
                kept.drain(..).for_each(|job| self.wait(job));
            }
            jitter(&mut rng);
        }
        kept.into_iter().for_each(|job| self.wait(job));
    }
}

fn round(seed: u64, workers: usize, time: Duration) -> u64 {
    let engine: Engine = engine(workers);
    let round = Round::new(seed);
    let register = |n: u64| {
        let shared = round.clone();
        engine.function(&format!("function {n}"), move |arg| shared.body(arg)).unwrap()
    };
    let _ = round.functions.set((0..1 + seed % 7).map(register).collect());
    let until = Instant::now() + time;
    thread::scope(|scope| {
        for producer in 0..2 + seed % 3 {
            let round = &round;
            scope.spawn(move || round.produce(producer, until));
        }
    });
    // Jobs that nobody waited for may still submit more, which a closing engine would refuse: wait for the last one.
    let end = Instant::now() + PATIENCE;
    let all = |round: &Round| {
        let (accepted, ran, cancelled) = (round.accepted.get(), round.ran.get(), round.cancelled.get());
        (accepted, (ran.0 + cancelled.0, ran.1 + cancelled.1))
    };
    while all(&round).0 != all(&round).1 {
        assert!(Instant::now() < end, "accepted and ended (count, sum): {:?}", all(&round));
        thread::yield_now();
    }
    assert!(engine.shutdown(Shutdown::Drain).complete);
    let (accepted, ended) = all(&round);
    assert_eq!(accepted, ended, "accepted and ended (count, sum)");
    assert!(round.wrong.lock().unwrap().is_empty(), "{:?}", round.wrong.lock().unwrap());
    let total = engine.stats().total();
    println!("{workers} workers: {} jobs, {} cancelled, {} steals", ended.0, round.cancelled.get().0, total.steals);
    drop(engine);
    round.live.assert_balanced();
    ended.0
}

#[test]
fn stress() {
    let seconds = std::env::var("LAYSHAFT_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3.0);
    let _watchdog = watchdog_for("the end of the rounds", PATIENCE * 4 + Duration::from_secs_f64(seconds));
    let seed = seed("stress");
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut jobs = 0;
    let mut rounds = 0;
    while rounds < 4 || Instant::now() < end {
        let workers = [2, 4, 8, 3][rounds as usize % 4];
        jobs += round(seed + rounds, workers, Duration::from_secs_f64((seconds / 8.0).min(2.0)));
        rounds += 1;
    }
    println!("stress: {jobs} jobs in {rounds} rounds");
}
