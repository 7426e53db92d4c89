//! Signals that end a run: the first asks, the second forces.

use crate::children::Children;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use std::ffi::c_int;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

/// What shells report of a process that a signal ended, less the signal's number.
const EXIT_SIGNAL: c_int = 128;

/// The wish that the run end.
#[derive(Debug, Default)]
pub(crate) struct Interrupt(AtomicI32);

impl Interrupt {
    /// Whether it was wished for.
    pub(crate) fn is_wanted(&self) -> bool {
        self.signal().is_some()
    }

    fn signal(&self) -> Option<c_int> {
        // Ordering: Relaxed, the number is all that is told.
        Some(self.0.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }

    /// Whether this is the first wish.
    fn wish(&self, signal: c_int) -> bool {
        // Ordering: Relaxed, as above.
        self.0.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The exit code of a run that was interrupted.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        self.signal().and_then(|signal| (EXIT_SIGNAL + signal).try_into().ok())
    }
}

/// Starts the thread that waits for signals. The first one calls `ask`. A hang-up is one, as children do not get it from the terminal; `SIGQUIT` does
/// not ask first.
pub(crate) fn watch(ask: impl Fn() + Send + 'static, children: Arc<Children>) -> io::Result<Arc<Interrupt>> {
    let ignored = ignored();
    let wanted = [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = Signals::new(wanted)?;
    let interrupt = Arc::new(Interrupt::default());
    let asked = Arc::clone(&interrupt);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGQUIT || !asked.wish(signal) {
                children.leave();
                low_level::exit(EXIT_SIGNAL + signal);
            }
            ask();
        }
    })?;
    Ok(interrupt)
}

/// Signals that whoever started the command had it ignore, as `nohup` does; a bit each. They stay ignored.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
