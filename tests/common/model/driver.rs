//! Applies operations to an engine and to the model, and compares after each.

use super::batches::Batch;
use super::consumers::Set;
use super::operation::{Finish, NAMES, Operation, Policy, SETS, Terms};
use super::reference::{Reference, Refusal, State, result};
use super::runs::{CHILD_BITS, Log, body};
use super::started::{Attempt, DEAD};
use super::waiters::Waiter;
use crate::common::wake::CountingWaker;
use crate::common::{Held, Live, PATIENCE, Token, engine, outcome, watchdog};
use layshaft::{Engine, Function, JobError, JobHandle, Priority, Pulled, Reason, Retry, Submit, SubmitError};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Longer than any run.
pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) struct Arg {
    pub(super) id: u64,
    pub(super) n: u8,
    live: Live,
    _token: Token,
}

pub(super) struct Reply {
    value: u64,
    live: Live,
    _token: Token,
}

impl Arg {
    pub(super) fn new(id: u64, n: u8, live: &Live) -> Arg {
        Arg { id, n, live: live.clone(), _token: live.token() }
    }
}

impl Clone for Arg {
    fn clone(&self) -> Arg {
        Arg::new(self.id, self.n, &self.live)
    }
}

impl Reply {
    pub(super) fn new(value: u64, live: &Live) -> Reply {
        Reply { value, live: live.clone(), _token: live.token() }
    }
}

impl Clone for Reply {
    fn clone(&self) -> Reply {
        Reply::new(self.value, &self.live)
    }
}

pub(super) struct Handle {
    pub(super) handle: JobHandle<Reply>,
    /// Its number in the model.
    pub(super) claim: usize,
    /// The waker of the last poll that was pending.
    pub(super) wakes: Option<Arc<CountingWaker>>,
}

/// A body must reach its own function; cleared at the end, so that no cycle stays.
pub(super) type Own = Arc<Mutex<Option<Function<Arg, Reply>>>>;

pub(super) struct Driver {
    pub(super) model: Reference,
    pub(super) held: Option<Held>,
    pub(super) live: Live,
    pub(super) log: Arc<Log>,
    pub(super) functions: Vec<Function<Arg, Reply>>,
    pub(super) owns: Vec<Own>,
    pub(super) handles: Vec<Handle>,
    pub(super) sets: Vec<Set>,
    /// A member of every consumer function, which takes what is left at the end.
    pub(super) sweeper: Option<Set>,
    pub(super) pulled: Vec<(Pulled<Arg, Reply>, Attempt)>,
    pub(super) batches: Vec<Batch>,
    pub(super) waiters: Vec<Waiter>,
    /// Callers that have waited for room.
    pub(super) waited: u64,
}

/// Runs `operations` on a fresh engine and ends it.
pub(crate) fn run(operations: &[Operation], finish: Finish) {
    let _watchdog = watchdog(format!("the end ({finish:?}) of {operations:?}"));
    let mut driver = Driver::new();
    for operation in operations {
        driver.apply(*operation);
        driver.let_in();
        driver.check();
    }
    driver.finish(finish);
}

/// Picks by number from what there is.
pub(super) fn pick<T>(items: &[T], at: usize) -> Option<usize> {
    (!items.is_empty()).then(|| at % items.len())
}

/// Waits until something holds that another thread brings about and tells nobody; the caller sees whether it does.
pub(super) fn until(mut holds: impl FnMut() -> bool) {
    // Less than for what must come: it may be that it never holds.
    let end = Instant::now() + PATIENCE / 10;
    while !holds() && Instant::now() < end {
        std::thread::yield_now();
    }
}

