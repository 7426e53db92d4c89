//! What is seen of a function and a job, and which reasons that makes.

use super::{BusyThread, Explanation, Reason};
use crate::consumer::{self, Sets};
use crate::job::slot::{Progress, ResultSlot};
use crate::queue::managed::{Look, Place};
use crate::sched::core::{Core, REMOVED};
use crate::sched::look::Crew;
use std::ptr::NonNull;
use std::time::Instant;

/// Why the function's next job is not running.
pub(crate) fn of(core: &Core) -> Explanation {
    let seen = Seen::of(core, None);
    Explanation { function: core.name().to_owned(), reasons: seen.function() }
}

/// Why the job of a handle, submitted to the function with this origin, is not running. The caller has the handle.
pub(crate) fn of_job(core: &Core, job: NonNull<ResultSlot>, origin: u32) -> Explanation {
    let seen = (origin == core.origin()).then(|| Seen::of(core, Some(job)));
    // Looked at last: what started or ended meanwhile has.
    let reasons = match (ResultSlot::progress(job), seen) {
        // Of whichever function: its index may be another one's by now.
        (Progress::Ended(outcome), _) => vec![Reason::Ended(outcome.into())],
        (_, None) => vec![Reason::OtherFunction],
        (Progress::Started, Some(seen)) => vec![seen.started()],
        (Progress::Waiting, Some(seen)) => seen.waiting(),
    };
    Explanation { function: core.name().to_owned(), reasons }
}

/// What is seen of a function, and of a job of it or the one that is next.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Of a managed function.
    look: Option<Look>,
    /// Of a function without a body.
    sets: Option<Sets>,
    crew: Crew,
    /// Jobs of the function that are queued.
    queued: usize,
    /// Jobs of it that run, or are pulled.
    running: usize,
    /// The job, or any job of the function, seems to be in a worker's deque.
    nested: bool,
    /// It is one job that is asked for, and not the function.
    is_job: bool,
    removed: bool,
    draining: bool,
    ended: bool,
}

impl Seen {
    fn of(core: &Core, job: Option<NonNull<ResultSlot>>) -> Seen {
        let shared = core.shared();
        let may_be_nested = job.is_none_or(ResultSlot::is_nested);
        Seen {
            look: core.look(job),
            sets: consumer::sets(core),
            crew: shared.crew(core),
            queued: core.count_queued(),
            running: core.running() as usize,
            nested: may_be_nested && core.is_in_a_deque(),
            is_job: job.is_some(),
            removed: core.flags() & REMOVED != 0,
            draining: shared.phase.is_draining(),
            ended: shared.phase.has_ended(),
        }
    }

    fn place(&self) -> &Place {
        self.look.as_ref().map_or(&Place::Elsewhere, |look| &look.place)
    }

    /// Of the function: why its next job does not start.
    fn function(&self) -> Vec<Reason> {
        let has_next = self.queued > 0 || self.nested || *self.place() != Place::Elsewhere;
        if has_next {
            return self.waiting();
        }
        let mut reasons = vec![Reason::NothingQueued { running: self.running }];
        reasons.extend(self.life());
        reasons
    }

    /// Of a job that somebody has.
    fn started(&self) -> Reason {
        let attempt = match self.place() {
            Place::Running { attempts } => Some(*attempts),
            // It was not yet running when the queue was looked at.
            Place::InHand { attempts } | Place::Delayed { attempts, .. } => Some(attempts + 1),
            Place::Queued { .. } | Place::Elsewhere => None,
        };
        if self.sets.is_some() {
            return Reason::Pulled { attempt };
        }
        Reason::Running { threads: self.crew.ours.clone(), attempt }
    }

    /// Of a job that nobody has started.
    fn waiting(&self) -> Vec<Reason> {
        if self.ended && self.sets.is_none() {
            return vec![Reason::EngineEnded];
        }
        let mut reasons = self.gates();
        reasons.extend(self.nobody());
        reasons.extend(self.ahead());
        if reasons.is_empty() {
            reasons.push(Reason::AboutToStart);
        }
        reasons.extend(self.life());
        reasons
    }

    /// What the function's own queue keeps it back for, what lasts longest first.
    fn gates(&self) -> Vec<Reason> {
        let Some(look) = &self.look else { return Vec::new() };
        let paused = look.is_paused.then_some(Reason::Paused { until: look.resume_at });
        let (at, delay) = match look.place {
            Place::Delayed { at, attempts: 0 } => (Some(at), Some(Reason::NotBefore { at })),
            Place::Delayed { at, attempts } => (Some(at), Some(Reason::NextAttempt { at: Some(at), attempts })),
            Place::InHand { attempts } => (None, Some(Reason::NextAttempt { at: None, attempts })),
            _ => (None, None),
        };
        let goes_on_first = look.resume_at.is_some_and(|resumed| at.is_some_and(|at: Instant| resumed < at));
        let both = if goes_on_first { [delay, paused] } else { [paused, delay] };
        let running = look.running;
        let cap = look.cap.filter(|cap| running >= *cap).map(|cap| Reason::CapReached { running, cap });
        both.into_iter().chain([cap]).flatten().collect()
    }

