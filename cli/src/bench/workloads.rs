//! What is measured.

use super::pin;
use super::repeat::{Effort, Figure};
use super::tally::{self, Total};
use layshaft::{Engine, Function, JobHandle};
use std::collections::VecDeque;
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Most jobs take some 10 ns, so that a repetition of this many takes some 10 ms.
const JOBS: u64 = 1_000_000;
const BATCH: u64 = 64;
/// Choices of a function made before the clock starts.
const CHOICES: usize = 1 << 16;

type Measured = Result<Figure, String>;
type Counting = Function<u64, u64>;

/// A line of the table.
pub(super) struct Workload {
    pub(super) name: String,
    pub(super) workers: usize,
    pub(super) measure: Box<dyn FnOnce(Effort) -> Measured>,
}

/// The lines with one worker have it and the caller on a core each; with more the system places them.
pub(super) fn all(cores: usize) -> Vec<Workload> {
    let mut all = Vec::new();
    let mut add = |name: &str, workers, measure: Box<dyn FnOnce(Effort) -> Measured>| {
        all.push(Workload { name: name.to_owned(), workers, measure });
    };
    add("send", 1, Box::new(|effort| sends(effort, 1)));
    if cores > 1 {
        add(&format!("send, {cores} callers"), cores, Box::new(move |effort| sends(effort, cores)));
    }
    add(&format!("send_batch of {BATCH}"), 1, Box::new(batches));
    for window in [1024, 64] {
        add(&format!("submit and wait, {window} outstanding"), 1, Box::new(move |effort| waits(effort, window)));
    }
    add("submit and wait, one outstanding, hot", 1, Box::new(calls));
    add("tree: each job sends two", 1, Box::new(|effort| tree(effort, 1)));
    if cores > 1 {
        add("tree: each job sends two", cores, Box::new(move |effort| tree(effort, cores)));
    }
    for functions in [1, 64, 1024, 16_384] {
        add(&format!("send to {functions} functions, uniform"), 1, Box::new(move |effort| many(effort, functions)));
    }
    all
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn body(argument: u64) -> u64 {
    tally::count(argument);
    argument + 1
}

fn engine(workers: usize) -> Result<Engine, String> {
    Engine::builder().workers(workers).start().map_err(text)
}

/// An engine with one function, and what `measure` makes of it.
fn with_function(workers: usize, measure: impl FnOnce(&Counting) -> Measured) -> Measured {
    let start = || -> Result<_, String> {
        let engine = engine(workers)?;
        let function = engine.function("count", body).map_err(text)?;
        Ok((engine, function))
    };
    let (started, _apart) = pin::apart(workers, start);
    let (_engine, function) = started?;
    measure(&function)
}

/// The time from `started` until all jobs of `want` have run.
fn until(want: Total, started: Instant) -> Result<Duration, String> {
    let is_right = want.reached();
    let took = started.elapsed();
    if is_right { Ok(took) } else { Err("the jobs that ran are not those that were sent".to_owned()) }
}

/// The sum of `0..n`.
fn sum_below(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

fn sends(effort: Effort, callers: usize) -> Measured {
    let jobs = effort.jobs(JOBS) / callers as u64;
    with_function(callers, |function| {
        effort.figure(jobs * callers as u64, || {
            let want = tally::total().plus(jobs * callers as u64, sum_below(jobs) * callers as u64);
            if callers == 1 {
                let started = Instant::now();
                send_all(function, jobs)?;
                return until(want, started);
            }
            until(want, send_together(function, jobs, callers)?)
        })
    })
}

fn send_all(function: &Counting, jobs: u64) -> Result<(), String> {
    (0..jobs).try_for_each(|i| function.send(i)).map_err(text)
}

/// Sends from several threads; the time at which the first began, read by itself: a thread that coordinates may be
/// descheduled and read its clock late.
fn send_together(function: &Counting, jobs: u64, callers: usize) -> Result<Instant, String> {
    let ready = Barrier::new(callers);
    let send = || {
        ready.wait();
        let started = Instant::now();
        send_all(function, jobs).map(|()| started)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..callers).map(|_| scope.spawn(send)).collect();
        let mut first = Instant::now();
        for thread in threads {
            first = first.min(thread.join().map_err(|_| "a calling thread panicked".to_owned())??);
        }
        Ok(first)
    })
}

