//! Jobs that borrow: closures that end before the call that submitted them returns.
//!
//! Each is a job of one internal function, whose argument says where the closure is and how to run it ([`Raw`]). The caller
//! keeps the handle, so all that is said of jobs holds for them: who starts one, that one wait is enough, that a panic is
//! its own. Two things differ, both for the sake of memory safety: a wait that is refused is made good ([`settle`]), and a
//! job that was discarded or not accepted is run by whoever waits for it, or submits it.

use crate::error::{JobError, WaitError};
use crate::function::Function;
use crate::handle::JobHandle;
use crate::quiet::swallow;
use crate::sched::core::CoreRef;
use crate::sched::registry::Shared;
use crate::sched::run::{self, Inline};
use crate::sched::worker::Worker;
use crate::sync::{Mutex, UnsafeCell};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::Arc;

/// A closure somewhere in memory, to be run once, by one of those who have a copy of this.
#[derive(Clone, Copy)]
pub(crate) struct Raw {
    run: unsafe fn(*mut ()),
    closure: *mut (),
}

// SAFETY: made of closures that are `Send`, by `Scope::spawn` and `join`.
unsafe impl Send for Raw {}

impl Raw {
    /// # Safety
    /// The closure is alive, and nobody else has run it or will.
    unsafe fn run(self) {
        // SAFETY: passed on from the caller.
        unsafe { (self.run)(self.closure) };
    }
}

type Payload = Box<dyn Any + Send>;

/// The function of scoped jobs: `None` when the engine had ended before it was needed.
fn function(shared: &Arc<Shared>) -> Option<CoreRef> {
    // SAFETY: the engine runs a job once, while `Scope` or `join` keep its closure.
    let recipe = || run::with_body(|raw: Raw| unsafe { raw.run() });
    shared.internal::<Inline<Raw>>(recipe)
}

/// Ends a job that was submitted: waits for it, or runs it here if nobody else will.
///
/// # Safety
/// `handle` is that of a job with the argument `raw`, whose closure is alive.
unsafe fn settle(handle: JobHandle<()>, raw: Raw) -> Result<(), Payload> {
    let outcome = match handle.wait() {
        Ok(()) => Ok(()),
        Err(WaitError::Job(error)) => Err(error),
        // Nobody is left to start it, unless it has been started: then it ends without this thread.
        Err(WaitError::WouldNeverEnd(handle)) if handle.cancel() => Err(JobError::Cancelled),
        Err(WaitError::WouldNeverEnd(handle)) => handle.wait_anyway(),
    };
    match outcome {
        Ok(()) => Ok(()),
        Err(JobError::Panicked(panic)) => Err(panic.into_payload()),
        // SAFETY: the job ended without being run, and the handle was the only one.
        Err(JobError::Cancelled) => catch_unwind(AssertUnwindSafe(|| unsafe { raw.run() })),
        Err(error) => unreachable!("a job with a body ends in no other way: {error}"),
    }
}

/// Aborts the process when it is dropped: jobs that borrow would be left behind.
struct NoWayBack;

impl Drop for NoWayBack {
    fn drop(&mut self) {
        std::process::abort();
    }
}

// Scopes.

/// Submitted jobs that are not known to have ended are looked through when there are this many, and each time that those
/// that are left have doubled.
const PRUNE: usize = 64;

/// Where jobs that borrow are spawned: see [`Engine::scope`](crate::Engine::scope).
pub struct Scope<'scope, 'env: 'scope> {
    /// `None` when the engine has ended.
    function: Option<Function<Raw, ()>>,
    state: Mutex<State>,
    /// Invariant in both, as that of `std::thread::scope` is: jobs borrow for exactly these.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

#[derive(Default)]
struct State {
    /// Jobs that were submitted and are not known to have ended well.
    jobs: Vec<(JobHandle<()>, Raw)>,
    /// How many there are when they are looked through.
    prune: usize,
    /// The first panic that was met.
    panic: Option<Payload>,
}

