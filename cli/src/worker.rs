//! `layshaft work`: jobs of Gearman servers, through the engine.

mod filter;
mod news;
mod piped;

use crate::args::{From, Offer, Work};
use crate::builtin::Builtin;
use crate::children::Children;
use crate::program::Program;
use crate::{EXIT_JOB_FAILED, EXIT_NO_SERVER, EXIT_USAGE, complain, interrupt};
use filter::Filter;
use layshaft::gearman::worker::{Served, WorkerBuilder};
use layshaft::gearman::{Job, WorkError, Worker};
use layshaft::{Engine, Shutdown};
use news::News;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Runs the command; its exit code.
pub(crate) fn run(options: &Work) -> u8 {
    let (offer, from) = match options.offer().and_then(|offer| Ok((offer, options.from()?))) {
        Ok(asked) => asked,
        Err(error) => {
            // One that cannot be shown has nowhere else to go.
            let _ = error.print();
            return EXIT_USAGE;
        }
    };
    let children = Arc::new(Children::default());
    let news = Arc::new(News::new(options.quiet));
    let prepared = prepare(options, &offer, from, &children, &news);
    let Prepared { engine, worker, filter } = match prepared {
        Ok(prepared) => prepared,
        Err(message) => {
            complain(io::stderr(), message);
            return EXIT_USAGE;
        }
    };
    let stopper = worker.stopper();
    let (told, quiet) = (Arc::clone(&children), options.quiet);
    let ask = move || {
        if !quiet {
            complain(io::stderr(), "no more jobs are taken; a second interrupt leaves at once");
        }
        stopper.stop();
    };
    if let Err(error) = interrupt::watch(ask, told) {
        complain(io::stderr(), format_args!("cannot start: {error}"));
        return EXIT_USAGE;
    }
    let ended = worker.run();
    engine.shutdown(Shutdown::Drain);
    if let Some(filter) = filter {
        filter.end();
    }
    match ended {
        Ok(served) => {
            report(options, &served);
            0
        }
        Err(_) if news.told_of_none() => EXIT_NO_SERVER,
        Err(error) => {
            complain(io::stderr(), format_args!("cannot go on: {}", news::chain(&error)));
            EXIT_JOB_FAILED
        }
    }
}

/// All that a run needs.
struct Prepared {
    engine: Engine,
    worker: Worker,
    filter: Option<Arc<Filter>>,
}

/// Makes ready, or says what is wrong before anything runs.
fn prepare(
    options: &Work,
    offer: &Offer<'_>,
    from: From,
    children: &Arc<Children>,
    news: &Arc<News>,
) -> Result<Prepared, String> {
    let workers = options.jobs.map(usize::from);
    let builder = workers.into_iter().fold(Engine::builder(), layshaft::Builder::workers);
    let engine = builder.start().map_err(|error| format!("cannot start: {}", news::chain(&error)))?;
    let hears = Arc::clone(news);
    let mut worker = Worker::builder(&engine).exceptions(options.exceptions).give_up(options.give_up);
    worker = worker.on_event(move |event| hears.tell(event));
    worker = match from {
        From::Stdio => worker.stdio(),
        From::Servers(servers) => worker.servers(servers),
    };
    worker = options.tls.options().iter().fold(worker, WorkerBuilder::tls);
    worker = options.max_packet.iter().fold(worker, |worker, size| worker.packet_limit(size.0));
    worker = worker.timeouts_in_seconds(options.timeout_unit == "s");
    worker = options.prefix.iter().fold(worker, WorkerBuilder::prefix);
    worker = options.id.iter().fold(worker, |worker, id| worker.client_id(id.as_bytes()));
    let mut filter = None;
    let mut names = Vec::new();
    match offer {
        Offer::Builtins(builtins) => {
            for builtin in builtins.iter().copied() {
                worker = worker.function(builtin.name(), move |_: &Job, payload| Ok(run_builtin(builtin, &payload)));
                names.push(builtin.name());
            }
        }
        Offer::Program { function, name, args } => {
            let program = Program::find(name, args, Arc::clone(children))?;
            names.push(function);
            worker = if options.filter {
                let shared = Arc::new(Filter::new(program));
                filter = Some(Arc::clone(&shared));
                worker.function(*function, move |job: &Job, payload| tell(job, shared.run(&payload)))
            } else {
                worker.function(*function, move |job: &Job, payload| tell(job, piped::run(&program, &payload)))
            };
        }
    }
    for name in names {
        let limit = options.timeout.filter(|limit| *limit != Duration::MAX);
        worker = limit.iter().fold(worker, |worker, limit| worker.function_timeout(name, *limit));
    }
    let worker = worker.build().map_err(|error| format!("cannot start: {}", news::chain(&error)))?;
    Ok(Prepared { engine, worker, filter })
}

fn run_builtin(builtin: Builtin, payload: &[u8]) -> Vec<u8> {
    builtin.run_on(payload).value()
}

/// A failure is told here as well: who runs the worker is not who waits for the job.
fn tell(job: &Job, result: Result<Vec<u8>, String>) -> Result<Vec<u8>, WorkError> {
    result.map_err(|why| {
        complain(io::stderr(), format_args!("job {}: {why}", job.id().escape_ascii()));
        WorkError::exception(why)
    })
}

/// The last words.
fn report(options: &Work, served: &Served) {
    if !options.quiet {
        let jobs = served.done + served.failed;
        let jobs = if jobs == 1 { "1 job".to_owned() } else { format!("{jobs} jobs") };
        complain(io::stderr(), format_args!("{jobs}, {} failed", served.failed));
    }
}
