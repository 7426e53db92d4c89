//! What a server is doing, as plain data, and how a program changes it: what the text commands do, by call.

use super::Server;
use super::functions::{Entry, Target};
use super::job::State;
use super::keys::{ConnKey, FunctionKey, JobKey};
use super::table::{End, Table};
use super::times::Times;
use crate::gearman::text::MaxQueue;
use crate::{Priority, Queued};
use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

/// How long it is believed what the process has in memory.
const RESIDENT: Duration = Duration::from_secs(1);

/// A server at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Its functions, by name.
    pub functions: Vec<FunctionStatus>,
    /// Open connections.
    pub connections: usize,
    /// Queued jobs of all functions, with those that wait for their time.
    pub queued: usize,
    /// Running jobs of all functions.
    pub running: usize,
    /// What all of them take of the budget for jobs.
    pub job_bytes: usize,
    /// What happened since the start.
    pub counters: ServerCounters,
}

/// What happened since a server's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerCounters {
    /// Connections that came and stayed.
    pub connections: u64,
    /// Connections that were one too many.
    pub turned_away: u64,
    /// Connections from addresses that are not among those that may connect.
    pub not_allowed: u64,
    /// Handshakes of TLS that failed, ended early, or took too long; and connections that broke the rules of TLS later.
    pub tls_failed: u64,
    /// Connections that came without TLS where it is needed.
    pub tls_missing: u64,
    /// Connections that were closed since their peers were too slow to send a message, or anything at all.
    pub slow_senders: u64,
    /// Connections that were closed since their peers did not read what there was for them, or had too much of it.
    pub slow_readers: u64,
    /// Submits, of any outcome.
    pub submits: u64,
    /// Submits that joined another job.
    pub coalesced: u64,
    /// Submits that were refused.
    pub refused: u64,
    /// Wake-ups that were sent.
    pub wakes: u64,
    /// Jobs that were given to workers, each time.
    pub handed_out: u64,
    /// Jobs that were queued again.
    pub requeued: u64,
    /// ERROR packets.
    pub errors: u64,
    /// Waits for sockets: one a turn, however often it took a look ([`busy_poll`](super::Builder::busy_poll)).
    pub waits: u64,
    /// Reads of sockets.
    pub reads: u64,
    /// Writes to sockets.
    pub writes: u64,
}

/// A function of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionStatus {
    /// Its name: any bytes but NUL.
    pub name: Vec<u8>,
    /// Jobs in its queue.
    pub queued: Queued,
    /// Jobs that wait for their time.
    pub held: usize,
    /// Running jobs.
    pub running: usize,
    /// Workers that can do it; this process counts as one where it serves it.
    pub workers: usize,
    /// Queued jobs at most.
    pub max_queue: MaxQueue,
    /// Jobs that have a result.
    pub done: u64,
    /// Jobs that ended otherwise.
    pub failed: u64,
    /// How often a job of it was queued again.
    pub requeued: u64,
    /// How often a job of it was too long in a worker's hands.
    pub timed_out: u64,
    /// Jobs that had to make room for others; they are among those that ended otherwise.
    pub evicted: u64,
    /// How long its jobs waited for a worker; those of this process are not among them.
    pub waits: Times,
    /// How long they were in a worker's hands; in this process, with what they waited.
    pub runs: Times,
}

/// A connection of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStatus {
    /// Its file descriptor.
    pub number: i32,
    /// Where it comes from: address and port, or `unix`, `[local]`, `[gearman_child]`.
    pub peer: String,
    /// What it calls itself; `-` if nothing.
    pub id: Vec<u8>,
    /// What it can do, by name.
    pub functions: Vec<Vec<u8>>,
    /// It waits for a wake-up.
    pub is_sleeping: bool,
    /// Handles of the jobs in its hands.
    pub in_hand: Vec<Vec<u8>>,
    /// Handles of the jobs that it listens to.
    pub listening: Vec<Vec<u8>>,
}

/// A queued or running job of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobStatus {
    /// What it is called on the wire.
    pub handle: Vec<u8>,
    /// Its function.
    pub function: Vec<u8>,
    /// Its unique key; `-` where the payload is the key, empty if it has none.
    pub unique: Vec<u8>,
    /// Its priority.
    pub priority: Priority,
    /// Where it is.
    pub state: JobState,
    /// Bytes of its payload.
    pub payload: usize,
    /// How many submits wait for its end.
    pub listeners: usize,
    /// It runs though nobody listens.
    pub is_background: bool,
    /// How often it was given to a worker.
    pub hand_outs: u32,
}

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobState {
    /// In its function's queue.
    Queued,
    /// It waits for its time.
    Held,
    /// In the hands of a worker, which comes from there.
    Running(String),
    /// In this process, queued or running.
    Here,
}

