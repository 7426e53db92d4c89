//! A thread that owns sockets: one wait for all of them, one large read of each that has something, and what it is to be sent
//! once a turn.

use super::admin::Ending;
use super::conn::Conn;
use super::events::ServerEvent;
use super::handshake::Handshake;
use super::hub::{DRAINING, ENDED, Hub, SENDING, SERVING};
use super::keys::ConnKey;
use super::listening::SocketFile;
use super::output::UNTOLD;
use super::socket::{Listener, Socket};
use super::stream::{Calls, Fate, Late, Stream};
use crate::gearman::secured::Secured;
use crate::gearman::tls::Acceptor;
use crate::gearman::waiting::Waiting;
use mio::{Events, Poll, Token};
use slotmap::{Key, KeyData, SlotMap, new_key_type};
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of one read.
const READ: usize = 128 << 10;
/// Events of one wait.
const EVENTS: usize = 1024;
/// The token of a shard's waker; listeners follow, streams are far above.
pub(super) const WAKER: Token = Token(0);
/// How long no connection is accepted after that has failed: for want of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often deadlines of connections are looked at, while any has one.
const SWEEP: Duration = Duration::from_secs(1);

new_key_type! {
    /// A stream of this shard.
    pub(super) struct StreamKey;
}

/// A connection that a shard is to serve.
pub(super) struct NewSocket {
    pub(super) socket: Socket,
    pub(super) peer: String,
    pub(super) ip: Option<IpAddr>,
    pub(super) is_admin: bool,
    pub(super) tls: Option<Arc<Acceptor>>,
    /// It need not send anything soon.
    pub(super) may_be_silent: bool,
}

/// A socket that is listened on, and what its connections may do.
pub(super) struct Door {
    /// Before the socket, see there.
    #[expect(dead_code, reason = "it is there to be dropped")]
    pub(super) file: Option<SocketFile>,
    pub(super) listener: Listener,
    pub(super) is_admin: bool,
    pub(super) tls: Option<Arc<Acceptor>>,
}

pub(super) struct Shard {
    pub(super) index: usize,
    pub(super) hub: Arc<Hub>,
    poll: Poll,
    /// Only the first shard has any.
    doors: Vec<Door>,
    pub(super) streams: SlotMap<StreamKey, Stream>,
    buffer: Vec<u8>,
    /// Streams that have more to read, though no event will say so.
    again: Vec<StreamKey>,
    /// Streams with a deadline.
    watched: HashSet<StreamKey>,
    next_sweep: Option<Instant>,
    /// When the table's timers are due; the first shard's.
    due: Option<Instant>,
    accept_again: Option<Instant>,
    /// Listeners that have connections to accept, or may have.
    accepting: Vec<usize>,
    accept_batch: usize,
    dirty: Vec<ConnKey>,
    /// What was sent since the table was told, and how much it is together.
    sent: Vec<(ConnKey, usize)>,
    sent_bytes: usize,
    /// Since the last turn.
    calls: Calls,
    next_shard: usize,
    /// A stream was closed, and others may have something to send for that.
    has_closed: bool,
    /// Nothing is read any more, and when that ends in any case.
    is_sending: bool,
    end_by: Option<Instant>,
}

impl Shard {
    pub(super) fn new(index: usize, hub: Arc<Hub>, poll: Poll, doors: Vec<Door>) -> Shard {
        let accept_batch = hub.with(index, |table| table.settings.accept_batch);
        Shard {
            index,
            hub,
            poll,
            doors,
            streams: SlotMap::with_key(),
            buffer: vec![0; READ],
            again: Vec::new(),
            watched: HashSet::new(),
            next_sweep: None,
            due: None,
            accept_again: None,
            accepting: Vec::new(),
            accept_batch,
            dirty: Vec::new(),
            sent: Vec::new(),
            sent_bytes: 0,
            calls: Calls::default(),
            next_shard: 0,
            has_closed: false,
            is_sending: false,
            end_by: None,
        }
    }

