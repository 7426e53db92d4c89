//! One socket: bytes that came and are no message yet, bytes that are to be sent, and their deadlines.

use super::admin::Ending;
use super::command::code;
use super::conn::Conn;
use super::handshake::Handshake;
use super::keys::{ConnKey, JobKey};
use super::settings::Settings;
use super::socket::Socket;
use super::table::Table;
use crate::gearman::packet::{self, Kind, Message, PacketError};
use crate::gearman::secured::Secured;
use slotmap::Key;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// While so much waits to be sent, nothing more is read from a connection.
const HELD_UP: usize = 1 << 20;
/// An empty buffer that is larger is given back.
const KEEP: usize = 1 << 10;
/// What came of a message is left where it is while more than this is missing; else the message is put together in the shared
/// buffer, with those behind it.
const LARGE: usize = 64 << 10;
/// A message that is not complete has to grow by so much, or end, each time that its deadline has passed.
const PROGRESS: usize = 64 << 10;
/// What the messages of a connection may cost before others have their turn: about so many microseconds.
const EFFORT: usize = 10_000;
/// A connection that is to be closed is read for so long, and what it sends dropped: else it might not hear why.
const LINGER: Duration = Duration::from_secs(2);
/// How a handshake of TLS begins; no message does.
const TLS_HELLO: &[u8] = &[22, 3];

/// Calls into the kernel, which are most of what a server does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Calls {
    pub(super) waits: u64,
    pub(super) reads: u64,
    pub(super) writes: u64,
}

pub(super) struct Stream {
    /// Since they were counted last.
    pub(super) calls: Calls,
    pub(super) socket: Secured<Socket>,
    /// Nothing else is read before that is done.
    pub(super) handshake: Option<Handshake>,
    pub(super) conn: ConnKey,
    /// The beginning of a message.
    input: Vec<u8>,
    /// How long that message is, or more than there is.
    needed: usize,
    output: Vec<u8>,
    sent: usize,
    /// Since when the message is not complete, and has not grown by [`PROGRESS`].
    begun: Option<Instant>,
    /// How much of it there was then.
    grown: usize,
    /// Since when nothing could be sent.
    stalled: Option<Instant>,
    /// Since when it is there and has sent nothing, if that is looked at.
    pub(super) silent: Option<Instant>,
    /// There are messages among the input that had to wait for another turn.
    is_paused: bool,
    /// Since when its peer knows that nothing more comes.
    shut: Option<Instant>,
    /// It is among those whose deadlines are looked at.
    pub(super) is_watched: bool,
    /// The peer has sent its last byte, which need not have been read.
    pub(super) is_ended: bool,
    pub(super) is_broken: bool,
    pub(super) is_closing: bool,
    /// It is sent nothing more, though its peer has got half a packet.
    pub(super) is_cut: bool,
    pub(super) is_half_closed: bool,
}

/// What is next for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// An event says when there is more.
    Waits,
    /// There may be more at once.
    HasMore,
    /// The peer sends nothing more.
    Closed,
    Broken,
    /// The peer broke the rules of TLS, or does not trust this side.
    Insecure,
}

/// What a peer is too late for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// To be secure.
    Handshake,
    /// To send anything at all.
    First,
    /// To go on with a message.
    Message,
    /// To read what there is for it.
    Reading,
    /// To close a connection whose end it knows.
    Parting,
}

/// What became of bytes.
pub(super) struct Processed {
    used: usize,
    needed: usize,
    is_lost: bool,
    is_paused: bool,
}

impl Stream {
    pub(super) fn new(socket: Secured<Socket>, handshake: Option<Handshake>) -> Stream {
        Stream {
            calls: Calls::default(),
            socket,
            handshake,
            conn: ConnKey::null(),
            input: Vec::new(),
            needed: 0,
            output: Vec::new(),
            sent: 0,
            begun: None,
            grown: 0,
            stalled: None,
            silent: None,
            is_paused: false,
            shut: None,
            is_watched: false,
            is_ended: false,
            is_broken: false,
            is_closing: false,
            is_cut: false,
            is_half_closed: false,
        }
    }

