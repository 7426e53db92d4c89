//! What is measured.

use super::load::{Background, Foreground, Load};
use super::target::Running;
use std::time::{Duration, Instant};

pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) run: fn(&mut Load, &Running, quick: bool) -> Result<Measured, String>,
    /// Only a server with functions of its own can do it.
    pub(super) is_own: bool,
}

/// One that any server can do.
const fn of(name: &'static str, run: fn(&mut Load, &Running, bool) -> Result<Measured, String>) -> Scenario {
    Scenario { name, run, is_own: false }
}

/// What a run gave; what it does not measure is not a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    jobs_per_second: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
    bytes: f64,
    syscalls: f64,
}

pub(super) const NONE: Measured = Measured {
    jobs_per_second: f64::NAN,
    p50: f64::NAN,
    p99: f64::NAN,
    cpu: f64::NAN,
    bytes: f64::NAN,
    syscalls: f64::NAN,
};

pub(super) const SCENARIOS: &[Scenario] = &[
    of("1 outstanding", |load, server, quick| foreground(load, server, (1, 1), (1, 1), false, quick)),
    of("4 x 16, 4 workers", |load, server, quick| foreground(load, server, (4, 16), (4, 1), false, quick)),
    of("8 x 64, 16 workers", |load, server, quick| foreground(load, server, (8, 64), (16, 1), false, quick)),
    of("8 x 64, 16 workers with 8 grabs in flight", |load, server, quick| {
        foreground(load, server, (8, 64), (16, 8), false, quick)
    }),
    of("8 x 64, 16 workers that die with 1 job in 10", |load, server, quick| {
        foreground(load, server, (8, 64), (16, 1), true, quick)
    }),
    Scenario {
        name: "1 outstanding, the server's own function",
        run: |load, server, quick| own(load, server, (1, 1), quick),
        is_own: true,
    },
    Scenario {
        name: "8 x 64, the server's own function",
        run: |load, server, quick| own(load, server, (8, 64), quick),
        is_own: true,
    },
    of("background submit", |load, server, quick| submit(load, server, false, 1_000_000, quick)),
    of("background submit, distinct keys", |load, server, quick| submit(load, server, true, 1_000_000, quick)),
    of("drain of 100 k, 4 workers", |load, server, quick| drain(load, server, 100_000, quick)),
    of("drain of 1 M, 4 workers", |load, server, quick| drain(load, server, 1_000_000, quick)),
    of("1 job, 1 sleeping worker", |load, server, quick| sleepers(load, server, 1, quick)),
    of("1 job, 10,000 sleeping workers", |load, server, quick| {
        sleepers(load, server, if quick { 100 } else { 10_000 }, quick)
    }),
    of("10,000 idle connections", |load, server, quick| idle(load, server, if quick { 100 } else { 10_000 })),
];

impl Measured {
    pub(super) fn median(runs: Vec<Measured>) -> Measured {
        let of = |field: fn(&Measured) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(field).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Measured {
            jobs_per_second: of(|m| m.jobs_per_second),
            p50: of(|m| m.p50),
            p99: of(|m| m.p99),
            cpu: of(|m| m.cpu),
            bytes: of(|m| m.bytes),
            syscalls: of(|m| m.syscalls),
        }
    }

    /// With system calls, which were counted in a run of their own.
    pub(super) fn with_syscalls(self, syscalls: f64) -> Measured {
        Measured { syscalls, ..self }
    }

    /// How many times better than the rival: in throughput, or where that is not measured in latency.
    pub(super) fn ratio(&self, rival: &Measured) -> f64 {
        if self.jobs_per_second.is_nan() { rival.p50 / self.p50 } else { self.jobs_per_second / rival.jobs_per_second }
    }

    pub(super) fn cells(&self, ratio: Option<f64>) -> String {
        let cell = |value: f64, digits: usize| if value.is_nan() { "-".into() } else { format!("{value:.digits$}") };
        [
            cell(self.jobs_per_second, 0),
            cell(self.p50, 0),
            cell(self.p99, 0),
            cell(self.cpu, 2),
            cell(self.bytes, 0),
            cell(self.syscalls, 2),
            ratio.filter(|ratio| !ratio.is_nan()).map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}x")),
        ]
        .join(" | ")
    }
}

