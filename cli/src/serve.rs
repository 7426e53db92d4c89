//! The command `serve`: a Gearman server.

mod daemon;
mod listen;
mod log;
mod metrics;
mod pidfile;
mod plan;
mod signals;
pub(crate) mod units;

use crate::args::serve::Serve;
use crate::builtin::Builtin;
use crate::{EXIT_JOB_FAILED, EXIT_USAGE, complain};
use layshaft::Engine;
use layshaft::gearman::{Answer, Server, ServerBuilder};
use listen::{Bound, Wanted};
use log::{Log, Scribe};
use pidfile::PidFile;
use plan::Plan;
use sd_notify::NotifyState;
use signals::{Control, Signals};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tracing::{info, warn};

/// Runs the command; its exit code.
pub(crate) fn run(options: &Serve) -> u8 {
    serve(options).unwrap_or_else(|message| {
        complain(io::stderr(), message);
        EXIT_USAGE
    })
}

fn serve(options: &Serve) -> Result<u8, String> {
    let base = daemon::folder()?;
    let plan = Plan::new(options, &base)?;
    if let Some(user) = &options.user {
        daemon::become_user(user)?;
    }
    if options.is_daemon {
        daemon::detach()?;
    } else if options.daemonize {
        return daemon::launch();
    }
    if let Some(files) = plan.server.file_descriptors {
        daemon::allow_files(files)?;
    }
    let log = Log::start(plan.server.log_level, plan.log_format(), plan.log_file())?;
    let mut pidfile = plan.server.pidfile.as_deref().map(PidFile::lock).transpose()?;
    // Before anybody is told that the server is there.
    let signals = Signals::new()?;
    let scribe = Arc::new(Scribe::default());
    let Started { server, engine, bound } = start(&plan, &scribe)?;
    if let Some(pidfile) = &mut pidfile {
        pidfile.write()?;
    }
    let control = Control { options: options.clone(), base, plan, engine, server: Arc::clone(&server), bound, log };
    let forced = signals.obey(control)?;
    for address in server.addresses() {
        info!("listening on {address}");
    }
    tell_ready(options)?;
    server.wait();
    info!("ended");
    // A service manager that is not there need not know.
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    // Ordering: Relaxed, the server's threads have ended.
    let was_cut_short = scribe.was_cut_short.load(Ordering::Relaxed);
    Ok(forced.exit_code().unwrap_or(if was_cut_short { EXIT_JOB_FAILED } else { 0 }))
}

/// Says what is wrong with settings, as far as that can be known before anything is listened on.
///
/// # Errors
/// What is wrong.
pub(crate) fn check(options: &Serve) -> Result<(), String> {
    let plan = Plan::new(options, &daemon::folder()?)?;
    Wanted::new(&plan, false).map(drop)
}

/// All that runs.
struct Started {
    server: Arc<Server>,
    engine: Engine,
    bound: Bound,
}

/// Starts all that listens.
fn start(plan: &Plan, scribe: &Arc<Scribe>) -> Result<Started, String> {
    let given = listen::given()?;
    let (listeners, metrics) = Wanted::new(plan, !given.is_empty())?.bind(given)?;
    let bound = Bound::of(plan, &listeners, &metrics)?;
    // Nor may anybody come to those that were given.
    bound.check(plan)?;
    let functions = plan.server.function.as_deref().unwrap_or_default();
    // Without functions there is nothing for workers to do.
    let engine = if functions.is_empty() { Engine::builder().workers(1).start() } else { Engine::new() };
    let engine = engine.map_err(|error| format!("cannot start the engine: {error}"))?;
    let mut builder = listen::add(plan.builder(&engine), listeners, plan)?;
    for function in functions {
        builder = serve_builtin(builder, &engine, *function)?;
    }
    let hears = Arc::clone(scribe);
    builder = builder.on_event(move |event| hears.hear(event));
    let server = Arc::new(builder.start().map_err(|error| listen::reason(&error))?);
    for listener in metrics {
        if let Ok(address) = listener.local_addr() {
            info!("metrics on http://{address}/metrics");
        }
        metrics::serve(listener, &server).map_err(|error| format!("cannot serve metrics: {error}"))?;
    }
    Ok(Started { server, engine, bound })
}

/// Has the server itself do a function, as `map` does it.
fn serve_builtin(builder: ServerBuilder, engine: &Engine, builtin: Builtin) -> Result<ServerBuilder, String> {
    let body = move |payload: Vec<u8>| builtin.run_on(&payload).value();
    let function = engine.function(builtin.name(), body).map_err(|error| error.to_string())?;
    Ok(builder.serve(&function, |payload| Ok(payload.to_vec()), Answer::Result))
}

/// Tells everybody who waits for it that the server listens.
fn tell_ready(options: &Serve) -> Result<(), String> {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        warn!(error = error.to_string(), "cannot tell the service manager");
    }
    if let Some(pid) = options.notify_pid {
        daemon::notify(pid)?;
    }
    if options.is_daemon {
        daemon::tell_ready().map_err(|error| format!("cannot go to the background: {error}"))?;
    }
    Ok(())
}