/// Why a function cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is none of this name.
    Unknown(Vec<u8>),
    /// There are workers that can do it, or it has running jobs.
    InUse,
    /// None of this name can be made, for this reason.
    Refused(String),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::Unknown(name) => write!(f, "there is no function \"{}\"", name.escape_ascii()),
            ChangeError::InUse => f.write_str("there are still connected workers or executing clients"),
            ChangeError::Refused(why) => f.write_str(why),
        }
    }
}

impl Error for ChangeError {}

impl Server {
    /// What the server is doing: exact, at one moment.
    pub fn status(&self) -> ServerStatus {
        self.look(|table| table.server_status())
    }

    /// All connections, by their numbers.
    pub fn clients(&self) -> Vec<ClientStatus> {
        self.look(|table| table.conns_by_number().into_iter().map(|conn| table.client_status(conn)).collect())
    }

    /// All queued and running jobs.
    pub fn jobs(&self) -> Vec<JobStatus> {
        self.look(|table| table.live_jobs().into_iter().map(|job| table.job_status(job)).collect())
    }

    /// The queued or running job with this handle.
    pub fn job(&self, handle: impl AsRef<[u8]>) -> Option<JobStatus> {
        self.look(|table| table.find(handle.as_ref()).map(|job| table.job_status(job)))
    }

    /// Ends a queued or running job: its clients hear that it failed. Whether there was one with this handle.
    pub fn cancel_job(&self, handle: impl AsRef<[u8]>) -> bool {
        self.look(|table| table.cancel_job(handle.as_ref()))
    }

    /// Forgets a function that nobody can do, with its jobs, which fail.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`], [`ChangeError::InUse`].
    pub fn remove_function(&self, name: impl AsRef<[u8]>) -> Result<(), ChangeError> {
        self.look(|table| table.remove_function(name.as_ref()))
    }

    /// Limits the queue of a function, which is made if there is none.
    ///
    /// # Errors
    /// [`ChangeError::Refused`].
    pub fn set_max_queue(&self, name: impl AsRef<[u8]>, most: MaxQueue) -> Result<(), ChangeError> {
        self.look(|table| table.on_function(name.as_ref(), |table, function| table.set_max_queue(function, most)))
    }

    /// Keeps the jobs of a function from starting. It is made if there is none.
    ///
    /// # Errors
    /// [`ChangeError::Refused`].
    pub fn pause(&self, name: impl AsRef<[u8]>) -> Result<(), ChangeError> {
        self.look(|table| table.on_function(name.as_ref(), |table, function| table.set_paused(function, true)))
    }

    /// Lets the jobs of a function start again.
    ///
    /// # Errors
    /// [`ChangeError::Refused`].
    pub fn resume(&self, name: impl AsRef<[u8]>) -> Result<(), ChangeError> {
        self.look(|table| table.on_function(name.as_ref(), |table, function| table.set_paused(function, false)))
    }

    fn look<T>(&self, act: impl FnOnce(&mut Table) -> T) -> T {
        // No shard: all that have something to send by this are woken.
        self.hub.with(usize::MAX, act)
    }
}

impl Table {
    fn server_status(&self) -> ServerStatus {
        let functions: Vec<FunctionStatus> =
            self.functions_by_name().into_iter().map(|function| self.functions[function].status()).collect();
        ServerStatus {
            connections: self.conns.len(),
            queued: functions.iter().map(|function| function.queued.total() + function.held).sum(),
            running: functions.iter().map(|function| function.running).sum(),
            functions,
            job_bytes: self.bytes,
            counters: self.counters,
        }
    }

    fn client_status(&self, key: ConnKey) -> ClientStatus {
        let conn = &self.conns[key];
        let handle = |job: JobKey| self.handle(job).as_bytes().to_vec();
        let worker = conn.worker.as_deref();
        ClientStatus {
            number: conn.number,
            peer: conn.peer.clone(),
            id: conn.id.clone(),
            functions: self.ability_names(key).into_iter().map(<[u8]>::to_vec).collect(),
            is_sleeping: worker.is_some_and(|worker| worker.is_sleeping),
            in_hand: worker
                .map(|worker| worker.in_hand.iter().map(|run| handle(self.runs[*run].job)).collect())
                .unwrap_or_default(),
            listening: self.listened_to(key).into_iter().map(handle).collect(),
        }
    }