/// Clients with so many jobs outstanding each, and workers with so many grabs in flight each.
fn foreground(
    load: &mut Load,
    server: &Running,
    (clients, outstanding): (usize, usize),
    (workers, grabs): (usize, usize),
    dies: bool,
    quick: bool,
) -> Result<Measured, String> {
    load.workers(workers, grabs, dies)?;
    exchange(load, server, (clients, outstanding), grabs, quick)
}

/// The same without workers.
fn own(load: &mut Load, server: &Running, clients: (usize, usize), quick: bool) -> Result<Measured, String> {
    load.use_own_function();
    exchange(load, server, clients, 4, quick)
}

fn exchange(
    load: &mut Load,
    server: &Running,
    (clients, outstanding): (usize, usize),
    grabs: usize,
    quick: bool,
) -> Result<Measured, String> {
    let jobs = match (clients * outstanding, quick) {
        (_, true) => 2_000,
        (1, _) => 20_000,
        _ => 200_000 * grabs.min(4) as u64,
    };
    load.foreground(Foreground { clients, outstanding, jobs: jobs / 10 })?;
    let before = server.usage();
    let began = Instant::now();
    let latencies = load.foreground(Foreground { clients, outstanding, jobs })?;
    let took = began.elapsed();
    let cpu = server.usage().cpu - before.cpu;
    Ok(Measured {
        jobs_per_second: jobs as f64 / took.as_secs_f64(),
        p50: micros(latencies.percentile(50)),
        p99: micros(latencies.percentile(99)),
        cpu: cpu / jobs as f64,
        ..NONE
    })
}

fn submit(load: &mut Load, server: &Running, keys: bool, jobs: u64, quick: bool) -> Result<Measured, String> {
    let jobs = if quick { 2_000 } else { jobs };
    let before = server.usage();
    let began = Instant::now();
    load.background(Background { jobs, keys })?;
    let took = began.elapsed();
    let after = server.usage();
    Ok(Measured {
        jobs_per_second: jobs as f64 / took.as_secs_f64(),
        cpu: (after.cpu - before.cpu) / jobs as f64,
        bytes: (after.resident - before.resident) / jobs as f64,
        ..NONE
    })
}

fn drain(load: &mut Load, server: &Running, jobs: u64, quick: bool) -> Result<Measured, String> {
    let jobs = if quick { 2_000 } else { jobs };
    load.background(Background { jobs, keys: false })?;
    let before = server.usage();
    let began = Instant::now();
    load.workers(4, 1, false)?;
    // A server that gets slower with its queue would take for ever.
    let done = load.drain(jobs, Duration::from_secs(60))?;
    let took = began.elapsed();
    let cpu = server.usage().cpu - before.cpu;
    Ok(Measured { jobs_per_second: done as f64 / took.as_secs_f64(), cpu: cpu / done as f64, ..NONE })
}

fn sleepers(load: &mut Load, server: &Running, workers: usize, quick: bool) -> Result<Measured, String> {
    let jobs = if quick { 20 } else { 500 };
    load.workers(workers, 1, false)?;
    load.settle()?;
    let before = server.usage();
    let noops = load.noops();
    let latencies = load.foreground(Foreground { clients: 1, outstanding: 1, jobs })?;
    let woken = (load.noops() - noops) as f64 / jobs as f64;
    if woken > 1.5 {
        eprintln!("{woken:.1} workers were woken for a job");
    }
    let cpu = server.usage().cpu - before.cpu;
    Ok(Measured {
        p50: micros(latencies.percentile(50)),
        p99: micros(latencies.percentile(99)),
        cpu: cpu / jobs as f64,
        ..NONE
    })
}

fn idle(load: &mut Load, server: &Running, connections: usize) -> Result<Measured, String> {
    let before = server.usage();
    load.idle(connections)?;
    let resident = server.usage().resident - before.resident;
    Ok(Measured { bytes: resident / connections as f64, ..NONE })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
