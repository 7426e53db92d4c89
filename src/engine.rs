//! The engine: queues and worker threads, and the functions they serve.

use crate::builder::Builder;
use crate::consumer::{self, ConsumerSet};
use crate::error::{LookupError, RegisterError, StartError};
use crate::explain::{self, Explanation};
use crate::function::Function;
use crate::sched::core::Types;
use crate::sched::registry::Shared;
use crate::sched::run::{self, Inline};
use crate::sched::seat::WorkerShared;
use crate::sched::shutdown::{Drained, Shutdown};
use crate::scope::{self, Scope};
use crate::stats::{FunctionStats, Stats};
use std::fmt;
use std::sync::Arc;

/// A running engine. Clones are handles to the same one.
///
/// Dropping the last handle ends the engine: what was accepted is run first, for at most the builder's
/// [`drain_deadline`](Builder::drain_deadline). On a worker of the engine itself, inside a job, the drop begins the end
/// and does not wait, and no deadline applies. A body that holds an `Engine` handle keeps its engine alive: let bodies
/// use [`current`](crate::current) instead.
///
/// ```
/// let engine = layshaft::Engine::builder().workers(2).start()?;
/// let double = engine.function("double", |x: u32| x * 2)?;
/// assert_eq!(double.submit(21)?.wait()?, 42);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

impl Engine {
    /// An engine with the default settings: one worker a core.
    ///
    /// # Errors
    /// [`StartError::Spawn`] when a worker thread cannot be started.
    pub fn new() -> Result<Engine, StartError> {
        Engine::builder().start()
    }

    /// Settings, then [`start`](Builder::start).
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Takes over one count of the users.
    pub(crate) fn from_shared(shared: Arc<Shared>) -> Engine {
        Engine { shared }
    }

    /// Registers a function: `body` runs each of its jobs on a worker thread.
    ///
    /// The name is looked up here, once; submits go through the returned key. A name has 1 to 512 bytes and no NUL.
    ///
    /// # Errors
    /// [`RegisterError::InvalidName`], [`RegisterError::NameTaken`], [`RegisterError::TooMany`] above 262,144 functions,
    /// [`RegisterError::Closed`] after the engine began to end.
    pub fn function<A, R>(
        &self,
        name: &str,
        body: impl Fn(A) -> R + Send + Sync + 'static,
    ) -> Result<Function<A, R>, RegisterError>
    where
        A: Send + 'static,
        R: Send + 'static,
    {
        let recipe = || run::with_body(body);
        let core = if run::is_inline::<A>() {
            self.shared.register::<Inline<A>>(name, recipe)?
        } else {
            self.shared.register::<Box<A>>(name, recipe)?
        };
        Ok(Function::new(core))
    }

    /// Registers a function without a body: its jobs are pulled by consumer sets.
    ///
    /// # Errors
    /// As for [`function`](Self::function).
    pub fn consumer<A, R>(&self, name: &str) -> Result<Function<A, R>, RegisterError>
    where
        A: Send + 'static,
        R: Send + 'static,
    {
        let recipe = consumer::without_body::<A, R>;
        let core = if run::is_inline::<A>() {
            self.shared.register::<Inline<A>>(name, recipe)?
        } else {
            self.shared.register::<Box<A>>(name, recipe)?
        };
        Ok(Function::new(core))
    }

    /// An empty consumer set; add functions made by [`consumer`](Self::consumer).
    pub fn consumer_set<A, R>(&self) -> ConsumerSet<A, R>
    where
        A: Send + 'static,
        R: Send + 'static,
    {
        ConsumerSet::new()
    }

    /// The key of a function that was registered elsewhere. The lookup takes a lock: keep the key.
    ///
    /// ```
    /// let engine = layshaft::Engine::builder().workers(1).start()?;
    /// engine.function("double", |n: u32| n * 2)?;
    /// let quadruple = engine.function("quadruple", |n: u32| {
    ///     let double = layshaft::current().unwrap().engine().lookup::<u32, u32>("double").unwrap();
    ///     double.call(double.call(n).unwrap()).unwrap()
    /// })?;
    /// assert_eq!(quadruple.call(3)?, 12);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    ///
    /// # Errors
    /// [`LookupError::NotFound`], and [`LookupError::WrongTypes`] when the function has another argument or result.
    pub fn lookup<A, R>(&self, name: &str) -> Result<Function<A, R>, LookupError>
    where
        A: Send + 'static,
        R: Send + 'static,
    {
        let core = self.shared.find(name).ok_or_else(|| LookupError::NotFound(name.to_owned()))?;
        let (registered, asked) = ((core.vtable.types)(), Types::of::<A, R>());
        if registered != asked {
            let [registered, asked] = [registered, asked].map(|types| types.to_string());
            return Err(LookupError::WrongTypes { name: name.to_owned(), registered, asked });
        }
        Ok(Function::new(core))
    }