impl Driver {
    fn new() -> Driver {
        let held = Held::of(engine(1));
        Driver {
            model: Reference::default(),
            live: Live::default(),
            log: Arc::default(),
            functions: Vec::new(),
            owns: Vec::new(),
            handles: Vec::new(),
            sets: (0..SETS).map(|_| Set::new(&held.engine)).collect(),
            sweeper: Some(Set::new(&held.engine)),
            pulled: Vec::new(),
            batches: Vec::new(),
            waiters: Vec::new(),
            waited: 0,
            held: Some(held),
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.held.as_ref().unwrap().engine
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Register { name, remote } => self.register(name, remote),
            Operation::Remove { name } => {
                assert_eq!(self.engine().remove(&name_of(name)), self.model.remove(name));
            }
            Operation::Send { function, n, terms } => self.submit(function, n, terms, false),
            Operation::Submit { function, n, terms } => self.submit(function, n, terms, true),
            Operation::SendBatch { function, jobs } => self.batch(function, jobs, false),
            Operation::SubmitBatch { function, jobs } => self.batch(function, jobs, true),
            Operation::Collect { function, jobs } => self.collect(function, jobs),
            Operation::Next { batch } => self.next(batch),
            Operation::DropBatch { batch } => self.drop_batch(batch),
            Operation::Cancel { handle } => {
                if let Some(at) = pick(&self.handles, handle) {
                    assert_eq!(self.handles[at].handle.cancel(), self.model.cancel(self.handles[at].claim));
                }
            }
            Operation::Detach { handle } => {
                if let Some(at) = pick(&self.handles, handle) {
                    let handle = self.handles.swap_remove(at);
                    self.model.claims[handle.claim].dropped = true;
                }
            }
            Operation::Wait { handle } => self.wait(handle),
            Operation::Poll { handle } => self.poll(handle),
            Operation::Run => self.run(),
            Operation::Borrow { closures } => self.borrow(closures),
            Operation::Fork => self.fork(),
            Operation::Join { set, function } => self.join(set, function),
            Operation::Leave { set, function } => self.leave(set, function),
            Operation::Park { set } => self.park(set),
            Operation::Renew { set } => self.sets[set] = Set::new(self.engine()),
            Operation::Pull { set } => self.pull(set),
            Operation::PutBack { pulled } => self.put_back(pulled),
            Operation::Complete { pulled } => self.complete(pulled),
            Operation::Fail { pulled } => self.fail(pulled),
            Operation::Lose { pulled } => self.lose(pulled),
            managed => self.control(managed),
        }
    }

    /// What is asked of a function itself.
    fn control(&mut self, operation: Operation) {
        let (Operation::SetLimits { function, .. }
        | Operation::Pause { function }
        | Operation::PauseUntil { function, .. }
        | Operation::Elapse { function, .. }
        | Operation::Resume { function }
        | Operation::SetRetry { function, .. }
        | Operation::TakeDead { function, .. }
        | Operation::RetryDead { function, .. }) = operation
        else {
            unreachable!("{operation:?} is none of these");
        };
        let Some(index) = pick(&self.functions, function) else { return };
        let function = self.functions[index].clone();
        match operation {
            Operation::SetLimits { bounds, .. } => {
                function.set_limits(bounds.limits());
                self.model.set_limits(index, bounds);
            }
            Operation::Pause { .. } => {
                function.pause();
                self.model.pause(index, None);
            }
            Operation::PauseUntil { hours, .. } => {
                function.pause_until(Instant::now() + u32::from(hours) * HOUR);
                self.model.pause(index, Some(hours));
                until(|| function.is_paused() == self.model.functions[index].paused);
            }
            Operation::Resume { .. } => {
                function.resume();
                self.model.resume(index);
            }
            // Between the loss and the next attempt a caller might get in, or not.
            Operation::Elapse { .. } if self.has_waiter(index) && self.model.functions[index].policy.timeouts => {}
            Operation::Elapse { hours, .. } => {
                function.fall_due(Instant::now() + u32::from(hours) * HOUR);
                self.model.fall_due(index, hours);
            }
            // Whether a caller that waits has seen it is unknown.
            Operation::SetRetry { .. } if self.has_waiter(index) => {}
            Operation::SetRetry { policy, .. } => {
                function.set_retry(retry(policy));
                self.model.set_retry(index, policy);
            }
            Operation::TakeDead { at, .. } => {
                let dead = function.dead();
                let Some(at) = pick(&dead, at) else { return };
                let job = self.model.functions[index].dead.remove(at);
                assert_eq!(function.take_dead(dead[at].number).unwrap().id, self.model.jobs[job].id);
                assert!(function.take_dead(dead[at].number).is_none());
            }
            Operation::RetryDead { at, .. } => {
                let dead = function.dead();
                let Some(at) = pick(&dead, at) else { return };
                let priority = self.model.jobs[self.model.functions[index].dead[at]].terms.priority;
                if self.model.room_left(index, priority) == 0 {
                    return;
                }
                let job = self.model.functions[index].dead.remove(at);
                let (id, n) = (self.model.jobs[job].id, self.model.jobs[job].n);
                let terms = Terms { priority: self.model.jobs[job].terms.priority, ..Terms::default() };
                let expected = self.model.submit(index, id, n, terms, false).map(|_| ());
                let refused = function.retry_dead(dead[at].number).map(|found| assert!(found));
                self.compare_refusal(expected, refused.err(), id);
            }
            _ => {}
        }
    }

