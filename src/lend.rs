//! Lending workers to rayon: the threads of a rayon pool are the engine's, for as long as a closure runs.
//!
//! Each thread of the pool is a job of high priority that runs rayon's loop until the pool ends. The closure starts when
//! the first of them has: rayon's work goes on with however many threads there are, and those that come after the end
//! find nothing to do. A thread whose job is discarded runs on a thread of its own instead, for rayon may have given it
//! work that no other one may take (`broadcast`). What both sides know of each other is in `sched/loan`.

use crate::engine::Engine;
use crate::error::{RegisterError, SubmitError};
use crate::queue::priority::Priority;
use crate::quiet;
use crate::sched::loan::{Loan, Seat, Thread};
use crate::sched::worker::Worker;
use crate::sync::{AtomicU64, Ordering, global};
use rayon_core::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

global! {
    /// Loans, process-wide: each is a function with a name of its own.
    static LOANS: AtomicU64 = AtomicU64::new(1);
}

/// Why workers were not lent. The closure was not called.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LendError {
    /// `lend(0, ..)` was asked for: nothing would ever run. Ask for 1 or more.
    NoWorkers,
    /// There are not so many workers. Inside a job the thread that runs it does not count, for it waits, unless a spare takes
    /// its place; inside a loan, those that are lent with it do not, either.
    #[non_exhaustive]
    TooMany {
        /// What was asked for.
        asked: usize,
        /// The most there can be, for this caller.
        limit: usize,
    },
    /// The call came from inside a job, no spare is left, and all other threads wait inside jobs, too, or are lent out to this
    /// very one.
    WouldNeverEnd,
    /// The engine is shutting down.
    Closed,
    /// The engine holds as many functions or queued jobs as it can.
    Full,
}

impl fmt::Display for LendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LendError::NoWorkers => f.write_str("0 workers were asked for, which would run nothing; ask for 1 or more"),
            LendError::TooMany { asked, limit } => write!(
                f,
                "{asked} workers were asked for, and {limit} can be lent here: a thread that asks from inside a job \
                 waits, and those that are lent out already are not lent again; ask for fewer, or start the engine \
                 with more workers or spares"
            ),
            LendError::WouldNeverEnd => f.write_str(
                "borrowing workers here would never end: all others wait inside jobs; ask from outside, or start the \
                 engine with more workers or spares",
            ),
            LendError::Closed => f.write_str("the engine is shutting down and lends no workers"),
            LendError::Full => f.write_str("the engine holds as many functions or queued jobs as it can; retry later"),
        }
    }
}

impl Error for LendError {}

impl Engine {
    /// Lends `n` workers to rayon while `f` runs: `f` is called on one of them, and rayon's parallel iterators, `join`,
    /// `scope` and `spawn` run on them instead of on rayon's own threads. Needs the feature `rayon`.
    ///
    /// `f` starts as soon as one worker is free; the others join when they are. A lent worker runs no jobs until the
    /// end: then the caller goes on, and not before `f`, all that it has spawned and rayon's loops have ended. A panic
    /// of `f`, or of something spawned, goes on to the caller then. `shutdown` waits for lent workers as for any job.
    ///
    /// Inside a job the thread that runs it waits, as in any wait a spare takes its place, and `n` others are lent. Inside
    /// `f`, waiting for a job calls a spare, too, and is refused
    /// ([`WouldNeverEnd`](crate::WaitError::WouldNeverEnd)) when none is left, nor a worker that is not lent out with it.
    ///
    /// ```
    /// use layshaft::Engine;
    /// use rayon::prelude::*;
    ///
    /// let engine = Engine::builder().workers(2).start()?;
    /// let sum: u64 = engine.lend(2, || (1..=1000_u64).into_par_iter().map(|x| x * x).sum())?;
    /// assert_eq!(sum, 333_833_500);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    ///
    /// # Errors
    /// [`LendError`]: `n` is 0, or more than there are; the engine is shutting down; inside a job, no worker would be left.
    pub fn lend<T: Send>(&self, n: usize, f: impl FnOnce() -> T + Send) -> Result<T, LendError> {
        if n == 0 {
            return Err(LendError::NoWorkers);
        }
        Worker::with_current(|worker| {
            let here = worker.filter(|worker| Arc::ptr_eq(worker.shared_arc(), &self.shared));
            let _blocked = match worker {
                Some(worker) => Some(worker.block(here.is_none()).ok_or(LendError::WouldNeverEnd)?),
                None => None,
            };
            let limit = if here.is_some() { self.shared.spares.lendable() } else { self.workers() };
            if n > limit {
                return Err(LendError::TooMany { asked: n, limit });
            }
            self.run_loan(n, f)
        })
    }
}

impl Engine {
    fn run_loan<T: Send>(&self, n: usize, f: impl FnOnce() -> T + Send) -> Result<T, LendError> {
        let loan = Loan::new(n);
        // Ordering: Relaxed, only uniqueness matters.
        let name = format!("rayon loan {}", LOANS.fetch_add(1, Ordering::Relaxed));
        let (result, spawned) = match borrow(&loan, self, n, &name) {
            Ok(pool) => {
                let (result, spawned) = loan.run(n, pool, |pool| pool.install(f));
                (result.ok_or(LendError::Closed), spawned)
            }
            Err(error) => (Err(error), loan.wait_for_all()),
        };
        self.remove(&name);
        match (result?, spawned) {
            (Ok(value), None) => Ok(value),
            (Ok(_), Some(panic)) => resume_unwind(panic),
            (Err(panic), other) => {
                other.into_iter().for_each(quiet::swallow);
                resume_unwind(panic)
            }
        }
    }
}

/// Makes the pool, whose threads are jobs. Its loops end when it is dropped, and what was spawned has ended.
fn borrow(loan: &Arc<Loan>, engine: &Engine, n: usize, name: &str) -> Result<ThreadPool, LendError> {
    let seat = engine.function(name, Seat::take).map_err(|error| match error {
        RegisterError::Closed => LendError::Closed,
        _ => LendError::Full,
    })?;
    let mut refused = LendError::Closed;
    let keeper = Arc::clone(loan);
    let pool = ThreadPoolBuilder::new()
        .num_threads(n)
        .panic_handler(move |panic| keeper.keep(panic))
        .spawn_handler(|thread| {
            seat.job(Seat::new(thread, loan)).priority(Priority::High).send().map_err(|error| {
                if let SubmitError::Full(_) = error {
                    refused = LendError::Full;
                }
                error.into_arg().give_up();
                io::ErrorKind::Other.into()
            })
        })
        .build();
    pool.map_err(|_| refused)
}

impl Thread for ThreadBuilder {
    fn run(self) {
        ThreadBuilder::run(self);
    }

    fn apart(&self) -> fn(Box<dyn FnOnce() + Send>) {
        // When the system refuses a thread, the pool goes on with those it has.
        |f| _ = thread::Builder::new().name("layshaft-discarded".to_owned()).spawn(f)
    }
}
