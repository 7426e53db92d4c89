//! What connections are to be sent, and how much of that there may be. It is looked at before anything is made: a result that is
//! joined by many is copied for each of them.
//!
//! A connection that takes less than it is sent is cut off: what waits for it is dropped, and it is told by an ERROR, unless
//! it has a part of a packet already.

use super::Builder;
use super::command::code;
use super::conn::Conn;
use super::handles::Handle;
use super::job::Listeners;
use super::keys::{ConnKey, JobKey};
use super::settings::Settings;
use super::table::{End, Table};
use super::times::Ticks;
use crate::gearman::packet::{self, HEADER, Kind, Magic};
use slotmap::SlotMap;
use std::cmp::Reverse;

/// So much may be sent without the table being told before the next turn.
pub(super) const UNTOLD: usize = 64 << 10;

type Conns = SlotMap<ConnKey, Conn>;

/// What is to be sent, of all connections.
pub(super) struct Outbox {
    /// Connections with something to send, by shard.
    pub(super) dirty: Vec<Vec<ConnKey>>,
    /// Bytes that wait, here or at a socket.
    bytes: usize,
    /// At most for each connection, besides one packet, and for all of them.
    each: usize,
    all: usize,
    /// Connections that were cut off, and not noted yet.
    cut: Vec<ConnKey>,
    /// The table's.
    pub(super) clock: Ticks,
}

impl Outbox {
    pub(super) fn new(settings: &Settings, shards: usize) -> Outbox {
        let dirty = (0..shards).map(|_| Vec::new()).collect();
        let (each, all) = (settings.output_bytes, settings.all_output_bytes);
        Outbox { dirty, bytes: 0, each, all, cut: Vec::new(), clock: Ticks::NONE }
    }

    /// Follows the settings.
    pub(super) fn follow(&mut self, settings: &Settings) {
        (self.each, self.all) = (settings.output_bytes, settings.all_output_bytes);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a packet to what a connection is to be sent: whether it will get it.
    pub(super) fn push(&mut self, conns: &mut Conns, to: ConnKey, kind: Kind, args: &[&[u8]]) -> bool {
        let length = HEADER + args.iter().map(|arg| arg.len() + 1).sum::<usize>();
        self.append(conns, to, length, |out| packet::encode(out, Magic::Response, kind, args))
    }

    fn append(&mut self, conns: &mut Conns, to: ConnKey, length: usize, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(conn) = conns.get_mut(to) else { return false };
        if conn.is_cut {
            return false;
        }
        let waiting = conn.out.len() + conn.unsent;
        // A single packet may be as large as it likes, and what follows it is not to blame.
        conn.largest = if waiting == 0 { length } else { conn.largest.max(length) };
        if waiting + length > self.each.saturating_add(conn.largest) {
            self.cut_off(conns, to);
            return false;
        }
        if self.bytes + length > self.all && !self.make_room(conns, to, length) {
            return false;
        }
        let Some(conn) = conns.get_mut(to) else { return false };
        let before = conn.out.len();
        write(&mut conn.out);
        self.bytes += conn.out.len() - before;
        self.mark(conn, to);
        true
    }

    fn mark(&mut self, conn: &mut Conn, key: ConnKey) {
        if !std::mem::replace(&mut conn.is_dirty, true) {
            self.dirty[conn.shard].push(key);
        }
    }

    /// There is too much for all: who has not read for the longest time goes, and of those that are alike, who leaves most
    /// unread. If that is not enough, who is to be sent more.
    #[cold]
    fn make_room(&mut self, conns: &mut Conns, to: ConnKey, length: usize) -> bool {
        let unread = conns.iter().filter(|(_, conn)| conn.unsent > 0);
        // A little may have been sent, which is not known yet.
        let merit =
            |conn: &Conn| Reverse((conn.unsent > UNTOLD, conn.read_at.time_until(self.clock).as_secs(), conn.unsent));
        let mut unread: Vec<_> = unread.map(|(key, conn)| (merit(conn), key)).collect();
        unread.sort_unstable();
        for (_, key) in unread {
            if self.bytes + length <= self.all {
                break;
            }
            self.cut_off(conns, key);
        }
        if self.bytes + length > self.all {
            self.cut_off(conns, to);
        }
        !conns[to].is_cut
    }

    /// A connection is sent nothing more.
    #[cold]
    fn cut_off(&mut self, conns: &mut Conns, key: ConnKey) {
        let Some(conn) = conns.get_mut(key).filter(|conn| !conn.is_cut) else { return };
        self.forget(conn);
        (conn.is_cut, conn.is_closing) = (true, true);
        let text = "there is more for this connection than may wait for it";
        packet::encode(&mut conn.out, Magic::Response, Kind::Error, &[code::OUTPUT_FULL.as_bytes(), text.as_bytes()]);
        self.bytes += conn.out.len();
        self.mark(conn, key);
        self.cut.push(key);
    }

    /// Drops what waits for a connection.
    pub(super) fn forget(&mut self, conn: &mut Conn) {
        self.bytes = self.bytes.saturating_sub(conn.out.len() + conn.unsent);
        (conn.out, conn.unsent) = (Vec::new(), 0);
    }
}

impl Table {
    /// Sends a packet.
    pub(super) fn send(&mut self, to: ConnKey, kind: Kind, args: &[&[u8]]) {
        self.outbox.push(&mut self.conns, to, kind, args);
    }

