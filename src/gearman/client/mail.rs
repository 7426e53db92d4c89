//! From callers to the client's thread, and how many bytes may be on the way.

use super::ask::Question;
use super::error::ClientError;
use super::job::Job;
use crate::gearman::address::Connected;
use crate::gearman::secured::Secured;
use crate::quiet::wake;
use crate::sync::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;

/// What the client's thread is told.
pub(super) enum Command {
    Submit(Box<Job>),
    Ask(Question),
    /// How the attempt of this number to reach a server ended.
    Connected {
        server: usize,
        attempt: u64,
        result: io::Result<Secured<Connected>>,
    },
}

/// Shared by callers and the thread.
pub(super) struct Mailbox {
    state: Mutex<State>,
    /// Somebody may find room.
    room: Condvar,
    /// Bytes of jobs that may wait to be written.
    bound: usize,
    waker: mio::Waker,
}

#[derive(Default)]
struct State {
    commands: Vec<Command>,
    /// Bytes of jobs not yet written.
    used: usize,
    blocked: usize,
    wakers: Vec<Waker>,
    /// The thread is about to sleep, or sleeps: who adds something wakes it.
    is_asleep: bool,
    /// Nobody will submit again.
    is_closing: bool,
    /// The thread is gone.
    is_closed: bool,
    io: Option<ThreadId>,
}

impl State {
    /// One job always has room, however large.
    fn has_room(&self, bytes: usize, bound: usize) -> bool {
        self.used == 0 || self.used + bytes <= bound
    }
}

impl Mailbox {
    pub(super) fn new(bound: usize, waker: mio::Waker) -> Mailbox {
        Mailbox { state: Mutex::new(State::default()), room: Condvar::new(), bound, waker }
    }

    /// Blocks until there is room for the job.
    pub(super) fn submit(&self, job: Box<Job>) -> Result<(), ClientError> {
        let mut state = self.state.lock();
        // A listener submits on the very thread that makes room.
        let may_block = state.io != Some(std::thread::current().id());
        while may_block && !state.is_closed && !state.has_room(job.held, self.bound) {
            state.blocked += 1;
            self.room.wait(&mut state);
            state.blocked -= 1;
        }
        if state.is_closed {
            return Err(ClientError::Closed);
        }
        state.used += job.held;
        self.push(state, Command::Submit(job));
        Ok(())
    }

    /// The same, polled.
    pub(super) fn poll_submit(
        &self,
        job: &mut Option<Box<Job>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ClientError>> {
        // A clone is others' code: it does not happen under the lock.
        let waker = cx.waker().clone();
        let mut state = self.state.lock();
        if state.is_closed {
            return Poll::Ready(Err(ClientError::Closed));
        }
        let bytes = job.as_ref().map_or(0, |job| job.held);
        if !state.has_room(bytes, self.bound) {
            if !state.wakers.iter().any(|other| other.will_wake(&waker)) {
                state.wakers.push(waker);
            }
            return Poll::Pending;
        }
        state.used += bytes;
        let job = job.take().expect("a future was polled after its end");
        self.push(state, Command::Submit(job));
        Poll::Ready(Ok(()))
    }

    /// Tells the thread something that takes no room.
    pub(super) fn tell(&self, command: Command) {
        let state = self.state.lock();
        // Dropping a command is answer enough: its reply says that the client is closed.
        if !state.is_closed {
            self.push(state, command);
        }
    }

    fn push(&self, mut state: crate::sync::MutexGuard<'_, State>, command: Command) {
        state.commands.push(command);
        let is_asleep = std::mem::take(&mut state.is_asleep);
        drop(state);
        if is_asleep {
            self.wake();
        }
    }

    /// The thread is gone if this fails, or sees it at its next turn.
    fn wake(&self) {
        let _ = self.waker.wake();
    }

    /// Says that nobody will submit again: the thread ends.
    pub(super) fn close(&self) {
        self.state.lock().is_closing = true;
        self.wake();
    }

    /// Says which thread takes the commands.
    pub(super) fn serve(&self) {
        self.state.lock().io = Some(std::thread::current().id());
    }

    /// Moves the commands to `into`; with none, and nothing else to do, the thread may sleep. Whether it shall go on.
    pub(super) fn take(&self, into: &mut Vec<Command>, is_idle: bool) -> bool {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.commands, into);
        state.is_asleep = into.is_empty() && is_idle;
        !state.is_closing
    }

    /// Gives bytes back.
    pub(super) fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut state = self.state.lock();
        state.used = state.used.saturating_sub(bytes);
        let wakers = std::mem::take(&mut state.wakers);
        let is_awaited = state.blocked > 0;
        drop(state);
        if is_awaited {
            self.room.notify_all();
        }
        wakers.into_iter().for_each(wake);
    }

    /// The thread is gone.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let (commands, wakers) = (std::mem::take(&mut state.commands), std::mem::take(&mut state.wakers));
        drop(state);
        self.room.notify_all();
        wakers.into_iter().for_each(wake);
        // Wakes whoever waits for an answer, without the lock.
        drop(commands);
    }
}

/// A mailbox, and which thread serves it: what callers share.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) io: ThreadId,
}
