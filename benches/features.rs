//! What does each feature cost when it is used? One table, of rounds in which all rows take turns.
//!
//! `cargo bench --bench features -- [--only PART OF A NAME]`. Without `--bench`, as under `cargo test`, it checks that every row gives a figure.

mod support;

use layshaft::{ConsumerSet, Engine, Function, JobHandle, Limits, Priority, Retry};
use std::env;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use support::tally::{self, Total};

const ROUNDS: usize = 7;
const HOUR: Duration = Duration::from_secs(3600);

/// A row: what is used, which row it is compared with, and what takes so many jobs.
struct Row {
    name: &'static str,
    /// Index of the row without the feature.
    plain: usize,
    run: Box<dyn Fn(u64)>,
}

type Fun = Function<u64, u64>;

/// Jobs that are sent, one by one.
fn sending(name: &'static str, function: Fun, send: impl Fn(&Fun, u64) + 'static) -> Row {
    let run = move |jobs| {
        let done = Total::now().after(jobs, tally::sum_below(jobs));
        (0..jobs).for_each(|arg| send(&function, arg));
        done.wait();
    };
    Row { name, plain: 0, run: Box::new(run) }
}

/// Jobs that are submitted, 64 at a time, and waited for.
fn waiting(
    name: &'static str,
    plain: usize,
    function: Fun,
    submit: impl Fn(&Fun, u64) -> JobHandle<u64> + 'static,
) -> Row {
    let run = move |jobs: u64| {
        for from in (0..jobs).step_by(64) {
            let handles: Vec<_> = (from..jobs.min(from + 64)).map(|arg| submit(&function, arg)).collect();
            handles.into_iter().for_each(|handle| _ = handle.wait().expect("the job runs"));
        }
    };
    Row { name, plain, run: Box::new(run) }
}

/// Jobs that this thread pulls and completes.
fn pulling(name: &'static str, plain: usize, function: Fun, set: ConsumerSet<u64, u64>) -> Row {
    let run = move |jobs| {
        for arg in 0..jobs {
            function.send(arg).expect("the function is open");
            let (arg, completer) = set.try_next().expect("one is queued").take();
            completer.complete(arg);
        }
    };
    Row { name, plain, run: Box::new(run) }
}

/// What one job does, so many times.
fn inside(
    engine: &Engine,
    name: &'static str,
    plain: usize,
    times: impl Fn(&Engine, u64) + Send + Sync + 'static,
) -> Row {
    let body = move |jobs| times(&layshaft::current().expect("inside a job").engine(), jobs);
    let job = engine.function(name, body).expect("the name is free");
    Row { name, plain, run: Box::new(move |jobs| job.call(jobs).expect("the job runs")) }
}

fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

fn joined(engine: &Engine, n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = engine.join(|| joined(engine, n - 1), || joined(engine, n - 2));
    a + b
}

/// About how many calls `fib(n)` makes, and the largest n for so many.
fn depth_for(calls: u64) -> u64 {
    (1..60).take_while(|n| 2 * fib(n + 1) <= calls).last().unwrap_or(1)
}

fn send_rows(engine: &Engine) -> Vec<Row> {
    let counted = |name| support::counted(engine, name);
    let with = |name, change: fn(&Fun)| {
        let function = counted(name);
        change(&function);
        function
    };
    let plain = |function: &Fun, arg| function.send(arg).expect("the function is open");
    let listened = engine.function("told", |arg: u64| -> u64 {
        layshaft::current().expect("inside a job").progress(arg, arg);
        tally::count(arg);
        arg
    });
    vec![
        sending("send", counted("plain"), plain),
        sending("priority: high", counted("high"), |f, arg| _ = f.job(arg).priority(Priority::High).send()),
        sending("priority: low", counted("low"), |f, arg| _ = f.job(arg).priority(Priority::Low).send()),
        sending("capacity", with("capacity", |f| f.set_limits(Limits::new().capacity(1 << 30))), plain),
        sending("concurrency of 1", with("cap", |f| f.set_limits(Limits::new().concurrency(1))), plain),
        sending("ordered", counted("ordered").ordered(), plain),
        sending("unique key", counted("unique"), |f, arg| _ = f.job(arg).unique(arg.to_le_bytes()).send()),
        sending("timeout", counted("timeout"), |f, arg| _ = f.job(arg).timeout(HOUR).send()),
        sending("deadline", counted("deadline"), |f, arg| _ = f.job(arg).deadline(HOUR).send()),
        sending("run-at, now", counted("at"), |f, arg| _ = f.job(arg).at(Instant::now()).send()),
        sending("retry", with("retry", |f| f.set_retry(Retry::attempts(3).panics(true))), plain),
        sending("progress, heard", listened.expect("the name is free"), |f, arg| {
            _ = f.job(arg).on_update(|_| ()).send();
        }),
        sending("each job timed", with("timed", |f| f.time_exactly(true)), plain),
    ]
}

