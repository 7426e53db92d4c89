//! What a managed queue says of a job that does not run. Walks over all jobs: for people who ask.

use super::{Entry, State};
use crate::job::slot::ResultSlot;
use crate::queue::priority::Priority;
use std::ptr::NonNull;
use std::time::Instant;

/// What may keep a managed function's jobs from starting, and where one of them is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) is_paused: bool,
    pub(crate) resume_at: Option<Instant>,
    pub(crate) running: usize,
    /// The most that may run at once.
    pub(crate) cap: Option<usize>,
    pub(crate) place: Place,
}

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind so many of its own priority, and of higher ones.
    Queued {
        same: usize,
        higher: usize,
    },
    /// It may not start before this time. So many attempts were lost.
    Delayed {
        at: Instant,
        attempts: u32,
    },
    /// Between two attempts.
    InHand {
        attempts: u32,
    },
    Running {
        attempts: u32,
    },
    /// Not in this queue: on its way here from where it was before the function was managed, or it starts or ends just now.
    Elsewhere,
}

impl<S> State<S> {
    /// What keeps this handle's job from starting, or the one that is next.
    pub(crate) fn look(&self, job: Option<NonNull<ResultSlot>>) -> Look {
        Look {
            is_paused: self.paused,
            resume_at: self.resume_at,
            running: self.running,
            cap: self.limits.concurrency.map(|most| most.max(usize::from(self.ending))),
            place: job.map_or_else(|| self.place_of_next(), |job| self.place_of(job)),
        }
    }

    fn place_of(&self, job: NonNull<ResultSlot>) -> Place {
        let id = self.records.heard_by(job);
        let is_it = |entry: &Entry<S>| match id {
            Some(id) => entry.record == id,
            None => entry.listener() == Some(job),
        };
        for priority in Priority::ALL {
            if let Some(at) = self.jobs[priority.index()].iter().position(is_it) {
                let higher = &Priority::ALL[..priority.index()];
                let higher = higher.iter().map(|priority| self.wanted_before(*priority, usize::MAX)).sum();
                return Place::Queued { same: self.wanted_before(priority, at), higher };
            }
        }
        let record = id.and_then(|id| self.records.get(id));
        let attempts = record.map_or(0, |record| record.attempts);
        if let Some((at, _, _)) = self.delayed.iter().find(|(_, _, entry)| is_it(entry)) {
            return Place::Delayed { at, attempts };
        }
        match record {
            Some(record) if record.is_running => Place::Running { attempts },
            Some(_) => Place::InHand { attempts },
            None => Place::Elsewhere,
        }
    }

    fn place_of_next(&self) -> Place {
        if self.jobs.iter().flatten().any(|entry| !self.is_over(entry)) {
            return Place::Queued { same: 0, higher: 0 };
        }
        let next = self.delayed.iter().find(|(_, _, entry)| !self.is_over(entry));
        next.map_or(Place::Elsewhere, |(at, _, entry)| {
            let attempts = self.records.get(entry.record).map_or(0, |record| record.attempts);
            Place::Delayed { at, attempts }
        })
    }

    /// Among the first `n` jobs of a priority, those that have not ended.
    fn wanted_before(&self, priority: Priority, n: usize) -> usize {
        self.jobs[priority.index()].iter().take(n).filter(|entry| !self.is_over(entry)).count()
    }
}