    pub(super) fn send_error(&mut self, to: ConnKey, code: &str, text: &str) {
        self.counters.errors += 1;
        self.note_error(to, code, text);
        self.send(to, Kind::Error, &[code.as_bytes(), text.as_bytes()]);
    }

    pub(super) fn send_text(&mut self, to: ConnKey, answer: &[u8]) {
        self.outbox.append(&mut self.conns, to, answer.len(), |out| out.extend_from_slice(answer));
    }

    /// Tells listeners how a job has ended, once for each submit.
    pub(super) fn tell_end(&mut self, handle: Handle, listeners: &Listeners, how: End<'_>) {
        let handle = handle.as_bytes();
        for listener in listeners.iter() {
            let Some(conn) = self.conns.get_mut(listener.conn) else { continue };
            conn.live -= 1;
            let has_exceptions = conn.exceptions;
            self.effort += listener.times as usize;
            for _ in 0..listener.times {
                let mut send = |kind, args: &[&[u8]]| self.outbox.push(&mut self.conns, listener.conn, kind, args);
                let is_sent = match how {
                    End::Complete(result) => send(Kind::WorkComplete, &[handle, result]),
                    End::Exception(what) if has_exceptions => {
                        send(Kind::WorkException, &[handle, what])
                            && (!self.settings.fails_after_exception || send(Kind::WorkFail, &[handle]))
                    }
                    End::Exception(_) | End::Fail => send(Kind::WorkFail, &[handle]),
                };
                if !is_sent {
                    break;
                }
            }
        }
    }

    /// Passes something on to everybody who listens to a job, once each.
    pub(super) fn relay(&mut self, key: JobKey, kind: Kind, args: &[&[u8]]) {
        let Some(job) = self.jobs.get(key) else { return };
        for listener in job.listeners.iter() {
            self.effort += 1;
            self.outbox.push(&mut self.conns, listener.conn, kind, args);
        }
    }

    /// Bytes were sent.
    pub(super) fn was_sent(&mut self, sent: &mut Vec<(ConnKey, usize)>) {
        for (key, bytes) in sent.drain(..) {
            // Of a connection that is closed, or cut off, nothing is counted any more.
            let Some(conn) = self.conns.get_mut(key) else { continue };
            let bytes = bytes.min(conn.unsent);
            conn.unsent -= bytes;
            conn.read_at = self.clock;
            self.outbox.bytes = self.outbox.bytes.saturating_sub(bytes);
        }
    }

    /// What waits for a connection is handed to its socket.
    pub(super) fn hand_over(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.unsent == 0 {
            conn.read_at = self.clock;
        }
        conn.unsent += conn.out.len();
    }

    /// Tells of those that were cut off.
    pub(super) fn note_cut(&mut self) {
        while let Some(conn) = self.outbox.cut.pop() {
            self.note_deaf(conn);
        }
    }
}

impl Builder {
    /// Bytes that may wait for a connection to read them, besides one packet: one that is to be sent more is cut off.
    /// Default: 256 MiB.
    pub fn output_bytes(mut self, bytes: usize) -> Self {
        self.settings.output_bytes = bytes;
        self
    }

    /// The same for all connections together: those are cut off that have read nothing for the longest time. Default: 1 GiB.
    pub fn all_output_bytes(mut self, bytes: usize) -> Self {
        self.settings.all_output_bytes = bytes;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn who_may_have_read_all_is_the_last_to_make_room() {
        let settings = Settings { all_output_bytes: 2 << 20, ..Settings::default() };
        let (mut outbox, mut conns) = (Outbox::new(&settings, 1), Conns::with_key());
        let at = |seconds| {
            let start = Instant::now();
            Ticks::since(start, start + Duration::from_secs(seconds))
        };
        outbox.clock = at(300);
        let [reads, is_deaf, is_new] = [(40, 1), ((2 << 20) - 100, 200), (0, 300)].map(|(unsent, seconds)| {
            let key = conns.insert(Conn::new(0, 0, "peer".to_owned(), None, false));
            (conns[key].unsent, conns[key].read_at) = (unsent, at(seconds));
            outbox.bytes += unsent;
            key
        });
        assert!(outbox.push(&mut conns, is_new, Kind::EchoRes, &[&[b'x'; 100]]));
        assert_eq!([reads, is_deaf, is_new].map(|key| conns[key].is_cut), [false, true, false]);
    }
}
