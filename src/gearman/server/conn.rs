//! What the table knows of a connection.

use super::keys::{ConnKey, FunctionKey, JobKey, RunKey};
use super::notices::{Bell, Notices, Ticket};
use super::times::Ticks;
use crate::{ConsumerSet, Engine};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Jobs that a connection is remembered to have had in its hands. More are forgotten: their late results get an error.
const REMEMBERED: usize = 10_000;

/// A connection, as client and as worker.
pub(super) struct Conn {
    /// Its stream there.
    pub(super) stream: u64,
    /// Which thread has its socket.
    pub(super) shard: usize,
    /// The socket's file descriptor, for tables.
    pub(super) number: i32,
    /// Where it comes from, for tables.
    pub(super) peer: String,
    /// The same without the port.
    pub(super) ip: Option<IpAddr>,
    /// What it calls itself; `-` if nothing.
    pub(super) id: Vec<u8>,
    /// May change things by text commands.
    pub(super) is_admin: bool,
    /// Has asked for exceptions.
    pub(super) exceptions: bool,
    /// What is to be sent.
    pub(super) out: Vec<u8>,
    pub(super) is_dirty: bool,
    /// What its socket has and is not known to have sent; and when it sent something last.
    pub(super) unsent: usize,
    pub(super) read_at: Ticks,
    /// Bytes of the largest packet since nothing waited.
    pub(super) largest: usize,
    /// More was to wait for it than may: it is sent nothing more.
    pub(super) is_cut: bool,
    /// To be closed when all of that is sent.
    pub(super) is_closing: bool,
    pub(super) worker: Option<Box<WorkerSide>>,
    /// What it submitted to last.
    pub(super) last_function: Option<FunctionKey>,
    /// Jobs that it listens to, and some that are over.
    pub(super) listening: Vec<JobKey>,
    /// How many of them are not over.
    pub(super) live: usize,
}

/// What a connection has as a worker.
pub(super) struct WorkerSide {
    pub(super) set: ConsumerSet<Ticket, ()>,
    /// What it can do, and how long a job of that may run.
    pub(super) abilities: HashMap<FunctionKey, Option<Duration>>,
    /// Jobs in its hands, in no order.
    pub(super) in_hand: Vec<RunKey>,
    pub(super) is_sleeping: bool,
    /// It took a job since it slept last.
    pub(super) has_worked: bool,
    pub(super) waker: Waker,
    /// Jobs that were in its hands and are over, or elsewhere: what it says of them is not wrong, but late.
    taken: HashSet<JobKey>,
}

impl Conn {
    pub(super) fn new(shard: usize, number: i32, peer: String, ip: Option<IpAddr>, is_admin: bool) -> Conn {
        Conn {
            stream: 0,
            shard,
            number,
            peer,
            ip,
            id: b"-".to_vec(),
            is_admin,
            exceptions: false,
            out: Vec::new(),
            is_dirty: false,
            unsent: 0,
            read_at: Ticks::NONE,
            largest: 0,
            is_cut: false,
            is_closing: false,
            worker: None,
            last_function: None,
            listening: Vec::new(),
            live: 0,
        }
    }

    /// The worker's side, made when it is needed first.
    pub(super) fn worker(&mut self, me: ConnKey, engine: &Engine, notices: &Arc<Notices>) -> &mut WorkerSide {
        self.worker.get_or_insert_with(|| {
            Box::new(WorkerSide {
                set: engine.consumer_set(),
                abilities: HashMap::new(),
                in_hand: Vec::new(),
                is_sleeping: false,
                has_worked: false,
                waker: Waker::from(Bell::of_conn(me, notices)),
                taken: HashSet::new(),
            })
        })
    }

    /// Listens to a job. `is_live` tells which of the others are not over.
    pub(super) fn listen(&mut self, job: JobKey, is_live: impl Fn(JobKey) -> bool) {
        if self.listening.len() > 2 * self.live + 64 {
            self.listening.retain(|job| is_live(*job));
        }
        self.listening.push(job);
        self.live += 1;
    }
}

impl WorkerSide {
    /// A job is not in its hands any more, which it does not know.
    pub(super) fn was_taken(&mut self, job: JobKey) {
        if self.taken.len() < REMEMBERED {
            self.taken.insert(job);
        }
    }

    /// Whether it had this job, and is to be forgotten as having had it when this is the last it says.
    pub(super) fn had(&mut self, job: JobKey, is_last: bool) -> bool {
        if is_last { self.taken.remove(&job) } else { self.taken.contains(&job) }
    }
}