    /// Reads once, and has the messages that came dealt with.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        now: Instant,
        mut process: impl FnMut(ConnKey, &[u8]) -> Processed,
    ) -> Fate {
        if self.is_closing || self.is_half_closed {
            return self.drop_input(buffer);
        }
        if self.is_held_up() {
            return Fate::Waits;
        }
        let kept = self.input.len();
        if std::mem::take(&mut self.is_paused) {
            let input = std::mem::take(&mut self.input);
            let done = process(self.conn, &input);
            self.keep(&input[done.used..], &done, now);
            return Fate::HasMore;
        }
        let is_large = kept > 0 && (self.needed > kept + LARGE || self.needed > buffer.len());
        let place = if is_large {
            // Nothing of the next message.
            0..buffer.len().min(self.needed - kept)
        } else {
            buffer[..kept].copy_from_slice(&self.input);
            kept..buffer.len()
        };
        let room = place.len();
        self.calls.reads += 1;
        let read = match self.socket.read(&mut buffer[place]) {
            Ok(0) => return Fate::Closed,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Fate::Waits,
            Err(_) if self.socket.has_failed() => return Fate::Insecure,
            Err(_) => return Fate::Broken,
        };
        self.silent = None;
        let there = kept + read;
        if is_large {
            self.append(&buffer[..read]);
            self.note_progress(now);
            if there >= self.needed {
                let input = std::mem::take(&mut self.input);
                let done = process(self.conn, &input);
                self.keep(&input[done.used..], &done, now);
            }
        } else {
            let done = process(self.conn, &buffer[..there]);
            self.keep(&buffer[done.used..there], &done, now);
        }
        // A read that does not fill the buffer has met the end of what there is; unless the peer has closed, then that is next.
        let has_more = self.socket.has_more(read, room) || self.is_ended || self.is_closing || self.is_paused;
        if has_more { Fate::HasMore } else { Fate::Waits }
    }

    /// Adds to a large message. Its buffer grows with what came, to twice as much at most: what is announced takes no memory.
    fn append(&mut self, bytes: &[u8]) {
        let there = self.input.len() + bytes.len();
        if there > self.input.capacity() {
            let wanted = self.needed.min(2 * there).max(there);
            self.input.reserve_exact(wanted - self.input.len());
        }
        self.input.extend_from_slice(bytes);
    }

    /// A message that has grown has time to grow again.
    fn note_progress(&mut self, now: Instant) {
        if self.begun.is_none() || self.input.len() >= self.grown + PROGRESS {
            self.begun = Some(now);
            self.grown = self.input.len();
        }
    }

    fn keep(&mut self, rest: &[u8], done: &Processed, now: Instant) {
        self.input.clear();
        if done.is_lost {
            self.is_closing = true;
        } else if !rest.is_empty() {
            self.input.extend_from_slice(rest);
        }
        self.is_paused = done.is_paused;
        if self.input.is_empty() || done.is_paused || done.used > 0 {
            // Another message than the one before, if any.
            self.begun = None;
        }
        if !self.input.is_empty() && !done.is_paused {
            self.note_progress(now);
        }
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = Vec::new();
        }
        self.needed = done.needed;
    }

    /// Reads what nobody looks at, so that the peer gets what it was sent, and sees the end.
    pub(super) fn drop_input(&mut self, buffer: &mut [u8]) -> Fate {
        self.calls.reads += 1;
        match self.socket.read(buffer) {
            Ok(0) if self.is_half_closed && !self.is_broken => Fate::Waits,
            Ok(0) => Fate::Closed,
            Ok(_) => Fate::HasMore,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Fate::Waits,
            Err(_) => Fate::Broken,
        }
    }

    /// Takes over what a connection is to be sent.
    pub(super) fn take_output(&mut self, conn: &mut Conn) {
        if conn.is_cut && self.unsent() > 0 {
            // In the middle of a packet it cannot be told.
            (self.output, self.sent, self.is_cut) = (Vec::new(), 0, true);
            conn.out = Vec::new();
        }
        if self.output.is_empty() {
            std::mem::swap(&mut self.output, &mut conn.out);
        } else {
            self.output.append(&mut conn.out);
        }
        self.is_closing |= conn.is_closing;
    }

    /// Sends as much as fits.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while !self.is_all_sent() {
            self.calls.writes += 1;
            let is_rest = self.sent == self.output.len();
            let written =
                if is_rest { self.socket.flush().map(|()| 0) } else { self.socket.write(&self.output[self.sent..]) };
            match written {
                Ok(0) if is_rest => break,
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.sent += n;
                    self.stalled = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled.get_or_insert_with(Instant::now);
                    // What was sent takes no room when there is much to send.
                    if self.sent > HELD_UP && self.sent > self.output.len() / 2 {
                        self.output.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.sent = 0;
        self.stalled = None;
        if self.output.capacity() > KEEP {
            self.output = Vec::new();
        }
        Ok(())
    }

    pub(super) fn is_all_sent(&self) -> bool {
        self.sent == self.output.len() && self.socket.is_flushed()
    }

    pub(super) fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// So much waits to be sent that nothing is read.
    pub(super) fn is_held_up(&self) -> bool {
        self.unsent() > HELD_UP
    }

    /// Nothing more comes: what has come of a message is nothing.
    pub(super) fn end_input(&mut self) {
        self.is_half_closed = true;
        self.begun = None;
        self.silent = None;
    }

    /// It is read again after a while: what has come of a message is not late by that.
    pub(super) fn resume(&mut self, now: Instant) {
        self.begun = self.begun.map(|_| now);
    }

    /// Tells the peer that nothing more comes: whether it did not know.
    pub(super) fn shut(&mut self, now: Instant) -> bool {
        let is_new = self.shut.is_none();
        if is_new {
            self.shut = Some(now);
            // One that is gone needs no telling.
            self.socket.finish();
            let _ = self.socket.socket.shut();
        }
        is_new
    }

    pub(super) fn has_deadline(&self) -> bool {
        self.begun.is_some()
            || self.stalled.is_some()
            || self.silent.is_some()
            || self.is_closing
            || self.handshake.is_some()
    }

    /// What it is too late for.
    pub(super) fn lateness(&self, now: Instant, settings: &Settings) -> Option<Late> {
        let over = |since: Option<Instant>, limit| since.is_some_and(|since| now.duration_since(since) > limit);
        if over(self.shut, LINGER) {
            Some(Late::Parting)
        } else if self.is_handshake_late(now) {
            Some(Late::Handshake)
        } else if over(self.stalled, settings.write_stall) {
            Some(Late::Reading)
        } else if over(self.begun.filter(|_| !self.is_held_up()), settings.message_deadline) {
            Some(Late::Message)
        } else {
            let limit = settings.silence.filter(|_| self.handshake.is_none())?;
            over(self.silent, limit).then_some(Late::First)
        }
    }

    /// What came last is the beginning of a line.
    pub(super) fn is_in_line(&self) -> bool {
        self.input.first().is_some_and(|byte| *byte != 0)
    }
}

