//! `layshaft map`: one job an input, through the engine, to the output.

use crate::args::{Asked, Map, Request};
use crate::bell::Bell;
use crate::children::Children;
use crate::found::Format;
use crate::inputs::{Inputs, List, Place, STDIN};
use crate::interrupt::{self, Interrupt};
use crate::printer::Printer;
use crate::program::Program;
use crate::progress::{Beside, Progress};
use crate::remote::function::{IN_FLIGHT, Remote};
use crate::run::{self, Run};
use crate::summary::{self, Summary, Tally};
use crate::window::{Order, Window};
use crate::work::Work;
use crate::{EXIT_JOB_FAILED, EXIT_USAGE, complain, name};
use layshaft::{Engine, Shutdown, Stats};
use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Stderr, Stdout, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs the command; its exit code.
pub(crate) fn run(options: &Map) -> u8 {
    let started = Instant::now();
    let request = match options.request() {
        Ok(request) => request,
        Err(error) => {
            // One that cannot be shown has nowhere else to go.
            let _ = error.print();
            return EXIT_USAGE;
        }
    };
    let remote = match request.function {
        Asked::Remote { servers, name } => match Remote::open(servers, &options.tls, name, options.timeout) {
            Ok(remote) => Some(remote),
            Err((code, message)) => {
                complain(io::stderr(), message);
                return code;
            }
        },
        _ => None,
    };
    let Prepared { engine, mut run, inputs, children, interrupt } = match prepare(options, &request, remote) {
        Ok(prepared) => prepared,
        Err(message) => {
            complain(io::stderr(), message);
            return EXIT_USAGE;
        }
    };
    let ended = run.all(inputs);
    run.progress.end();
    let Run { tally, .. } = run;
    let failed = tally.failed > 0;
    if let Err(error) = ended {
        // Bodies that read a large file, or a pipe, are not waited for, and what runs for nobody is not left behind.
        children.kill();
        engine.shutdown(Shutdown::DrainFor(Duration::ZERO));
        return unwritable(&error, failed);
    }
    engine.shutdown(Shutdown::Drain);
    let exit_code = interrupt.exit_code();
    report(options, tally, started.elapsed(), &engine.stats(), exit_code.is_some());
    exit_code.unwrap_or(if failed { EXIT_JOB_FAILED } else { 0 })
}

/// All that a run needs.
struct Prepared {
    engine: Engine,
    run: Run<Beside<Stdout>, Beside<Stderr>>,
    inputs: Inputs,
    children: Arc<Children>,
    interrupt: Arc<Interrupt>,
}

/// Makes ready, or says what is wrong before anything runs.
fn prepare(options: &Map, request: &Request<'_>, remote: Option<Remote>) -> Result<Prepared, String> {
    let (bell, children) = (Bell::here(), Arc::new(Children::default()));
    let jobs = options.jobs.or(remote.is_some().then_some(IN_FLIGHT));
    let work = match (request.function, remote) {
        (_, Some(remote)) => Work::Remote(remote),
        (Asked::Builtin(builtin), None) => Work::Builtin(builtin),
        (Asked::Remote { .. }, None) => return Err("the servers were not asked".to_owned()),
        (Asked::Program { name, args }, None) => {
            Work::Program(Program::find_for_inputs(name, args, Arc::clone(&children))?)
        }
    };
    let dash_is_taken = options.is_list_stdin() && !matches!(work, Work::Program(_));
    let inputs = || places(options, request).map(|places| Inputs::new(places, dash_is_taken, Arc::clone(&bell)));
    let format = if options.json { Format::Json } else { Format::Text };
    let progress = Progress::new(!options.no_progress && !options.quiet);
    let cannot_start = |error: &dyn Error| format!("cannot start: {}", chain(error));
    // Before signals only ask: opening a list may wait for whoever writes it.
    let all = inputs()?;
    let rung = Arc::clone(&bell);
    let ring = move || rung.ring();
    let interrupt = interrupt::watch(ring, Arc::clone(&children)).map_err(|e| cannot_start(&e))?;
    let name = work.name();
    let body = move |input: &_| work.run(input, format);
    let (engine, function) = run::start(jobs, name, body).map_err(|e| cannot_start(&*e))?;
    if !all.have_lists() {
        progress.count(inputs()?);
    }
    let run = Run {
        function,
        window: Window::new(if options.unordered { Order::AsTheyEnd } else { Order::Kept }),
        printer: Printer::new(format, progress.beside(io::stdout()), progress.beside(io::stderr())),
        progress,
        bell: Arc::clone(&bell),
        interrupt: Arc::clone(&interrupt),
        tally: Tally::new(),
    };
    Ok(Prepared { engine, run, inputs: all, children, interrupt })
}

/// The inputs named, and then the list.
fn places(options: &Map, request: &Request<'_>) -> Result<Vec<Place>, String> {
    let list = |from: &PathBuf| -> Result<Place, String> {
        let is_stdin = from.as_os_str() == STDIN;
        let unreadable = |error| format!("cannot read the list {}: {error}", name::quoted(from.as_os_str()));
        let reader: Box<dyn Read + Send> =
            if is_stdin { Box::new(io::stdin()) } else { Box::new(File::open(from).map_err(unreadable)?) };
        Ok(Place::List(List { name: from.clone(), from: reader, end: options.end() }))
    };
    let reads_inputs = request.function.reads_inputs();
    let named = request.inputs.iter().map(|input| match *input == STDIN {
        true if reads_inputs => Ok(Place::Stdin),
        true => list(&input.into()),
        false => Ok(Place::Named(input.into())),
    });
    named.chain(options.files_from.iter().map(list)).collect()
}

/// The last words.
fn report(options: &Map, tally: Tally, took: Duration, stats: &Stats, is_interrupted: bool) {
    let (jobs, left, steals) = (tally.jobs, tally.left(), stats.total().steals);
    let summary = Summary { tally, took, steals };
    let mut errors = io::stderr();
    if options.json {
        if !options.quiet || options.stats || is_interrupted {
            let line = summary.json(is_interrupted, options.stats.then_some(&stats.workers));
            errors.write_all(line.as_bytes()).unwrap_or_default();
        }
        return;
    }
    if is_interrupted {
        complain(&errors, format_args!("interrupted: {left}"));
    } else if jobs == 0 && options.files_from.is_none() {
        complain(&errors, "no regular file below the inputs (links inside folders are not followed)");
    } else if jobs == 0 {
        complain(&errors, "no input: the list is empty, or names folders without a regular file");
    }
    if !options.quiet {
        complain(&errors, summary);
    }
    if options.stats {
        errors.write_all(summary::figures(stats).as_bytes()).unwrap_or_default();
    }
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