    /// Whether there is nobody to run it.
    fn nobody(&self) -> Option<Reason> {
        match self.sets {
            Some(Sets { all: 0, .. }) => Some(Reason::NoConsumer),
            // A set that is parked will be woken for it, unless one was and is expected to come.
            Some(Sets { all: sets, parked, woken }) => {
                let pulled = self.running;
                (parked == 0 || woken > 0).then_some(Reason::NotPulled { sets, parked, woken, pulled })
            }
            None if self.crew.free > 0 => None,
            None => {
                let busy = |(thread, function): &(String, String)| BusyThread {
                    thread: thread.clone(),
                    function: function.clone(),
                };
                let threads = self.crew.occupied.iter().map(busy).collect();
                let Crew { blocked, workers, .. } = self.crew;
                Some(Reason::NoWorker { threads, blocked, workers })
            }
        }
    }

    /// Which jobs of its function are before it.
    fn ahead(&self) -> Option<Reason> {
        match *self.place() {
            Place::Queued { same: 0, higher: 0 } => None,
            Place::Queued { same, higher } => Some(Reason::Ahead { same, higher }),
            Place::Elsewhere if self.nested && (self.is_job || self.queued == 0) => Some(Reason::Nested),
            Place::Elsewhere if self.is_job => {
                // Where the queue is not locked, the job itself is counted.
                let jobs = self.queued.saturating_sub(usize::from(self.look.is_none()));
                (jobs > 0).then_some(Reason::AheadAtMost { jobs })
            }
            _ => None,
        }
    }

    /// Where in their lives the function and the engine are.
    fn life(&self) -> Vec<Reason> {
        if self.ended {
            return vec![Reason::EngineEnded];
        }
        let removed = self.removed.then_some(Reason::FunctionRemoved);
        let draining = self.draining.then_some(Reason::Draining);
        removed.into_iter().chain(draining).collect()
    }
}

#[cfg(all(test, not(any(layshaft_loom, layshaft_shuttle))))]
mod tests {
    use super::*;

    /// A job of a function with a body that nothing is known of, and a free worker.
    fn job() -> Seen {
        Seen { is_job: true, queued: 1, crew: Crew { free: 1, workers: 1, ..Crew::default() }, ..Seen::default() }
    }

    fn at(place: Place) -> Option<Look> {
        Some(Look { is_paused: false, resume_at: None, running: 0, cap: None, place })
    }

    #[test]
    fn what_nothing_keeps_is_about_to_start() {
        assert_eq!(job().waiting(), [Reason::AboutToStart]);
        assert_eq!(Reason::AboutToStart.to_string(), "nothing keeps it from starting: it is about to");
        let of_set = |parked, woken| Seen { sets: Some(Sets { all: 1, parked, woken }), ..job() };
        assert_eq!(of_set(1, 0).waiting(), [Reason::AboutToStart], "it will be woken");
        assert!(matches!(of_set(1, 1).waiting()[..], [Reason::NotPulled { .. }]));
        let draining = Seen { draining: true, ..job() };
        assert_eq!(draining.waiting(), [Reason::AboutToStart, Reason::Draining]);
    }

    /// Of the ends of a job and of its engine, the engine's is what counts: its workers have left.
    #[test]
    fn nothing_starts_after_the_end() {
        let ended = Seen { ended: true, removed: true, crew: Crew::default(), ..job() };
        assert_eq!(ended.waiting(), [Reason::EngineEnded]);
    }

    /// The looks at the queue and at the handle are not one.
    #[test]
    fn attempts_are_those_of_the_moment_of_the_start() {
        let attempt = |place| match (Seen { look: at(place), ..job() }.started()) {
            Reason::Running { attempt, .. } => attempt,
            other => panic!("{other}"),
        };
        assert_eq!(attempt(Place::Running { attempts: 2 }), Some(2));
        assert_eq!(attempt(Place::InHand { attempts: 2 }), Some(3));
        assert_eq!(attempt(Place::Queued { same: 0, higher: 0 }), None);
    }

    /// On its way from where it was before the function was managed.
    #[test]
    fn a_job_that_is_not_in_its_queue_yet() {
        let elsewhere = Seen { look: at(Place::Elsewhere), queued: 2, ..job() };
        assert_eq!(elsewhere.waiting(), [Reason::AheadAtMost { jobs: 2 }]);
        let nested = Seen { nested: true, ..elsewhere };
        assert_eq!(nested.waiting(), [Reason::Nested]);
    }
}