/// Does what the messages at the beginning of these bytes say.
pub(super) fn process(
    table: &mut Table,
    conn: ConnKey,
    bytes: &[u8],
    now: Instant,
    ending: &mut Option<Ending>,
) -> Processed {
    let (mut used, mut needed, mut is_lost, mut is_paused) = (0, 0, false, false);
    table.effort = 0;
    table.set_clock(now);
    let settings = std::sync::Arc::clone(&table.settings);
    while used < bytes.len() {
        let (waiting, is_cut) = table.conns.get(conn).map_or((0, false), |conn| (conn.out.len(), conn.is_cut));
        if is_cut {
            is_lost = true;
            break;
        }
        if table.effort > EFFORT || waiting > HELD_UP {
            is_paused = true;
            break;
        }
        table.effort += 1;
        match packet::decode(&bytes[used..], &settings.packets) {
            Ok(Message::Incomplete { .. } | Message::Line { .. }) if bytes[used..].starts_with(TLS_HELLO) => {
                table.refuse_tls(conn);
                is_lost = true;
                break;
            }
            Ok(Message::Incomplete { needed: more }) => {
                needed = more;
                break;
            }
            Ok(Message::Frame { frame, length }) => {
                table.frame(conn, &frame, now);
                used += length;
            }
            Ok(Message::Line { line, length }) => {
                *ending = table.line(conn, line).or(*ending);
                used += length;
            }
            Err(error) => {
                table.lose_track(conn, &error);
                is_lost = true;
                break;
            }
        }
    }
    Processed { used, needed, is_lost, is_paused }
}

