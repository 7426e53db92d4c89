//! What happens to the worker's connections, told to whoever runs it.

use crate::complain;
use layshaft::gearman::Error;
use layshaft::gearman::worker::Event;
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What was heard of the servers.
pub(crate) struct News {
    is_quiet: bool,
    started: Instant,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Whether there was a connection, ever.
    has_met: bool,
    /// Of servers that are down: why, and how many attempts there were.
    down: BTreeMap<String, (String, u32)>,
}

impl News {
    pub(crate) fn new(is_quiet: bool) -> News {
        News { is_quiet, started: Instant::now(), known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of an event. Of attempts to connect in a row only the first is told.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        let mut known = self.known();
        match event {
            Event::Connected { server, .. } => {
                known.down.remove(*server);
                known.has_met = true;
                if !self.is_quiet {
                    complain(io::stderr(), format_args!("connected to {server}"));
                }
            }
            Event::Lost { server, error, attempts, retry, .. } => {
                let why = chain(*error);
                // Who has started this process and goes away wants it to end.
                let is_end = retry.is_none() && matches!(error, Error::Closed);
                if *attempts == 1 && known.has_met && !(is_end && self.is_quiet) {
                    let next = retry.map_or(String::new(), |wait| format!("; next try in {:.1} s", wait.as_secs_f64()));
                    complain(io::stderr(), format_args!("{server}: {why}{next}"));
                }
                known.down.insert((*server).to_owned(), (why, *attempts));
            }
            Event::Refused { server, error, .. } => complain(io::stderr(), format_args!("{server}: {}", chain(*error))),
            _ => {}
        }
    }

    /// Whether no server was ever there, which is then told.
    pub(crate) fn told_of_none(&self) -> bool {
        let known = self.known();
        if !known.has_met {
            let took = self.started.elapsed().as_secs_f64();
            for (server, (why, attempts)) in &known.down {
                let tries = if *attempts == 1 { "once".to_owned() } else { format!("{attempts} times") };
                complain(io::stderr(), format_args!("no server at {server} ({why}; tried {tries} in {took:.1} s)"));
            }
        }
        !known.has_met
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