fn batches(effort: Effort) -> Measured {
    let jobs = effort.jobs(JOBS) / BATCH * BATCH;
    with_function(1, |function| {
        effort.figure(jobs, || {
            let want = tally::total().plus(jobs, sum_below(jobs));
            let started = Instant::now();
            for first in (0..jobs).step_by(BATCH as usize) {
                function.send_batch(first..first + BATCH).map_err(text)?;
            }
            until(want, started)
        })
    })
}

/// Fills a window of handles, then takes the older half, and so on.
fn waits(effort: Effort, window: usize) -> Measured {
    let jobs = effort.jobs(JOBS);
    let mut handles: VecDeque<JobHandle<u64>> = VecDeque::with_capacity(window);
    with_function(1, |function| {
        effort.figure(jobs, || {
            let (mut sent, mut taken) = (0, 0);
            let started = Instant::now();
            while taken < jobs {
                while handles.len() < window && sent < jobs {
                    handles.push_back(function.submit(sent).map_err(text)?);
                    sent += 1;
                }
                for handle in handles.drain(..(window / 2).min(handles.len())) {
                    taken += 1;
                    expect(handle.wait().map_err(text)?, taken)?;
                }
            }
            Ok(started.elapsed())
        })
    })
}

fn expect(got: u64, want: u64) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("a job returned {got} instead of {want}")) }
}

fn calls(effort: Effort) -> Measured {
    let jobs = effort.jobs(JOBS / 10);
    with_function(1, |function| {
        effort.figure(jobs, || {
            let started = Instant::now();
            for i in 0..jobs {
                expect(function.call(i).map_err(text)?, i + 1)?;
            }
            Ok(started.elapsed())
        })
    })
}

/// A complete binary tree of jobs, grown from the inside.
fn tree(effort: Effort, workers: usize) -> Measured {
    let depth = u64::from(effort.jobs(JOBS).ilog2()) - 1;
    let jobs = (2 << depth) - 1;
    // Each of the 2^k jobs at distance k from the root has the argument depth - k.
    let sum = (0..=depth).map(|k| (1 << k) * (depth - k)).sum();
    let plant = || -> Result<_, String> {
        let engine = engine(workers)?;
        let itself: Arc<OnceLock<Function<u64, ()>>> = Arc::default();
        let inner = Arc::clone(&itself);
        let grow = move |height: u64| {
            tally::count(height);
            if let Some(itself) = inner.get().filter(|_| height > 0) {
                // A refused job would be missing from the count, and the run would not end: so it panics instead.
                itself.send(height - 1).expect("the engine is open");
                itself.send(height - 1).expect("the engine is open");
            }
        };
        let function = engine.function("tree", grow).map_err(text)?;
        Ok((engine, itself.get_or_init(|| function).clone()))
    };
    let (planted, _apart) = pin::apart(workers, plant);
    let (_engine, function) = planted?;
    effort.figure(jobs, || {
        let want = tally::total().plus(jobs, sum);
        let started = Instant::now();
        function.send(depth).map_err(text)?;
        until(want, started)
    })
}

fn many(effort: Effort, functions: usize) -> Measured {
    let jobs = effort.jobs(JOBS);
    let choices = choices(functions);
    let register = || -> Result<_, String> {
        let engine = engine(1)?;
        let names = (0..functions).map(|i| format!("count-{i}"));
        let all: Result<Vec<Counting>, String> = names.map(|name| engine.function(&name, body).map_err(text)).collect();
        Ok((engine, all?))
    };
    let (registered, _apart) = pin::apart(1, register);
    let (_engine, all) = registered?;
    effort.figure(jobs, || {
        let want = tally::total().plus(jobs, sum_below(jobs));
        let started = Instant::now();
        for i in 0..jobs {
            all[choices[i as usize % CHOICES]].send(i).map_err(text)?;
        }
        until(want, started)
    })
}

/// Evenly spread, the same in every run.
fn choices(functions: usize) -> Vec<usize> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % functions as u64) as usize
    };
    std::iter::repeat_with(next).take(CHOICES).collect()
}