impl Table {
    /// What a connection sends makes no sense any more: it is told, and closed.
    fn lose_track(&mut self, conn: ConnKey, error: &PacketError) {
        match error {
            PacketError::LineTooLong { .. } => {
                let line = crate::gearman::text::refusal("LINE_TOO_LONG", &error.to_string());
                self.send_text(conn, line.as_bytes());
            }
            _ => self.send_error(conn, code::INVALID_ARGS, &error.to_string()),
        }
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.is_closing = true;
        }
    }

    /// A peer expects TLS where there is none: it is told, and closed.
    fn refuse_tls(&mut self, conn: ConnKey) {
        self.send_error(conn, code::TLS_UNEXPECTED, "this port speaks without TLS");
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.is_closing = true;
        }
    }

    /// A peer sends nothing more. Whether it may wait for something; as a worker it is gone.
    ///
    /// TCP says the same of a client that only sends nothing more and of one that is gone, until that is sent something. So a
    /// client waits for the results of jobs that run, which cost nobody anything; and for those of all its jobs if it is known
    /// to be there (`is_there`), or is being told of them just now, since it then turns out whether it is. Else its jobs that do
    /// not run fail for it, which it hears if it is there: nothing is run for clients that are gone.
    pub(super) fn half_close(&mut self, key: ConnKey, is_there: bool) -> bool {
        self.retire(key);
        let Some(conn) = self.conns.get(key) else { return false };
        let is_told = conn.is_dirty || !conn.out.is_empty();
        if !is_told && !is_there {
            for job in conn.listening.clone() {
                self.fail_unless_running(job, key);
            }
        }
        is_told || !self.is_silent(key)
    }

    fn fail_unless_running(&mut self, key: JobKey, listener: ConnKey) {
        let Some(job) = self.jobs.get(key).filter(|job| !job.is_running()) else { return };
        let listens = job.listeners.iter().find(|other| other.conn == listener);
        let times = listens.map_or(0, |listener| listener.times);
        let handle = self.handle(key);
        self.stop_listening(key, listener);
        for _ in 0..times {
            self.send(listener, Kind::WorkFail, &[handle.as_bytes()]);
        }
    }

    /// A peer is too slow with what it sends: it is told, and closed. Its jobs go to other workers at once.
    pub(super) fn lose_patience(&mut self, key: ConnKey, is_in_line: bool, why: &str) {
        self.counters.slow_senders += 1;
        self.note_slow(key);
        self.retire(key);
        if is_in_line {
            let line = crate::gearman::text::refusal(code::TOO_SLOW, why);
            self.send_text(key, line.as_bytes());
        } else {
            self.send_error(key, code::TOO_SLOW, why);
        }
        if let Some(conn) = self.conns.get_mut(key) {
            conn.is_closing = true;
        }
    }

    /// Nothing more will be sent to a peer that sends nothing.
    pub(super) fn is_silent(&self, key: ConnKey) -> bool {
        self.conns.get(key).is_none_or(|conn| {
            let has_live =
                conn.listening.iter().any(|job| self.jobs.get(*job).is_some_and(|job| job.listeners.contains(key)));
            !has_live && conn.out.is_empty()
        })
    }
}
