//! `layshaft map`: one job an input, results in input order.

use crate::run::{self, Run};
use crate::summary::Summary;
use crate::{EXIT_JOB_FAILED, EXIT_USAGE, args, complain, walk};
use layshaft::{Shutdown, Stats, WorkerStats};
use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

/// Runs the command; its exit code.
pub(crate) fn run(options: &args::Map) -> u8 {
    let started = Instant::now();
    if options.inputs.iter().filter(|input| *input == walk::STDIN).count() > 1 {
        complain(io::stderr(), "the input '-' stands twice, but standard input can be read only once");
        return EXIT_USAGE;
    }
    let builtin = options.function;
    let (engine, function) = match run::start(options.jobs, builtin.name(), move |path| builtin.run(path)) {
        Ok(started) => started,
        Err(error) => {
            complain(io::stderr(), format_args!("cannot start: {}", chain(&*error)));
            return EXIT_USAGE;
        }
    };
    let mut run = Run::new(function, io::stdout(), io::stderr());
    let ended = run.all(walk::files(&options.inputs));
    let Run { tally, .. } = run;
    let failed = tally.failed > 0;
    if let Err(error) = ended {
        // Bodies that read a large file, or a pipe, are not waited for.
        engine.shutdown(Shutdown::DrainFor(Duration::ZERO));
        return unwritable(&error, failed);
    }
    engine.shutdown(Shutdown::Drain);
    if tally.jobs == 0 {
        complain(io::stderr(), "no regular file below the inputs (links inside folders are not followed)");
    }
    if !options.quiet {
        let steals = engine.stats().total().steals;
        complain(io::stderr(), Summary { tally, took: started.elapsed(), steals });
    }
    if options.stats {
        io::stderr().write_all(figures(&engine.stats()).as_bytes()).unwrap_or_default();
    }
    if failed { EXIT_JOB_FAILED } else { 0 }
}

/// A line a worker, and one of their sums.
fn figures(stats: &Stats) -> String {
    let line = |name: &str, worker: &WorkerStats| {
        let WorkerStats { jobs, panicked, claims, steals, parks, wakes, .. } = *worker;
        format!("{name:<8} {jobs:>9} {panicked:>9} {claims:>9} {steals:>9} {parks:>9} {wakes:>9}\n")
    };
    let mut text = format!(
        "{:<8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
        "worker", "jobs", "panicked", "claims", "steals", "parks", "wakes"
    );
    text.extend(stats.workers.iter().enumerate().map(|(i, worker)| line(&i.to_string(), worker)));
    text + &line("total", &stats.total())
}

/// Nobody reads on: the reader has what it wanted, as with `head`. Anything else is an error.
fn unwritable(error: &io::Error, failed: bool) -> u8 {
    let is_closed = error.kind() == ErrorKind::BrokenPipe;
    if !is_closed {
        complain(io::stderr(), format_args!("cannot write to standard output: {error}"));
    }
    if failed || !is_closed { EXIT_JOB_FAILED } else { 0 }
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
