//! Lock-free, work-stealing job dispatch.
//!
//! Functions are registered by name; each has its own lock-free queue; worker threads run the jobs and steal from each
//! other. Arguments and results are ordinary typed values: no boxing, no serialisation, no allocation a job.
//!
//! ```
//! use layshaft::Engine;
//!
//! let engine = Engine::builder().workers(2).start()?;
//! let length = engine.function("length", |text: String| text.len())?;
//!
//! let handle = length.submit("layshaft".to_owned())?;   // a handle: wait for it, poll it, cancel it
//! assert_eq!(handle.wait()?, 8);
//!
//! length.send("forgotten".to_owned())?;                 // no handle: the fastest way in
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! # What there is
//!
//! | type | what it is |
//! |---|---|
//! | [`Engine`], [`Builder`] | the running whole; register functions, read [`Stats`], end it with [`Shutdown`] |
//! | [`Function`] | the typed key to one function's queue: `send`, `submit`, `call`, batches |
//! | [`JobHandle`], [`Batch`], [`AsCompleted`] | the caller's end of jobs: wait, poll as a future, cancel |
//! | [`Scope`] | jobs that borrow: [`Engine::scope`], [`Engine::join`] |
//! | [`current`], [`Running`] | the job, seen from inside its body |
//! | [`Explanation`], [`Reason`] | why a job is not running: [`Function::explain`], [`Function::explain_job`] |
//! | [`ConsumerSet`], [`Pulled`], [`Completer`] | the pull side of functions without a body, for jobs that run elsewhere |
//!
//! # Progress
//!
//! `ARCHITECTURE.md` in the repository says, per operation, what is wait-free, what is lock-free, and what may block.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `serde` | `codec`: functions called with bytes, JSON for one |
//! | `rayon` | `Engine::lend`: rayon's parallel iterators on the engine's workers |
//! | `gearman` | `gearman`: the Gearman protocol, a server, a client and a worker |
//! | `loom` | nothing, unless `--cfg layshaft_loom` is set as well: model checking |
//! | `shuttle` | nothing, unless `--cfg layshaft_shuttle` is set as well: random schedules |

// Shuttle's locks, and so the errors that hold one, are large.
#![cfg_attr(layshaft_shuttle, allow(clippy::result_large_err, clippy::large_enum_variant))]

mod as_completed;
mod batch;
mod builder;
mod clock;
#[cfg(feature = "serde")]
pub mod codec;
mod consumer;
mod engine;
mod error;
mod explain;
mod function;
#[cfg(feature = "gearman")]
pub mod gearman;
mod handle;
mod job;
#[cfg(feature = "rayon")]
mod lend;
#[cfg(any(layshaft_loom, layshaft_shuttle))]
#[doc(hidden)]
pub mod model;
mod queue;
mod quiet;
mod running;
mod sched;
mod scope;
mod stats;
mod submit;
mod sync;

pub use as_completed::AsCompleted;
pub use batch::Batch;
pub use builder::Builder;
pub use consumer::{Completer, ConsumerSet, Pulled};
pub use engine::Engine;
pub use error::{
    BatchError, CallError, JobError, LookupError, Panic, RegisterError, StartError, SubmitError, WaitError,
};
pub use explain::{BusyThread, Explanation, Outcome, Reason};
pub use function::Function;
pub use handle::JobHandle;
pub use job::id::JobId;
#[cfg(feature = "rayon")]
pub use lend::LendError;
pub use queue::limits::{Limits, Overflow};
pub use queue::priority::Priority;
pub use queue::retry::{DeadJob, Retry};
pub use queue::update::Update;
pub use running::{Running, current};
pub use sched::shutdown::{Drained, Left, Shutdown};
pub use scope::Scope;
pub use stats::{FunctionStats, Histogram, Queued, Stats, WorkerStats};
pub use submit::Submit;

/// The README's example is compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