    fn job_status(&self, key: JobKey) -> JobStatus {
        let job = &self.jobs[key];
        JobStatus {
            handle: self.handle(key).as_bytes().to_vec(),
            function: self.functions[job.function].name.to_vec(),
            unique: job.shown_unique().to_vec(),
            priority: job.priority,
            state: match job.state {
                State::Queued | State::Buried => JobState::Queued,
                State::Held => JobState::Held,
                State::Running(run) => {
                    let conn = self.conns.get(self.runs[run].conn);
                    JobState::Running(conn.map_or_else(|| "-".to_owned(), |conn| conn.peer.clone()))
                }
                State::Local => JobState::Here,
            },
            payload: job.payload().len(),
            listeners: job.listeners.count(),
            is_background: job.detached,
            hand_outs: job.attempts.into(),
        }
    }

    /// Does something with a function, which is made if there is none.
    pub(super) fn on_function(
        &mut self,
        name: &[u8],
        change: impl FnOnce(&mut Self, FunctionKey),
    ) -> Result<(), ChangeError> {
        let key = self.function(name).map_err(|why| ChangeError::Refused(why.text()))?;
        self.functions[key].is_kept = true;
        change(self, key);
        Ok(())
    }

    pub(super) fn remove_function(&mut self, name: &[u8]) -> Result<(), ChangeError> {
        let key = self.names.get(name).copied().ok_or_else(|| ChangeError::Unknown(name.to_vec()))?;
        let entry = &self.functions[key];
        if entry.capable() > 0 || entry.counts().1 > 0 {
            return Err(ChangeError::InUse);
        }
        self.drop_function(key);
        Ok(())
    }

    pub(super) fn set_paused(&mut self, key: FunctionKey, is_paused: bool) {
        match (&self.functions[key].target, is_paused) {
            (Target::Remote(function), true) => function.pause(),
            (Target::Remote(function), false) => function.resume(),
            (Target::Local(local), true) => local.pause(),
            (Target::Local(local), false) => local.resume(),
        }
        self.rewake_later(key);
    }

    pub(super) fn cancel_job(&mut self, handle: &[u8]) -> bool {
        let found = self.find(handle);
        if let Some(key) = found {
            self.end(key, End::Fail);
        }
        found.is_some()
    }

    /// What a connection can do, by name.
    pub(super) fn ability_names(&self, key: ConnKey) -> Vec<&[u8]> {
        let worker = self.conns[key].worker.as_ref();
        let abilities = worker.map(|worker| worker.abilities.keys()).into_iter().flatten();
        let mut names: Vec<&[u8]> = abilities.map(|function| &*self.functions[*function].name).collect();
        names.sort_unstable();
        names
    }

    /// The queued and running jobs that a connection listens to.
    pub(super) fn listened_to(&self, key: ConnKey) -> Vec<JobKey> {
        let hears = |job: &JobKey| {
            self.jobs.get(*job).is_some_and(|job| job.state != State::Buried && job.listeners.contains(key))
        };
        let mut jobs: Vec<JobKey> = self.conns[key].listening.iter().copied().filter(hears).collect();
        jobs.sort_unstable();
        jobs.dedup();
        jobs
    }

    /// How much there is of what takes memory.
    pub(super) fn census(&mut self) -> Vec<(usize, &'static str)> {
        // A file is read for it: not for each who asks.
        let known = self.resident.filter(|(at, _)| at.elapsed() < RESIDENT);
        let (_, resident) = *self.resident.insert(known.unwrap_or_else(|| (Instant::now(), resident())));
        let mut census = vec![
            (self.jobs.len(), "jobs"),
            (self.runs.len(), "jobs in workers' hands"),
            (self.locals, "jobs in this process"),
            (self.bytes, "bytes of jobs"),
            (self.functions.len(), "functions"),
            (self.keyed, "unique keys"),
            (self.tombstones, "tickets of jobs that are over"),
            (self.conns.len(), "connections"),
            (self.workers, "workers"),
            (self.places, "places for jobs that are listened to"),
            (self.outbox.bytes(), "bytes of answers"),
            (self.timers.len(), "timers"),
            (resident, "KiB of the process in memory"),
        ];
        census.sort_unstable();
        census
    }
}

/// What the process has in memory, in KiB; 0 where that is not told.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

impl Entry {
    fn status(&self) -> FunctionStatus {
        let ([high, normal, low], running) = self.counts();
        FunctionStatus {
            name: self.name.to_vec(),
            queued: Queued { high, normal, low },
            held: self.held,
            running,
            workers: self.capable(),
            max_queue: self.max_queue,
            done: self.done,
            failed: self.failed,
            requeued: self.requeued,
            timed_out: self.timed_out,
            evicted: self.evicted,
            waits: self.timings.as_ref().map(|timings| timings.waits).unwrap_or_default(),
            runs: self.timings.as_ref().map(|timings| timings.runs).unwrap_or_default(),
        }
    }
}
