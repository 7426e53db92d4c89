//! Applies operations to an engine and to the model, and compares after each.

use super::operation::{Finish, NAMES, Operation, SETS};
use super::reference::{Kind, Reference, State, kind, result};
use crate::common::wake::CountingWaker;
use crate::common::{Held, Live, PATIENCE, Token, engine, outcome, watchdog};
use layshaft::{Completer, ConsumerSet, Engine, Function, JobError, JobHandle, Priority, Pulled, Shutdown};
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};

/// Children carry their parent's number and, in the low bits, their own from 1.
const CHILD_BITS: u32 = 8;

struct Arg {
    id: u64,
    n: u8,
    _token: Token,
}

struct Reply {
    value: u64,
    _token: Token,
}

/// What ran, as (function, job id), in order.
#[derive(Default)]
struct Log {
    ran: Mutex<Vec<(usize, u64)>>,
    grown: Condvar,
}

impl Log {
    fn push(&self, function: usize, id: u64) {
        self.ran.lock().unwrap().push((function, id));
        self.grown.notify_all();
    }

    /// Takes what ran once there are `count` entries.
    fn take(&self, count: usize) -> Vec<(usize, u64)> {
        let ran = self.ran.lock().unwrap();
        let (mut ran, _) = self.grown.wait_timeout_while(ran, PATIENCE, |ran| ran.len() < count).unwrap();
        assert!(ran.len() >= count, "only {} of {count} queued jobs ran: {ran:?}", ran.len());
        std::mem::take(&mut *ran)
    }
}

struct Handle {
    handle: JobHandle<Reply>,
    job: usize,
    /// The waker of the last poll that was pending.
    wakes: Option<Arc<CountingWaker>>,
}

struct Set {
    set: ConsumerSet<Arg, Reply>,
    members: Vec<usize>,
    /// The waker it parked with, until it polls or pulls again.
    parked: Option<Arc<CountingWaker>>,
}

/// A body must reach its own function; cleared at the end, so that no cycle stays.
type Own = Arc<Mutex<Option<Function<Arg, Reply>>>>;

struct Driver {
    model: Reference,
    held: Option<Held>,
    live: Live,
    log: Arc<Log>,
    functions: Vec<Function<Arg, Reply>>,
    owns: Vec<Own>,
    handles: Vec<Handle>,
    sets: Vec<Set>,
    /// A member of every consumer function, which takes what is left at the end.
    sweeper: ConsumerSet<Arg, Reply>,
    pulled: Vec<(Pulled<Arg, Reply>, usize)>,
}

/// Runs `operations` on a fresh engine and ends it.
pub(crate) fn run(operations: &[Operation], finish: Finish) {
    let _watchdog = watchdog(format!("the end ({finish:?}) of {operations:?}"));
    let mut driver = Driver::new();
    for operation in operations {
        driver.apply(*operation);
        driver.check();
    }
    driver.finish(finish);
}

/// Picks by number from what there is.
fn pick<T>(items: &[T], at: usize) -> Option<usize> {
    (!items.is_empty()).then(|| at % items.len())
}

