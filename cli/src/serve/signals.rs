//! Signals: they end the server, or have it read its configuration again.

use super::listen::Bound;
use super::log::{self, Log};
use super::plan::Plan;
use crate::args::serve::Serve;
use layshaft::Engine;
use layshaft::gearman::Server;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals as Caught;
use std::ffi::c_int;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;
use tracing::{error, info, warn};

/// What shells report of a process that a signal ended, less the signal's number.
const EXIT_SIGNAL: c_int = 128;

/// Signals that are waited for.
pub(super) struct Signals(Caught);

/// What signals act on.
pub(super) struct Control {
    pub(super) options: Serve,
    pub(super) base: PathBuf,
    pub(super) plan: Plan,
    pub(super) engine: Engine,
    pub(super) server: Arc<Server>,
    pub(super) bound: Bound,
    pub(super) log: Log,
}

/// The signal that ended the server at once.
#[derive(Clone, Default)]
pub(super) struct Forced(Arc<AtomicI32>);

impl Forced {
    /// The exit code that tells of it.
    pub(super) fn exit_code(&self) -> Option<u8> {
        // Ordering: Relaxed, the number is all that is told.
        let signal = self.0.load(Ordering::Relaxed);
        (signal != 0).then(|| u8::try_from(EXIT_SIGNAL + signal).unwrap_or(u8::MAX))
    }
}

impl Signals {
    /// From now on none of them ends the process by itself.
    ///
    /// # Errors
    /// When they cannot be waited for.
    pub(super) fn new() -> Result<Signals, String> {
        let caught = Caught::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP]);
        caught.map(Signals).map_err(|error| format!("cannot wait for signals: {error}"))
    }

    /// Obeys them, on a thread.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn obey(mut self, mut control: Control) -> Result<Forced, String> {
        let forced = Forced::default();
        let told = forced.clone();
        let obey = move || {
            let mut is_ending = false;
            for signal in self.0.forever() {
                if signal == SIGHUP {
                    control.reload();
                } else if std::mem::replace(&mut is_ending, true) {
                    // Ordering: Relaxed, as in `exit_code`.
                    told.0.store(signal, Ordering::Relaxed);
                    warn!("ending at once");
                    control.server.end();
                } else {
                    control.drain(signal);
                }
            }
        };
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(obey);
        thread.map(|_| forced).map_err(|error| format!("cannot wait for signals: {error}"))
    }
}

impl Control {
    fn drain(&self, signal: c_int) {
        // A service manager that is not there need not know.
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        let limit = if signal == SIGUSR1 { Duration::MAX } else { self.plan.drain() };
        match signal {
            SIGUSR1 => info!("ending when jobs in hand have ended"),
            _ => info!("ending when jobs in hand have ended, or in {:?}", limit),
        }
        self.server.drain(limit);
    }

    /// Reads the configuration again, and opens the log again. What is wrong changes nothing.
    fn reload(&mut self) {
        let _ = NotifyState::monotonic_usec_now().and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now]));
        let changed = Plan::new(&self.options, &self.base).and_then(|plan| {
            self.bound.check(&plan)?;
            let file = log::open(plan.log_file())?;
            // The last that can fail, and all or nothing by itself.
            self.server.reload_tls().map_err(|error| io::Error::from(error).to_string())?;
            self.log.change(plan.server.log_level, file);
            Ok(plan)
        });
        match changed {
            Ok(plan) => {
                for name in self.plan.only_at_start(&plan) {
                    warn!("{name} has changed, which takes effect at the next start");
                }
                self.server.reconfigure(plan.builder(&self.engine));
                self.plan.follow(plan);
                info!("configuration, certificates and log are as in their files");
            }
            Err(why) => error!("nothing is changed: {}", why.replace('\n', "; ")),
        }
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    }
}