/// See [`Engine::scope`](crate::Engine::scope).
pub(crate) fn scope<'env, T>(shared: &Arc<Shared>, f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
    let state = Mutex::new(State { prune: PRUNE, ..State::default() });
    let function = function(shared).map(Function::new);
    let scope = Scope { function, state, scope: PhantomData, env: PhantomData };
    let returned = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    scope.finish();
    let panic = scope.state.lock().panic.take();
    match (returned, panic) {
        (Err(panic), _) | (Ok(_), Some(panic)) => resume_unwind(panic),
        (Ok(value), None) => value,
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Submits a job that may borrow whatever outlives the scope. It may spawn others.
    ///
    /// Inside a job of the engine it goes to the worker's own deque, as nested jobs do; from elsewhere to a queue that
    /// the scopes of the engine share. When the engine takes no jobs any more, `f` is run here and now. Costs an
    /// allocation.
    pub fn spawn<F>(&'scope self, f: F)
    where
        F: FnOnce() + Send + 'scope,
    {
        unsafe fn run_boxed<F: FnOnce()>(closure: *mut ()) {
            // SAFETY: made by `Box::into_raw` in `spawn`, and run once.
            let f = unsafe { Box::from_raw(closure.cast::<F>()) };
            f();
        }
        let raw = Raw { run: run_boxed::<F>, closure: Box::into_raw(Box::new(f)).cast() };
        match self.function.as_ref().and_then(|function| function.submit(raw).ok()) {
            Some(handle) => self.state.lock().keep(handle, raw),
            // SAFETY: not accepted, so that nobody else has it.
            None => self.note(catch_unwind(AssertUnwindSafe(|| unsafe { raw.run() }))),
        }
    }

    fn note(&self, ended: Result<(), Payload>) {
        if let Err(payload) = ended {
            let second = self.state.lock().note(payload);
            second.into_iter().for_each(swallow);
        }
    }

    fn next(&self) -> Option<(JobHandle<()>, Raw)> {
        self.state.lock().jobs.pop()
    }

    /// Ends all jobs. One that is running may spawn more: it does before its own end, and is waited for before the list is
    /// looked at for the last time.
    fn finish(&self) {
        let no_way_back = NoWayBack;
        let mut elsewhere = Vec::new();
        loop {
            // Those in the own deque first, newest first: none of them needs another thread.
            while let Some((handle, raw)) = self.next() {
                handle.help();
                elsewhere.push((handle, raw));
            }
            let Some((handle, raw)) = elsewhere.pop() else { break };
            // SAFETY: submitted by `spawn`; the closure is on the heap until it is run.
            self.note(unsafe { settle(handle, raw) });
        }
        std::mem::forget(no_way_back);
    }
}

impl State {
    fn keep(&mut self, handle: JobHandle<()>, raw: Raw) {
        if self.jobs.len() >= self.prune {
            self.jobs.retain(|(handle, _)| !handle.has_value());
            self.prune = PRUNE.max(2 * self.jobs.len());
        }
        self.jobs.push((handle, raw));
    }

    /// Keeps the first panic: returns any other.
    fn note(&mut self, payload: Payload) -> Option<Payload> {
        if self.panic.is_some() {
            return Some(payload);
        }
        self.panic = Some(payload);
        None
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

// Two at a time.

/// A closure on the stack of whoever joins it, and then what it returned.
struct OnStack<B, Y> {
    closure: Option<B>,
    result: Option<Y>,
}

unsafe fn run_on_stack<B: FnOnce() -> Y, Y>(place: *mut ()) {
    // SAFETY: made by `join`, which waits for this call.
    let place = unsafe { &*place.cast::<UnsafeCell<OnStack<B, Y>>>() };
    // SAFETY: run once, and `join` does not look before the end.
    let closure = place.with_mut(|p| unsafe { (*p).closure.take() }).expect("run once");
    let result = Some(closure());
    // SAFETY: as above.
    place.with_mut(|p| unsafe { (*p).result = result });
}

/// See [`Engine::join`](crate::Engine::join).
pub(crate) fn join<X, Y, B>(shared: &Arc<Shared>, a: impl FnOnce() -> X, b: B) -> (X, Y)
where
    B: FnOnce() -> Y + Send,
    Y: Send,
{
    let place = UnsafeCell::new(OnStack { closure: Some(b), result: None });
    let raw = Raw { run: run_on_stack::<B, Y>, closure: (&raw const place).cast_mut().cast() };
    let handle = with_function(shared, |function| function?.submit(raw).ok());
    let no_way_back = NoWayBack;
    let a = catch_unwind(AssertUnwindSafe(a));
    let b = match handle {
        // SAFETY: submitted above; the closure lies here until this call has returned.
        Some(handle) => unsafe { settle(handle, raw) },
        // SAFETY: not accepted, so that nobody else has it.
        None => catch_unwind(AssertUnwindSafe(|| unsafe { raw.run() })),
    };
    std::mem::forget(no_way_back);
    match (a, b) {
        (Ok(x), Ok(())) => {
            // SAFETY: the job has ended, and with it all access from elsewhere.
            let y = place.with_mut(|p| unsafe { (*p).result.take() });
            (x, y.expect("a job that ended without a panic left its result"))
        }
        (Err(panic), second) => {
            second.err().into_iter().for_each(swallow);
            resume_unwind(panic)
        }
        (Ok(_), Err(panic)) => resume_unwind(panic),
    }
}

/// Calls `f` with the function of scoped jobs; without counting references, if this thread is a worker of the engine.
fn with_function<T>(shared: &Arc<Shared>, f: impl FnOnce(Option<&Function<Raw, ()>>) -> T) -> T {
    let is_inside = Worker::with_current(|w| w.is_some_and(|w| ptr::eq(w.shared(), Arc::as_ptr(shared))));
    if is_inside && let Some(core) = shared.internal_core() {
        // SAFETY: kept until the last worker has left, which this one has not.
        let core = unsafe { CoreRef::borrow(core) };
        let function = ManuallyDrop::new(Function::new(ManuallyDrop::into_inner(core)));
        return f(Some(&function));
    }
    f(function(shared).map(Function::new).as_ref())
}