fn new_set(engine: &Engine) -> Set {
    Set { set: engine.consumer_set(), members: Vec::new(), parked: None }
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
            sets: (0..SETS).map(|_| new_set(&held.engine)).collect(),
            sweeper: held.engine.consumer_set(),
            pulled: Vec::new(),
            held: Some(held),
        }
    }

    fn engine(&self) -> &Engine {
        &self.held.as_ref().unwrap().engine
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Register { name, remote } => self.register(name, remote),
            Operation::Remove { name } => {
                assert_eq!(self.engine().remove(&name_of(name)), self.model.remove(name));
            }
            Operation::Send { function, n, priority } => self.submit(function, n, priority, false),
            Operation::Submit { function, n, priority } => self.submit(function, n, priority, true),
            Operation::SendBatch { function, jobs } => self.batch(function, jobs, false),
            Operation::SubmitBatch { function, jobs } => self.batch(function, jobs, true),
            Operation::Cancel { handle } => {
                if let Some(at) = pick(&self.handles, handle) {
                    assert_eq!(self.handles[at].handle.cancel(), self.model.cancel(self.handles[at].job));
                }
            }
            Operation::Detach { handle } => {
                if let Some(at) = pick(&self.handles, handle) {
                    drop(self.handles.swap_remove(at));
                }
            }
            Operation::Wait { handle } => self.wait(handle),
            Operation::Poll { handle } => self.poll(handle),
            Operation::Run => self.run(),
            Operation::Join { set, function } => self.join(set, function),
            Operation::Leave { set, function } => self.leave(set, function),
            Operation::Park { set } => self.park(set),
            Operation::Renew { set } => self.sets[set] = new_set(self.engine()),
            Operation::Pull { set } => self.pull(set),
            Operation::PutBack { pulled } => self.put_back(pulled),
            Operation::Complete { pulled } => {
                self.end(pulled, State::Value, |arg, completer, live| {
                    completer.complete(Reply { value: result(arg.n), _token: live.token() });
                });
            }
            Operation::Fail { pulled } => self.end(pulled, State::Failed, |_, completer, _| completer.fail("meant")),
            Operation::Lose { pulled } => self.end(pulled, State::Lost, |_, completer, _| drop(completer)),
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
            self.sweeper.add(&function);
        }
        self.functions.push(function);
        self.owns.push(own);
    }

    fn argument(&self, n: u8) -> Arg {
        Arg { id: (self.model.next_job() as u64) << CHILD_BITS, n, _token: self.live.token() }
    }

    fn submit(&mut self, function: usize, n: u8, priority: Priority, handle: bool) {
        let Some(at) = pick(&self.functions, function) else { return };
        let (job, arg) = (self.model.next_job(), self.argument(n));
        let accepted = self.model.submit(at, n, priority);
        let refused = if handle {
            match self.functions[at].job(arg).priority(priority).submit() {
                Ok(handle) => {
                    self.handles.push(Handle { handle, job, wakes: None });
                    None
                }
                Err(error) => Some(error),
            }
        } else {
            self.functions[at].job(arg).priority(priority).send().err()
        };
        match refused {
            None => assert!(accepted, "a closed function took a job"),
            Some(error) => {
                assert!(!accepted && error.is_closed(), "an open function refused a job");
                assert_eq!(error.into_arg().id, (job as u64) << CHILD_BITS, "another argument came back");
            }
        }
    }

    fn batch(&mut self, function: usize, jobs: u8, handles: bool) {
        let Some(at) = pick(&self.functions, function) else { return };
        let mut args = Vec::new();
        let first = self.model.next_job();
        for n in 0..jobs {
            let mut arg = self.argument(n);
            arg.id = ((first + usize::from(n)) as u64) << CHILD_BITS;
            args.push(arg);
        }
        let accepted = if self.model.functions[at].closed { 0 } else { usize::from(jobs) };
        (0..jobs).for_each(|n| assert_eq!(self.model.submit(at, n, Priority::Normal), accepted > 0));
        if handles {
            let (made, rest) = match self.functions[at].submit_batch(args) {
                Ok(batch) => (batch, Vec::new()),
                Err(error) => error.into_parts(),
            };
            assert_eq!((made.len(), rest.len()), (accepted, usize::from(jobs) - accepted));
            let made = made.into_iter().zip(first..);
            self.handles.extend(made.map(|(handle, job)| Handle { handle, job, wakes: None }));
        } else {
            match self.functions[at].send_batch(args) {
                Ok(sent) => assert_eq!(sent, usize::from(jobs)),
                Err(error) => assert_eq!((error.accepted(), error.into_parts().1.len()), (accepted, usize::from(jobs))),
            }
        }
    }

    fn wait(&mut self, at: usize) {
        let Some(at) = pick(&self.handles, at) else { return };
        let Handle { handle, job, wakes } = self.handles.swap_remove(at);
        if self.model.jobs[job].state.is_ended() {
            self.compare(job, wakes, outcome(handle));
            return;
        }
        match handle.wait_timeout(std::time::Duration::ZERO) {
            Ok(_) => panic!("job {job} has ended, but is {:?}", self.model.jobs[job].state),
            Err(handle) => self.handles.push(Handle { handle, job, wakes: None }),
        }
    }

    fn poll(&mut self, at: usize) {
        let Some(at) = pick(&self.handles, at) else { return };
        let job = self.handles[at].job;
        let (counter, waker) = CountingWaker::pair();
        match Pin::new(&mut self.handles[at].handle).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                assert!(!self.model.jobs[job].state.is_ended(), "job {job} has ended, but its poll is pending");
                if let Some(old) = self.handles[at].wakes.replace(counter) {
                    assert_eq!(old.wakes(), 0, "woken before the job ended");
                }
            }
            Poll::Ready(end) => {
                let handle = self.handles.swap_remove(at);
                self.compare(job, handle.wakes, end);
            }
        }
    }

    /// The end that a handle reported against the model's.
    fn compare(&self, job: usize, wakes: Option<Arc<CountingWaker>>, end: Result<Reply, JobError>) {
        let expected = &self.model.jobs[job];
        let state = match &end {
            Ok(reply) => {
                assert_eq!(reply.value, result(expected.n), "job {job} gave the result of another");
                State::Value
            }
            Err(JobError::Panicked(_)) => State::Panicked,
            Err(JobError::Cancelled) => State::Cancelled,
            Err(JobError::Failed(_)) => State::Failed,
            Err(JobError::Lost) => State::Lost,
            Err(other) => panic!("job {job} ended with {other}"),
        };
        assert_eq!(state, expected.state, "the end of job {job}");
        if let Some(wakes) = wakes {
            assert_eq!(wakes.wakes(), 1, "wakes at the end of job {job}");
        }
    }

    fn run(&mut self) {
        let engine = self.held.take().unwrap().release();
        self.expect_runs();
        engine.remove("hold");
        self.held = Some(Held::of(engine));
    }

    /// Waits for everything queued and compares the order of the starts.
    fn expect_runs(&mut self) {
        let ran = self.model.run();
        let jobs = ran.iter().map(Vec::len).sum::<usize>();
        let children: u64 = ran.iter().flatten().map(|job| self.model.children(*job)).sum();
        let log = self.log.take(jobs + children as usize);
        assert_eq!(log.len(), jobs + children as usize, "more ran than was queued");
        let own = |id: u64| id & ((1 << CHILD_BITS) - 1);
        for (function, expected) in ran.into_iter().enumerate() {
            let of_function = || log.iter().filter(|entry| entry.0 == function).map(|entry| entry.1);
            let parents = of_function().filter(|id| own(*id) == 0).map(|id| (id >> CHILD_BITS) as usize);
            assert_eq!(parents.collect::<Vec<_>>(), expected, "function {function} started its jobs in another order");
            for job in expected {
                let family = of_function().filter(|id| (id >> CHILD_BITS) as usize == job).map(own);
                let newest_first = std::iter::once(0).chain((1..=self.model.children(job)).rev());
                assert!(family.eq(newest_first), "the children of job {job} did not start newest first");
            }
        }
    }

    fn join(&mut self, set: usize, function: usize) {
        let Some(at) = pick(&self.functions, function) else { return };
        if self.model.functions[at].remote {
            self.sets[set].set.add(&self.functions[at]);
            if !self.sets[set].members.contains(&at) {
                self.sets[set].members.push(at);
            }
        }
    }

    fn leave(&mut self, set: usize, function: usize) {
        let Some(at) = pick(&self.functions, function) else { return };
        if self.model.functions[at].remote {
            self.sets[set].set.remove(&self.functions[at]);
            self.sets[set].members.retain(|member| *member != at);
        }
    }

    fn has_work(&self, set: usize) -> bool {
        self.sets[set].members.iter().any(|at| !self.model.functions[*at].queue.is_empty())
    }

    fn park(&mut self, set: usize) {
        let (counter, waker) = CountingWaker::pair();
        let ready = self.sets[set].set.poll_ready(&mut Context::from_waker(&waker)).is_ready();
        self.sets[set].parked = (!ready).then_some(counter);
        // Ready without work is allowed: a cancelled job that still lies in a queue, or an end to learn of.
        assert!(ready || !self.has_work(set), "set {set} parked with work");
    }

    fn pull(&mut self, set: usize) {
        self.sets[set].parked = None;
        let Some(pulled) = self.sets[set].set.try_next() else {
            assert!(!self.has_work(set), "set {set} found none of the jobs that are queued");
            return;
        };
        let job = (pulled.arg().id >> CHILD_BITS) as usize;
        let function = self.model.jobs[job].function;
        assert!(self.sets[set].members.contains(&function), "set {set} took a job of a function outside it");
        assert_eq!(pulled.function(), self.functions[function].name());
        let most_urgent = self.sets[set].members.iter().filter_map(|member| self.model.first(*member)).min();
        assert_eq!(Some(pulled.priority()), most_urgent, "set {set} took a job before a more urgent one");
        self.model.pull(job);
        self.pulled.push((pulled, job));
    }

    fn put_back(&mut self, at: usize) {
        let Some(at) = pick(&self.pulled, at) else { return };
        // What becomes of a job that is put back after its cancellation was asked for is left open.
        if self.model.jobs[self.pulled[at].1].cancel_asked {
            return;
        }
        let (pulled, job) = self.pulled.swap_remove(at);
        pulled.put_back();
        self.model.put_back(job);
    }

    fn end(&mut self, at: usize, state: State, end: impl FnOnce(Arg, Completer<Reply>, &Live)) {
        let Some(at) = pick(&self.pulled, at) else { return };
        let (pulled, job) = self.pulled.swap_remove(at);
        let (arg, completer) = pulled.take();
        assert_eq!(completer.is_cancelled(), self.model.jobs[job].cancel_asked);
        end(arg, completer, &self.live);
        self.model.jobs[job].state = state;
    }

    /// What must hold between any two operations.
    fn check(&self) {
        let registered = self.model.names.iter().flatten().count();
        assert_eq!(self.engine().stats().functions, registered + 1, "the gate's function is one more");
        for (at, (function, expected)) in self.functions.iter().zip(&self.model.functions).enumerate() {
            assert_eq!(function.queued(), expected.queue.len(), "queued jobs of function {at}");
            assert_eq!(function.is_closed(), expected.closed, "function {at}");
        }
        for handle in &self.handles {
            assert_eq!(handle.handle.is_finished(), self.model.jobs[handle.job].state.is_ended(), "job {}", handle.job);
        }
        self.check_wakes();
    }

    /// Work and only sleeping members is a lost wake.
    fn check_wakes(&self) {
        for (at, function) in self.model.functions.iter().enumerate() {
            let members = || self.sets.iter().filter(|set| set.members.contains(&at));
            let asleep = |set: &Set| set.parked.as_ref().is_some_and(|wakes| wakes.wakes() == 0);
            if members().next().is_some() && members().all(asleep) {
                assert!(function.queue.is_empty(), "function {at} has work, and all its sets sleep");
            }
        }
    }

    fn finish(mut self, finish: Finish) {
        while !self.pulled.is_empty() {
            self.end(0, State::Lost, |_, completer, _| drop(completer));
        }
        let held = self.held.take().unwrap();
        match finish {
            Finish::Discard => self.discard(&held),
            Finish::Drain => self.drain(held, |engine| assert!(engine.shutdown(Shutdown::Drain).complete)),
            Finish::DrainFor => {
                self.drain(held, |engine| assert!(engine.shutdown(Shutdown::DrainFor(PATIENCE)).complete));
            }
            Finish::Drop => self.drain(held, drop),
        }
        for Handle { handle, job, wakes } in std::mem::take(&mut self.handles) {
            self.compare(job, wakes, outcome(handle));
        }
        for function in &self.functions {
            assert_eq!((function.queued(), function.is_closed()), (0, true));
        }
        let Driver { live, owns, .. } = self;
        owns.iter().for_each(|own| drop(own.lock().unwrap().take()));
        live.assert_balanced();
    }

    /// With the worker still held, everything queued is cancelled, and nothing runs later.
    fn discard(&mut self, held: &Held) {
        let queued = self.model.discard();
        let drained = std::thread::scope(|scope| {
            let stopping = scope.spawn(|| held.engine.shutdown(Shutdown::Discard));
            while self.functions.iter().any(|function| !function.is_closed() || function.queued() > 0) {
                std::thread::yield_now();
            }
            held.open();
            stopping.join().unwrap()
        });
        assert_eq!(drained.discarded, queued);
        assert!(held.engine.shutdown(Shutdown::Drain).complete);
        assert!(self.log.take(0).is_empty(), "a discarded job ran");
    }

    fn drain(&mut self, held: Held, stop: impl FnOnce(Engine)) {
        while let Some(pulled) = self.sweeper.try_next() {
            let job = (pulled.arg().id >> CHILD_BITS) as usize;
            self.model.pull(job);
            self.pulled.push((pulled, job));
            self.end(0, State::Lost, |_, completer, _| drop(completer));
        }
        self.held = Some(held);
        self.run();
        self.model.close();
        assert_eq!(self.model.discard(), 0, "the sweeper missed a job");
        assert_eq!(self.engine().stats().total().panicked, self.model.panicked);
        stop(self.held.take().unwrap().release());
    }
}

fn name_of(name: usize) -> String {
    debug_assert!(name < NAMES);
    format!("function {name}")
}

fn body(function: usize, arg: Arg, log: &Log, live: &Live, own: &Own) -> Reply {
    if let Kind::Parent(children) = kind(arg.n) {
        let own = own.lock().unwrap().clone().expect("it was stored before the first job");
        for child in 1..=children {
            // A closed function hands it back, which is all right.
            let _ = own.send(Arg { id: arg.id | child, n: 0, _token: live.token() });
        }
    }
    log.push(function, arg.id);
    if kind(arg.n) == Kind::Panics {
        resume_unwind(Box::new("meant"));
    }
    Reply { value: result(arg.n), _token: live.token() }
}