    /// Removes a function: `false` when there is none of that name. The name is free at once, later submits are
    /// refused, jobs that were accepted still run, and the memory goes when no worker can be using it any more.
    pub fn remove(&self, name: &str) -> bool {
        self.shared.remove(name)
    }

    /// Why the next job of the function with this name is not running, for whoever has no key to it; `None` when none has
    /// this name, as after the engine has ended. See [`Function::explain`].
    pub fn explain(&self, function: &str) -> Option<Explanation> {
        self.shared.find(function).map(|core| explain::of(&core))
    }

    /// Calls `f` with a scope, whose jobs may borrow what outlives it: returns when `f` has returned and all jobs have
    /// ended.
    ///
    /// May be called anywhere. Inside a job of this engine the caller runs jobs of the scope that are in its worker's own
    /// deque, then waits as [`JobHandle::wait`](crate::JobHandle::wait) does; but it is never refused: with no spare left
    /// it runs what nobody has started, and then blocks ([`Builder::spare_workers`]). Scoped jobs are never discarded:
    /// what a shutdown takes out of the queues is run by the caller. So scopes in jobs of scopes use the stack as any recursion
    /// does once there are no spares left.
    ///
    /// ```
    /// let engine = layshaft::Engine::builder().workers(2).start()?;
    /// let mut words = vec!["shaft", "lay"];
    /// let mut numbers = vec![3, 1, 2];
    /// engine.scope(|s| {
    ///     s.spawn(|| words.sort());
    ///     s.spawn(|| numbers.sort());
    /// });
    /// assert_eq!((words, numbers), (vec!["lay", "shaft"], vec![1, 2, 3]));
    /// # Ok::<(), layshaft::StartError>(())
    /// ```
    ///
    /// Jobs cannot borrow what `f` itself owns, for they may outlive it:
    ///
    /// ```compile_fail,E0373
    /// let engine = layshaft::Engine::new().unwrap();
    /// engine.scope(|s| {
    ///     let inside = 1;
    ///     s.spawn(|| println!("{inside}"));
    /// });
    /// ```
    ///
    /// # Panics
    /// When `f` or a job panicked, after all have ended: with what `f` panicked with, or the first job that was seen to.
    pub fn scope<'env, T>(&'env self, f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
        scope::scope(&self.shared, f)
    }

    /// Runs two closures, maybe at the same time, and returns what both return.
    ///
    /// `b` is submitted as a job, `a` is run here, and then `b`, if no other thread has started it. Otherwise waits for it
    /// as [`scope`](Self::scope) does. Allocates nothing.
    ///
    /// ```
    /// fn sum(engine: &layshaft::Engine, numbers: &[u64]) -> u64 {
    ///     if numbers.len() <= 1_000 {
    ///         return numbers.iter().sum();
    ///     }
    ///     let (left, right) = numbers.split_at(numbers.len() / 2);
    ///     let (left, right) = engine.join(|| sum(engine, left), || sum(engine, right));
    ///     left + right
    /// }
    ///
    /// let engine = layshaft::Engine::builder().workers(2).start()?;
    /// let numbers: Vec<u64> = (0..10_000).collect();
    /// assert_eq!(sum(&engine, &numbers), 49_995_000);
    /// # Ok::<(), layshaft::StartError>(())
    /// ```
    ///
    /// # Panics
    /// When one of them panicked, after both have ended: with what `a` panicked with if it did.
    pub fn join<X: Send, Y: Send>(&self, a: impl FnOnce() -> X + Send, b: impl FnOnce() -> Y + Send) -> (X, Y) {
        scope::join(&self.shared, a, b)
    }

    /// How many worker threads there are, without spares ([`Builder::spare_workers`]).
    pub fn workers(&self) -> usize {
        self.shared.spares.workers()
    }

    /// What the engine has done so far.
    pub fn stats(&self) -> Stats {
        Stats {
            workers: self.shared.seats().iter().map(WorkerShared::stats).collect(),
            functions: self.shared.functions(),
        }
    }

    /// What became of the jobs of each function that is registered, in the order of their names: see
    /// [`Function::stats`](crate::Function::stats).
    pub fn function_stats(&self) -> Vec<FunctionStats> {
        let mut all: Vec<_> = self.shared.listed().iter().map(|core| core.stats()).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Ends the engine and says what was left. Later calls, also from other threads, wait for the same end.
    ///
    /// From the first call on, submits from outside are refused; jobs may still submit until everything has been run.
    /// Functions without a body are closed: what is queued in them can still be pulled, except after a discard.
    /// Inside a job of this engine the call begins the end and does not wait for it.
    pub fn shutdown(&self, mode: Shutdown) -> Drained {
        self.shared.shutdown(mode)
    }
}

impl Clone for Engine {
    fn clone(&self) -> Self {
        self.shared.add_user();
        Engine { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.shared.drop_user() {
            self.shared.shutdown(Shutdown::DrainFor(self.shared.drain_deadline));
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions = self.shared.functions();
        f.debug_struct("Engine").field("workers", &self.workers()).field("functions", &functions).finish()
    }
}