    fn register(&mut self, name: usize, remote: bool) {
        let index = self.functions.len();
        let own = Own::default();
        let made = if remote {
            self.engine().consumer(&name_of(name))
        } else {
            let (log, live, own) = (self.log.clone(), self.live.clone(), own.clone());
            self.engine().function(&name_of(name), move |arg| body(index, arg, &log, &live, &own))
        };
        assert_eq!(made.is_ok(), self.model.register(name, remote));
        let Ok(function) = made else { return };
        *own.lock().unwrap() = Some(function.clone());
        if remote {
            self.sweeper.as_mut().unwrap().add(index, &function);
        }
        self.functions.push(function);
        self.owns.push(own);
    }

    /// The id of the next job's argument: jobs that only join have none in the model, which is all right.
    pub(super) fn next_id(&self) -> u64 {
        (self.model.jobs.len() as u64) << CHILD_BITS
    }

    pub(super) fn compare_refusal(&self, expected: Result<(), Refusal>, refused: Option<SubmitError<Arg>>, id: u64) {
        let Some(error) = refused else {
            assert_eq!(expected, Ok(()), "a job was accepted");
            return;
        };
        assert_eq!(Err(if error.is_full() { Refusal::Full } else { Refusal::Closed }), expected, "a job was refused");
        assert_eq!(error.into_arg().id, id, "another argument came back");
    }

    fn submit(&mut self, function: usize, n: u8, terms: Terms, handle: bool) {
        let Some(at) = pick(&self.functions, function) else { return };
        if terms.deadline == Some(0) && self.has_waiter(at) {
            // Whoever waits may join it before the clock ends it, or not.
            return;
        }
        let id = self.next_id();
        let expected = self.model.submit(at, id, n, terms, handle);
        if expected == Err(Refusal::Wait) {
            return self.wait_for_room(at, n, terms, handle);
        }
        let job = with_terms(self.functions[at].job(Arg::new(id, n, &self.live)), terms);
        let refused = if handle {
            job.submit().map(|handle| {
                let claim = expected.ok().flatten().expect("the job should have been refused");
                self.handles.push(Handle { handle, claim, wakes: None });
            })
        } else {
            job.send()
        };
        self.compare_refusal(expected.map(|_| ()), refused.err(), id);
        self.wait_for_the_clock(at);
    }

    /// Whether other threads take out what is cancelled or over: who waits for room, and the clock.
    fn is_swept_by_others(&self, at: usize) -> bool {
        self.has_waiter(at) || self.model.jobs.iter().any(|job| job.function == at && job.terms.deadline == Some(0))
    }

    /// What is due at once is the engine's clock's to do.
    pub(super) fn wait_for_the_clock(&self, at: usize) {
        let function = &self.functions[at];
        if self.is_swept_by_others(at) {
            until(|| function.queued() == self.model.queued(at));
        }
        for Handle { handle, claim, .. } in &self.handles {
            let of = &self.model.jobs[self.model.claims[*claim].job];
            if of.function != at {
                continue;
            }
            until(|| handle.is_finished() == self.model.claims[*claim].end.is_some());
            let is_delayed =
                || function.explain_job(handle).reasons().iter().any(|r| matches!(r, Reason::NotBefore { .. }));
            if of.terms.after == Some(0) {
                until(|| !is_delayed());
            }
        }
    }

    fn batch(&mut self, function: usize, jobs: u8, handles: bool) {
        let Some(at) = pick(&self.functions, function) else { return };
        let jobs = jobs.min(self.model.room_left(at, Priority::Normal));
        let (mut args, mut claims, mut is_open) = (Vec::new(), Vec::new(), true);
        let mut refusal = None;
        let first = self.next_id();
        for n in 0..jobs {
            let id = first + (u64::from(n) << CHILD_BITS);
            args.push(Arg::new(id, n, &self.live));
            if is_open {
                match self.model.submit(at, id, n, Terms::default(), handles) {
                    Ok(claim) => claims.push(claim),
                    Err(why) => (is_open, refusal) = (false, Some(why)),
                }
            }
        }
        let (expected, function) = ((claims.len(), usize::from(jobs) - claims.len()), &self.functions[at]);
        if handles {
            let (made, rest) = match function.submit_batch(args) {
                Ok(batch) => (batch, Vec::new()),
                Err(error) => {
                    assert_eq!(error.is_full(), refusal == Some(Refusal::Full));
                    error.into_parts()
                }
            };
            assert_eq!((made.len(), rest.len()), expected);
            let made = made.into_iter().zip(claims.into_iter().flatten());
            self.handles.extend(made.map(|(handle, claim)| Handle { handle, claim, wakes: None }));
        } else {
            let (sent, rest) = match function.send_batch(args) {
                Ok(sent) => (sent, 0),
                Err(error) => (error.accepted(), error.into_parts().1.len()),
            };
            assert_eq!((sent, rest), expected);
        }
    }