    /// Serves until the server ends.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut waiting = Waiting::new(self.hub.with(self.index, |table| table.settings.busy_poll));
        for (i, door) in self.doors.iter_mut().enumerate() {
            let registered = door.listener.register(self.poll.registry(), Token(1 + i));
            debug_assert!(registered.is_ok(), "{registered:?}");
        }
        while !self.is_over() {
            let timeout = self.timeout(Instant::now());
            match waiting.wait(&mut self.poll, &mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    debug_assert!(false, "{error}");
                }
                _ => self.turn(&events),
            }
        }
        self.flush();
        let streams: Vec<StreamKey> = self.streams.keys().collect();
        for key in streams {
            // A socket that is closed with something unread drops what it has not sent.
            let _ = self.streams[key].drop_input(&mut self.buffer);
            self.close(key);
        }
    }

    fn is_over(&self) -> bool {
        match self.hub.phase() {
            ENDED => true,
            SENDING if self.is_sending => {
                let is_late = self.end_by.is_some_and(|at| at <= Instant::now());
                is_late || self.streams.values().all(Stream::is_all_sent)
            }
            _ => false,
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.again.is_empty() || !self.accepting.is_empty() {
            return Some(Duration::ZERO);
        }
        let next = [self.due, self.next_sweep, self.accept_again, self.end_by].into_iter().flatten().min();
        // Rounded up: a wait that is too short is repeated all the time.
        next.map(|at| at.saturating_duration_since(now) + Duration::from_millis(1))
    }

    fn turn(&mut self, events: &Events) {
        self.calls.waits += 1;
        let now = Instant::now();
        let mut again = std::mem::take(&mut self.again);
        again.sort_unstable();
        again.dedup();
        let mut accepting = std::mem::take(&mut self.accepting);
        for event in events {
            match event.token() {
                WAKER => {}
                Token(n) if n <= self.doors.len() => accepting.push(n - 1),
                token => {
                    let key = StreamKey::from(KeyData::from_ffi(token.0 as u64));
                    let Some(stream) = self.streams.get_mut(key) else { continue };
                    if event.is_error() || event.is_write_closed() {
                        stream.is_broken = true;
                    }
                    stream.is_ended |= event.is_read_closed();
                    if event.is_writable() {
                        self.write(key);
                    }
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        self.read(key, now);
                    }
                }
            }
        }
        again.into_iter().for_each(|stream| self.read(stream, now));
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
            accepting.extend(0..self.doors.len());
        }
        accepting.sort_unstable();
        accepting.dedup();
        accepting.into_iter().for_each(|i| self.accept(i));
        self.adopt();
        if self.index == 0 {
            self.keep_time(now);
        }
        if self.hub.phase() == SENDING {
            self.hear_no_more();
        }
        if self.next_sweep.is_some_and(|at| at <= now) {
            self.sweep(now);
        }
        self.flush();
    }

    /// From now on there is only what is to be sent.
    fn hear_no_more(&mut self) {
        self.is_sending = true;
        self.end_by = self.hub.with(self.index, |table| table.end_by);
        self.streams.values_mut().for_each(|stream| stream.is_closing = true);
    }

    /// What the first shard does for all.
    fn keep_time(&mut self, now: Instant) {
        let phase = self.hub.phase();
        if phase != SERVING {
            self.doors.clear();
            self.accepting.clear();
        }
        let is_over = self.hub.with(self.index, |table| {
            if phase == DRAINING && !std::mem::replace(&mut table.is_draining, true) {
                table.note(|table| ServerEvent::Draining { jobs: table.in_hand_anywhere() });
            }
            self.due = table.tick(now).into_iter().chain(table.end_by).min();
            let is_idle = table.in_hand_anywhere() == 0;
            let is_late = table.end_by.is_some_and(|at| at <= now);
            if phase == DRAINING && is_late && !is_idle {
                table.note(|table| ServerEvent::CutShort { jobs: table.in_hand_anywhere() });
            }
            is_idle || is_late
        });
        if phase == DRAINING && is_over {
            self.hub.set_phase(SENDING);
        }
    }

    // Connections.

    /// Accepts some connections: if there are more, the others have their turn first.
    fn accept(&mut self, i: usize) {
        let Some(Door { listener, is_admin, tls, .. }) = self.doors.get_mut(i) else { return };
        let is_admin = *is_admin;
        let write_stall = self.hub.with(self.index, |table| table.settings.write_stall);
        for _ in 0..self.accept_batch {
            match listener.accept(write_stall) {
                Ok((socket, peer, ip)) => {
                    let shard = self.next_shard % self.hub.shards();
                    self.next_shard += 1;
                    let link = self.hub.link(shard);
                    link.sockets.lock().push(NewSocket {
                        socket,
                        peer,
                        ip,
                        is_admin,
                        tls: tls.clone(),
                        may_be_silent: false,
                    });
                    if shard != self.index {
                        self.hub.wake(shard);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.hub.tell(&ServerEvent::AcceptFailed { error: error.to_string() });
                    self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        self.accepting.push(i);
    }

    /// Serves the connections that came.
    fn adopt(&mut self) {
        let sockets = std::mem::take(&mut *self.hub.link(self.index).sockets.lock());
        for NewSocket { mut socket, peer, ip, is_admin, tls, may_be_silent } in sockets {
            if let Err((code, why)) = self.hub.with(self.index, |table| table.admit(ip)) {
                // With TLS it would take a handshake to tell.
                if tls.is_none() {
                    socket.refuse(code, &why);
                }
                self.hub.tell(&ServerEvent::TurnedAway { peer, why });
                continue;
            }
            let (session, handshake) = match &tls {
                None => (None, None),
                Some(tls) => {
                    let Ok(session) = tls.session() else { continue };
                    (Some(session), Some(Handshake::new(tls, Instant::now())))
                }
            };
            let key = self.streams.insert(Stream::new(Secured::new(socket, session), handshake));
            let stream = &mut self.streams[key];
            let token = Token(key.data().as_ffi() as usize);
            if stream.socket.socket.register(self.poll.registry(), token).is_err() {
                self.streams.remove(key);
                continue;
            }
            let mut conn = Conn::new(self.index, stream.socket.socket.number(), peer, ip, is_admin);
            conn.stream = key.data().as_ffi();
            stream.conn = self.hub.with(self.index, |table| table.connect(conn));
            let now = Instant::now();
            stream.silent = (!may_be_silent).then_some(now);
            self.watch(key, now);
        }
    }

    pub(super) fn close(&mut self, key: StreamKey) {
        self.watched.remove(&key);
        if let Some(mut stream) = self.streams.remove(key) {
            self.has_closed = true;
            stream.socket.finish();
            let _ = stream.socket.socket.deregister(self.poll.registry());
            self.hub.with(self.index, |table| table.disconnect(stream.conn));
        }
    }

    fn read(&mut self, key: StreamKey, now: Instant) {
        if !self.shake(key) {
            return;
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        let (hub, index) = (&self.hub, self.index);
        let mut ending = None;
        let fate = stream.read(&mut self.buffer, now, |conn, bytes| {
            hub.with(index, |table| super::stream::process(table, conn, bytes, now, &mut ending))
        });
        self.calls.reads += std::mem::take(&mut stream.calls.reads);
        match fate {
            Fate::Waits => {}
            Fate::HasMore => self.again.push(key),
            Fate::Closed => {
                let (conn, is_there) = (stream.conn, stream.socket.socket.is_unix());
                // Its peer sends nothing more, and may still listen.
                let stays = !stream.is_broken
                    && (hub.with(index, |table| table.half_close(conn, is_there)) || !stream.is_all_sent());
                if stays {
                    stream.end_input();
                } else {
                    self.close(key);
                }
            }
            Fate::Broken => self.close(key),
            Fate::Insecure => {
                let conn = stream.conn;
                hub.with(index, |table| {
                    table.note_insecure(conn, &"it breaks the rules of TLS, or does not trust the server")
                });
                self.part(key);
            }
        }
        self.watch(key, now);
        match ending {
            Some(Ending::Now) => self.hub.set_phase(ENDED),
            Some(Ending::Graceful) => self.hub.set_phase(DRAINING),
            None => {}
        }
    }

    /// Sends what there is to send. A peer to which nothing can be sent is gone, which others may have to be told.
    fn flush(&mut self) {
        loop {
            self.has_closed = false;
            self.flush_once();
            if !self.has_closed {
                break;
            }
        }
    }

    /// Sends what there is to send, each connection's in one piece.
    fn flush_once(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut streams: Vec<StreamKey> = Vec::with_capacity(8);
        let calls = std::mem::take(&mut self.calls);
        self.sent_bytes = 0;
        self.hub.take_dirty(self.index, calls, &mut self.sent, &mut dirty, |table, conn| {
            table.hand_over(conn);
            let conn = &mut table.conns[conn];
            let key = StreamKey::from(KeyData::from_ffi(conn.stream));
            if let Some(stream) = self.streams.get_mut(key) {
                stream.take_output(conn);
                streams.push(key);
            }
        });
        self.dirty = dirty;
        streams.into_iter().for_each(|stream| self.write(stream));
        if self.sent_bytes > UNTOLD {
            self.sent_bytes = 0;
            self.hub.with(self.index, |table| table.was_sent(&mut self.sent));
        }
    }

    pub(super) fn write(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.is_cut {
            return self.close(key);
        }
        let (was_held, before) = (stream.is_held_up(), stream.unsent());
        let sent = stream.write();
        let bytes = before - stream.unsent();
        if bytes > 0 {
            self.sent.push((stream.conn, bytes));
            self.sent_bytes += bytes;
        }
        self.calls.writes += std::mem::take(&mut stream.calls.writes);
        if sent.is_err() {
            return self.close(key);
        }
        if was_held && !stream.is_held_up() {
            stream.resume(Instant::now());
            self.again.push(key);
        }
        if stream.is_all_sent() && stream.is_closing && !stream.is_half_closed {
            // It is closed when the peer has seen the end, and ends, too.
            if stream.shut(Instant::now()) {
                self.again.push(key);
            }
        } else if stream.is_all_sent() && stream.is_half_closed {
            let conn = stream.conn;
            let is_over = stream.is_closing || self.hub.with(self.index, |table| table.is_silent(conn));
            if is_over {
                return self.close(key);
            }
        }
        self.watch(key, Instant::now());
    }

    // Deadlines.

    /// Notes whether a stream has a deadline.
    fn watch(&mut self, key: StreamKey, now: Instant) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let has_deadline = stream.has_deadline();
        if std::mem::replace(&mut stream.is_watched, has_deadline) == has_deadline {
            return;
        }
        if has_deadline {
            self.watched.insert(key);
            self.next_sweep.get_or_insert(now + SWEEP);
        } else {
            self.watched.remove(&key);
        }
    }

    /// Closes the streams whose deadline has passed.
    fn sweep(&mut self, now: Instant) {
        let settings = self.hub.with(self.index, |table| Arc::clone(&table.settings));
        let lateness = |key: &StreamKey| self.streams[*key].lateness(now, &settings).map(|late| (*key, late));
        let late: Vec<(StreamKey, Late)> = self.watched.iter().filter_map(lateness).collect();
        for (key, late) in late {
            let Stream { conn, is_closing, .. } = self.streams[key];
            let is_in_line = self.streams[key].is_in_line();
            let is_told = self.hub.with(self.index, |table| {
                match late {
                    // It was told, and has had its time.
                    _ if is_closing => return false,
                    Late::Parting => return false,
                    Late::Handshake => table.note_insecure(conn, &"the handshake takes too long"),
                    Late::Reading => table.note_deaf(conn),
                    Late::Message => table.lose_patience(conn, is_in_line, "this message takes too long"),
                    Late::First => table.lose_patience(conn, false, "nothing has come from here for too long"),
                }
                matches!(late, Late::Message | Late::First)
            });
            if !is_told {
                self.close(key);
            }
        }
        self.next_sweep = (!self.watched.is_empty()).then(|| now + SWEEP);
    }
}
