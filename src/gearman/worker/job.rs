//! A job as its body sees it.

use super::mail::{Letter, Mail, Origin};
use crate::gearman::packet::{Kind, Magic, encode};
use crate::queue::update::Update;
use crate::sync::{AtomicBool, Condvar, Mutex, Ordering};
use std::fmt;
use std::sync::Arc;

/// Bytes that jobs have told and that are not sent, above which they wait: a server may read slowly.
const FULL: usize = 4 << 20;

/// Where a connection's jobs send what they tell.
pub(super) struct Line {
    mail: Arc<Mail>,
    pub(super) origin: Origin,
    is_cut: AtomicBool,
    /// Bytes that were told and are not sent.
    unsent: Mutex<usize>,
    has_room: Condvar,
    /// Bytes of a packet's body at most.
    most: usize,
}

impl Line {
    pub(super) fn new(mail: Arc<Mail>, origin: Origin, most: usize) -> Line {
        let (is_cut, unsent, has_room) = (AtomicBool::new(false), Mutex::new(0), Condvar::new());
        Line { mail, origin, is_cut, unsent, has_room, most }
    }

    #[cfg(test)]
    pub(super) fn of_nobody() -> Line {
        let poll = mio::Poll::new().expect("a poll");
        let bell = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a bell");
        Line::new(Arc::new(Mail::new(bell)), Origin { server: 0, epoch: 0 }, usize::MAX)
    }

    /// Tells the jobs that nobody hears them any more.
    pub(super) fn cut(&self) {
        let unsent = self.unsent.lock();
        // Ordering: Relaxed, for those who wait the lock orders it; for others it is a hint that guards nothing.
        self.is_cut.store(true, Ordering::Relaxed);
        drop(unsent);
        self.has_room.notify_all();
    }

    fn is_cut(&self) -> bool {
        // Ordering: Relaxed, as above.
        self.is_cut.load(Ordering::Relaxed)
    }

    /// So many of the bytes are sent.
    pub(super) fn sent(&self, bytes: usize) {
        let mut unsent = self.unsent.lock();
        *unsent -= bytes;
        drop(unsent);
        self.has_room.notify_all();
    }

    /// Sends a packet, when there is room.
    fn tell(&self, packet: Vec<u8>) {
        let mut unsent = self.unsent.lock();
        while *unsent > FULL && !self.is_cut() {
            self.has_room.wait(&mut unsent);
        }
        if !self.is_cut() {
            *unsent += packet.len();
            drop(unsent);
            self.mail.post(Letter::Packet(self.origin, packet));
        }
    }
}

/// What a server said of a job when it handed it out.
pub(super) struct Facts {
    pub(super) line: Arc<Line>,
    pub(super) id: Box<[u8]>,
    /// As the server has it, with the prefix.
    pub(super) function: Box<[u8]>,
    pub(super) unique: Box<[u8]>,
    pub(super) reducer: Box<[u8]>,
}

/// A job that a server handed out, as its body sees it. What it tells goes to the clients that wait for the job.
///
/// Clones are of the same job. What it tells waits, and the body with it, while 4 MiB of what was told over the connection are not
/// sent. What is told after the job has ended, the server refuses.
#[derive(Clone)]
pub struct Job(pub(super) Arc<Facts>);

impl Job {
    /// The id that the server gave it, `H:host:number`: what Gearman calls the job's handle.
    pub fn id(&self) -> &[u8] {
        &self.0.id
    }

    /// The function's name as the server has it: with the prefix of the worker, if it has one.
    pub fn function(&self) -> &[u8] {
        &self.0.function
    }

    /// The unique key that the client gave it, or that the server did; empty if there is none, or the server does not tell.
    pub fn unique(&self) -> &[u8] {
        &self.0.unique
    }

    /// The reducer that the client asked for: empty, unless [`reducers`](super::WorkerBuilder::reducers) is set.
    pub fn reducer(&self) -> &[u8] {
        &self.0.reducer
    }

    /// Whether the connection that the job came from is gone. Nobody hears the result then, and the server hands the job to
    /// another worker: a body that looks can end early.
    pub fn is_orphan(&self) -> bool {
        self.0.line.is_cut()
    }

    /// Tells how much is done.
    pub fn progress(&self, done: u64, total: u64) {
        let [done, total] = [done, total].map(|number| number.to_string());
        self.tell(Kind::WorkStatus, &[self.id(), done.as_bytes(), total.as_bytes()]);
    }

    /// Gives a part of the result. One that no packet holds goes in several ([`packet_limit`](super::WorkerBuilder::packet_limit)).
    pub fn data(&self, part: &[u8]) {
        let (first, rest) = part.split_at(part.len().min(self.room()));
        self.tell(Kind::WorkData, &[self.id(), first]);
        for part in rest.chunks(self.room().max(1)) {
            self.tell(Kind::WorkData, &[self.id(), part]);
        }
    }

    /// Warns of something; the job goes on. What no packet holds is cut off.
    pub fn warning(&self, text: &[u8]) {
        self.tell(Kind::WorkWarning, &[self.id(), &text[..text.len().min(self.room())]]);
    }

    /// Bytes that a packet holds beside the id.
    pub(super) fn room(&self) -> usize {
        self.0.line.most.saturating_sub(self.0.id.len() + 1)
    }

    /// Passes on what a body told through [`Running`](crate::Running).
    pub(super) fn relay(&self, update: &Update) {
        match update {
            Update::Progress { done, total } => self.progress(*done, *total),
            Update::Data(part) => self.data(part),
            Update::Warning(text) => self.warning(text),
        }
    }

    fn tell(&self, kind: Kind, args: &[&[u8]]) {
        let line = &self.0.line;
        if !line.is_cut() {
            let mut packet = Vec::new();
            encode(&mut packet, Magic::Request, kind, args);
            line.tell(packet);
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id().escape_ascii().to_string())
            .field("function", &self.function().escape_ascii().to_string())
            .finish_non_exhaustive()
    }
}

/// Why a body gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkError {
    /// The job failed: `WORK_FAIL`.
    Fail,
    /// It failed, and this says why: `WORK_EXCEPTION`, for clients that asked for exceptions. The others hear that it failed.
    /// A body that panics does the same, with the panic's message.
    Exception(Vec<u8>),
}

impl WorkError {
    /// A failure with its reason.
    pub fn exception(why: impl Into<Vec<u8>>) -> WorkError {
        WorkError::Exception(why.into())
    }
}

impl fmt::Display for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkError::Fail => f.write_str("the job failed"),
            WorkError::Exception(why) => write!(f, "the job failed: {}", String::from_utf8_lossy(why)),
        }
    }
}

impl std::error::Error for WorkError {}