    fn wait(&mut self, at: usize) {
        let Some(at) = pick(&self.handles, at) else { return };
        let Handle { handle, claim, wakes } = self.handles.swap_remove(at);
        if self.model.claims[claim].end.is_some() {
            self.compare(claim, wakes, outcome(handle));
            return;
        }
        match handle.wait_timeout(std::time::Duration::ZERO) {
            Ok(_) => panic!("handle {claim} has an end, and its job is not over"),
            Err(handle) => self.handles.push(Handle { handle, claim, wakes: None }),
        }
    }

    fn poll(&mut self, at: usize) {
        let Some(at) = pick(&self.handles, at) else { return };
        let claim = self.handles[at].claim;
        let (counter, waker) = CountingWaker::pair();
        match Pin::new(&mut self.handles[at].handle).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                assert_eq!(self.model.claims[claim].end, None, "handle {claim} has its end, but the poll is pending");
                if let Some(old) = self.handles[at].wakes.replace(counter) {
                    assert_eq!(old.wakes(), 0, "woken before the job ended");
                }
            }
            Poll::Ready(end) => {
                let handle = self.handles.swap_remove(at);
                self.compare(claim, handle.wakes, end);
            }
        }
    }

    /// The end that a handle reported against the model's.
    pub(super) fn compare(&self, claim: usize, wakes: Option<Arc<CountingWaker>>, end: Result<Reply, JobError>) {
        let expected = &self.model.claims[claim];
        let state = match &end {
            Ok(reply) => {
                let n = self.model.jobs[expected.job].n;
                assert_eq!(reply.value, result(n), "handle {claim} gave the result of another");
                State::Value
            }
            Err(JobError::Panicked(_)) => State::Panicked,
            Err(JobError::Cancelled) => State::Cancelled,
            Err(JobError::Evicted) => State::Evicted,
            Err(JobError::Failed(_)) => State::Failed,
            Err(JobError::Lost) => State::Lost,
            Err(JobError::TimedOut) => State::TimedOut,
            Err(other) => panic!("handle {claim} ended with {other}"),
        };
        assert_eq!(Some(state), expected.end, "the end that handle {claim} reports, of job {}", expected.job);
        if let Some(wakes) = wakes {
            assert_eq!(wakes.wakes(), 1, "wakes of handle {claim}");
        }
    }

    /// What must hold between any two operations.
    fn check(&self) {
        let registered = self.model.names.iter().flatten().count();
        assert_eq!(self.engine().stats().functions, registered + 1, "the gate's function is one more");
        for (at, (function, expected)) in self.functions.iter().zip(&self.model.functions).enumerate() {
            let (mut queued, right) = (function.queued(), self.model.queued(at));
            if self.is_swept_by_others(at) {
                // One look that is right: the next may again fall between two steps of theirs.
                until(|| {
                    queued = function.queued();
                    queued == right
                });
            }
            assert_eq!(queued, right, "queued jobs of function {at}");
            let is = (function.is_closed(), function.is_paused());
            assert_eq!(is, (expected.closed, expected.paused), "function {at} is closed, is paused");
            let dead: Vec<_> = function.dead().into_iter().map(|dead| (dead.attempts, dead.reason)).collect();
            assert_eq!(dead, self.model.dead(at), "the dead list of function {at}");
        }
        for Handle { handle, claim, .. } in &self.handles {
            assert_eq!(handle.is_finished(), self.model.claims[*claim].end.is_some(), "handle {claim}");
        }
        self.check_wakes();
    }
}

pub(super) fn with_terms<'f>(mut job: Submit<'f, Arg, Reply>, terms: Terms) -> Submit<'f, Arg, Reply> {
    job = job.priority(terms.priority);
    if let Some(key) = terms.key {
        job = job.unique([key]);
    }
    if terms.ahead {
        job = job.ahead();
    }
    if let Some(hours) = terms.after {
        job = job.after(u32::from(hours) * HOUR);
    }
    if let Some(hours) = terms.deadline {
        job = job.deadline(u32::from(hours) * HOUR);
    }
    if let Some(hours) = terms.timeout {
        job = job.timeout(u32::from(hours) * HOUR);
    }
    job
}

fn retry(policy: Policy) -> Option<Retry> {
    let retry = Retry::attempts(policy.attempts).panics(policy.panics).timeouts(policy.timeouts).keep_dead(DEAD);
    (policy.attempts > 0).then(|| if policy.later { retry.delay(HOUR) } else { retry })
}

fn name_of(name: usize) -> String {
    debug_assert!(name < NAMES);
    format!("function {name}")
}