fn rows(engine: &Engine) -> Vec<Row> {
    let mut rows = send_rows(engine);
    let plain = rows.len();
    let counted = |name| support::counted(engine, name);
    rows.push(waiting("submit and wait, 64 at a time", plain, counted("submit"), |f, arg| {
        f.submit(arg).expect("open")
    }));
    rows.push(waiting("the same, unique key", plain, counted("submit unique"), |f, arg| {
        f.job(arg).unique(arg.to_le_bytes()).submit().expect("open")
    }));
    rows.push(waiting("the same, deadline", plain, counted("submit deadline"), |f, arg| {
        f.job(arg).deadline(HOUR).submit().expect("open")
    }));
    let plain = rows.len();
    for (name, limits) in
        [("send, pull, complete", None), ("the same, capacity", Some(Limits::new().capacity(1 << 20)))]
    {
        let (function, set) = (engine.consumer(name).expect("the name is free"), engine.consumer_set());
        set.add(&function);
        limits.into_iter().for_each(|limits| function.set_limits(limits));
        rows.push(pulling(name, plain, function, set));
    }
    let plain = rows.len();
    rows.push(inside(engine, "plain recursion (fib)", plain, |_, calls| {
        _ = std::hint::black_box(fib(depth_for(calls)))
    }));
    rows.push(inside(engine, "join", plain, |engine, calls| _ = joined(engine, depth_for(calls))));
    static CHILD: OnceLock<Fun> = OnceLock::new();
    CHILD.get_or_init(|| engine.function("child", |arg: u64| arg).expect("the name is free"));
    rows.push(inside(engine, "call inside a job", plain, |_, jobs| {
        let child = CHILD.get().expect("made above");
        (0..jobs).for_each(|arg| _ = child.call(arg).expect("the job runs"));
    }));
    rows.push(inside(engine, "scope and spawn", plain, |engine, jobs| {
        for _ in 0..jobs / 8 {
            engine.scope(|scope| (0..8).for_each(|_| scope.spawn(|| ())));
        }
    }));
    rows
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let is_bench = env::args().any(|arg| arg == "--bench");
    let (rounds, jobs) = if is_bench { (ROUNDS, 200_000) } else { (1, 640) };
    let engine = support::engine();
    let only = env::args().skip_while(|arg| arg != "--only").nth(1).unwrap_or_default();
    let rows = rows(&engine);
    // Those that others are compared with are always run.
    let is_chosen = |at: usize, row: &Row| row.plain == at || row.name.contains(&only);
    let mut figures: Vec<Vec<f64>> = rows.iter().map(|_| Vec::new()).collect();
    // The first round warms up.
    for round in 0..=rounds {
        for (at, (row, figures)) in rows.iter().zip(&mut figures).enumerate() {
            if !is_chosen(at, row) {
                continue;
            }
            let started = Instant::now();
            (row.run)(jobs);
            if round > 0 {
                figures.push(started.elapsed().as_nanos() as f64 / jobs as f64);
            }
        }
    }
    println!("1 worker, 1 caller; medians of {rounds} rounds of {jobs} jobs; in ns a job.\n");
    println!("| what is used | ns a job | more than without |");
    println!("|---|---:|---:|");
    for (row, of) in rows.iter().zip(&figures).filter(|(_, of)| !of.is_empty()) {
        let more: Vec<f64> = of.iter().zip(&figures[row.plain]).map(|(with, without)| with - without).collect();
        println!("| {} | {:.1} | {:+.1} |", row.name, median(of.clone()), median(more));
    }
}
