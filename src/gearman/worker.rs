//! A remote worker: takes jobs from Gearman servers and runs them on an engine, so that one process uses all its cores.
//!
//! ```no_run
//! use layshaft::Engine;
//! use layshaft::gearman::{Job, WorkError, Worker};
//!
//! let engine = Engine::new()?;
//! let worker = Worker::builder(&engine)
//!     .server("127.0.0.1:4730")
//!     .function("reverse", |job: &Job, mut payload: Vec<u8>| {
//!         payload.reverse();
//!         job.progress(1, 1);
//!         Ok(payload)
//!     })
//!     .function("divide", |_: &Job, payload: Vec<u8>| match payload.as_slice() {
//!         [a, b] if *b != 0 => Ok(vec![a / b]),
//!         _ => Err(WorkError::exception("two bytes are wanted, and the second must not be 0")),
//!     })
//!     .build()?;
//! let stopper = worker.stopper(); // for another thread
//! worker.run()?; // until somebody calls `stopper.stop()`
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! # How many jobs it takes
//!
//! As many as the engine has workers: it asks for the next job when one has ended. A job that lies here behind others waits,
//! though another process may be idle, and the protocol knows no way to give a job back. But while a job is asked for, a
//! thread has nothing to do; with short jobs that is most of the time. So more are taken while jobs are seen to be quick: so
//! many that the last of them waits for 1 ms, and 32 a thread at most ([`ahead`](WorkerBuilder::ahead)), going by the
//! longest run of the slowest function of late; and only while jobs do end: for each that has ended since the oldest one in
//! hand was taken, two more. When all threads have begun long jobs, nothing more is taken, whatever was measured before. Nor
//! does a worker whose threads are all busy ask to be woken.
//!
//! A server that has woken this worker is asked for one job, and with each job that it has for twice as many, so that a
//! wake-up for one job does not cost as many questions as there are threads.
//!
//! # When something breaks
//!
//! Servers are asked in turns, beginning with a random one. One that is down is tried again ([`Backoff`]); the functions are
//! announced again then. The results of jobs that came over a connection that is gone are dropped, for the server has handed
//! these jobs to somebody else: they run at least once. A server that wakes nobody is asked all the same, 15 to 75 seconds
//! after it was heard last ([`repoll`](WorkerBuilder::repoll)); one that does not answer is left
//! ([`answer_timeout`](WorkerBuilder::answer_timeout)).
//!
//! A body that panics fails its job, and nothing else. Any bytes are a result.

mod ability;
mod ahead;
mod backoff;
mod builder;
mod hands;
mod job;
mod link;
mod mail;
mod server;
mod socket;
mod turn;

pub use backoff::Backoff;
pub use builder::{SetupError, WorkerBuilder};
pub use job::{Job, WorkError};

use super::error::Error;
use super::packet::{Kind, Limits};
use super::secured::Connectors;
use crate::engine::Engine;
use mail::{Mail, Wish};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use turn::Turns;

/// What ends a worker: is there nothing to do, and for how long has no job ended?
type Until<'a> = &'a mut dyn FnMut(bool, Duration) -> bool;

/// Hears of events.
type OnEvent = Box<dyn FnMut(&Event<'_>) + Send>;

/// A remote worker: see the [module](self).
///
/// Dropping it without running it removes its functions from the engine, as the end of [`run`](Self::run) does.
pub struct Worker {
    turns: Turns,
    mail: Arc<Mail>,
}

impl Worker {
    /// A worker that will run its jobs on `engine`.
    pub fn builder(engine: &Engine) -> WorkerBuilder {
        WorkerBuilder::new(engine)
    }

    /// What ends it, for other threads.
    pub fn stopper(&self) -> Stopper {
        Stopper { mail: Arc::clone(&self.mail) }
    }

    /// Takes jobs until it is [stopped](Stopper::stop), or the engine ends.
    ///
    /// # Errors
    /// When no server that takes this worker was ever reached within the time for it ([`give_up`](WorkerBuilder::give_up)): why the first one was not.
    /// And when the system fails to wait for the sockets.
    pub fn run(self) -> Result<Served, Error> {
        self.turns.run(None)
    }

    /// The same, and until `until` is true. It is called a few times a second, and told whether there is nothing to do (no job
    /// is in hand, a server was there, and none that is there has one), and how long ago a job ended last, or the worker
    /// began. Then the worker stops as by [`Stopper::stop`].
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_until(self, mut until: impl FnMut(bool, Duration) -> bool) -> Result<Served, Error> {
        self.turns.run(Some(&mut until))
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<&str> = self.turns.servers.iter().map(|server| server.name.as_str()).collect();
        f.debug_struct("Worker").field("servers", &servers).finish_non_exhaustive()
    }
}

/// Ends a [`Worker`] from another thread.
#[derive(Clone)]
pub struct Stopper {
    mail: Arc<Mail>,
}

impl Stopper {
    /// Takes no more jobs; those in hand end and are answered, then the connections close and [`Worker::run`] returns. A
    /// second call is [`stop_now`](Self::stop_now).
    pub fn stop(&self) {
        self.mail.wish_more();
    }

    /// Closes the connections: the servers give the jobs in hand to other workers. Jobs that have not started never will;
    /// those that run, run on in the engine, and see it in [`Job::is_orphan`].
    pub fn stop_now(&self) {
        self.mail.wish(Wish::Leave);
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopper")
    }
}

/// What a worker has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Jobs that gave a result.
    pub done: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that never ran: their connection, or the engine, ended first.
    pub not_run: u64,
    /// Jobs of these three whose connection was gone at their end: another worker got them.
    pub orphaned: u64,
}

/// What happens to a worker, see [`on_event`](WorkerBuilder::on_event).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was made, and the server has said something that is no refusal.
    #[non_exhaustive]
    Connected {
        /// Where the server is.
        server: &'a str,
    },
    /// A connection, or an attempt at one, failed.
    #[non_exhaustive]
    Lost {
        /// Where the server is.
        server: &'a str,
        /// Why.
        error: &'a Error,
        /// Failures in a row, this one included.
        attempts: u32,
        /// When it is tried again; `None` if it is not.
        retry: Option<Duration>,
    },
    /// The server refused something, and the connection goes on. gearmand and the Perl server refuse what comes for a job that is
    /// not this worker's any more; this library's server drops what comes late.
    #[non_exhaustive]
    Refused {
        /// Where the server is.
        server: &'a str,
        /// What it says.
        error: &'a Error,
    },
}

/// How a worker behaves.
struct Settings {
    client_id: Option<Vec<u8>>,
    /// Names as servers see them, with how long a job may run.
    functions: Vec<(Vec<u8>, Option<Duration>)>,
    grab: Kind,
    exceptions: bool,
    seconds: bool,
    limits: Limits,
    repoll: Range<Duration>,
    backoff: Backoff,
    connect_timeout: Duration,
    answer_timeout: Duration,
    give_up: Option<Duration>,
    tls: Connectors,
    on_event: Option<OnEvent>,
}

impl Settings {
    fn tell(&mut self, event: &Event<'_>) {
        if let Some(on_event) = &mut self.on_event {
            on_event(event);
        }
    }
}
