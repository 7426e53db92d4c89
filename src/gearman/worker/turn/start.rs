//! Jobs that were handed out, into the engine.

use super::Turns;
use crate::gearman::error::Error;
use crate::gearman::worker::Event;
use crate::gearman::worker::ability::{Outcome, Refused};
use crate::gearman::worker::job::{Facts, Job, Line};
use crate::gearman::worker::link::Assigned;
use crate::gearman::worker::mail::{Origin, Wish};
use std::sync::Arc;
use std::time::Instant;

/// A job that the engine had no room for.
pub(in crate::gearman::worker) struct Stalled {
    job: Job,
    function: usize,
    payload: Vec<u8>,
}

impl Stalled {
    pub(super) fn origin(&self) -> Origin {
        self.job.0.line.origin
    }
}

impl Turns {
    /// Makes a job of the engine of what a server handed out.
    pub(super) fn start(&mut self, line: &Arc<Line>, assigned: Assigned, now: Instant) {
        let Assigned { id, function, unique, reducer, payload } = assigned;
        let Some(number) = self.numbers.get(&function).copied() else {
            return self.refuse(line.origin, &id, &function);
        };
        let job = Job(Arc::new(Facts { line: Arc::clone(line), id, function, unique, reducer }));
        self.submit(job, number, payload, now);
    }

    fn submit(&mut self, job: Job, function: usize, payload: Vec<u8>, now: Instant) {
        match self.abilities[function].start(&job, payload) {
            Ok(pending) => {
                let key = self.hands.take(job, function, pending, &self.mail, (now, self.ahead.ended()));
                if let Some((in_hand, ended)) = self.hands.ended(key) {
                    // Before it ended it may have told something.
                    self.read_mail();
                    self.answer_for(in_hand, ended);
                }
            }
            Err(Refused { payload, is_full: true }) => self.stalled.push_back(Stalled { job, function, payload }),
            Err(Refused { is_full: false, .. }) => {
                // The engine has ended, or the function was removed. The server gives the job to another worker.
                self.mail.wish(Wish::Drain);
                self.answer(&job, &Outcome::NotRun);
            }
        }
    }

    /// Tries again what the engine had no room for.
    pub(super) fn retry_stalled(&mut self, now: Instant) {
        for _ in 0..self.stalled.len() {
            if let Some(Stalled { job, function, payload }) = self.stalled.pop_front() {
                self.submit(job, function, payload, now);
            }
        }
    }

    /// A job of a function that was never offered.
    fn refuse(&mut self, origin: Origin, id: &[u8], function: &[u8]) {
        if let Some(up) = self.servers[origin.server].up_for(origin) {
            up.link.refuse(id);
        }
        let text = format!("it handed out a job of {:?}, which was not offered", function.escape_ascii().to_string());
        let error = Error::Server { code: "UNKNOWN_FUNCTION".to_owned(), text };
        self.settings.tell(&Event::Refused { server: &self.servers[origin.server].name, error: &error });
    }
}
