//! Connections that are to be secure first: handshakes go on an event at a time, and end in time.

use super::command::code;
use super::shard::{Shard, StreamKey};
use super::stream::Stream;
use crate::gearman::packet::{self, Kind, Magic};
use crate::gearman::text;
use crate::gearman::tls::{Acceptor, Shake};
use std::io::{self, Write};
use std::time::Instant;

/// A handshake that goes on.
pub(super) struct Handshake {
    /// When it ends.
    pub(super) until: Option<Instant>,
    /// Whoever has a certificate may change things.
    are_known_admins: bool,
}

impl Handshake {
    pub(super) fn new(acceptor: &Acceptor, now: Instant) -> Handshake {
        let until = now.checked_add(acceptor.handshake());
        Handshake { until, are_known_admins: acceptor.are_known_admins() }
    }
}

impl Shard {
    /// Goes on with a handshake, if there is one. Whether the stream can be read now.
    pub(super) fn shake(&mut self, key: StreamKey) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let Some(handshake) = &stream.handshake else { return true };
        match stream.socket.shake() {
            Some(Shake::Waits) => false,
            None | Some(Shake::Done) => {
                let is_admin = handshake.are_known_admins && stream.socket.is_known();
                stream.handshake = None;
                let conn = stream.conn;
                if is_admin {
                    self.hub.with(self.index, |table| table.conns[conn].is_admin = true);
                }
                true
            }
            Some(Shake::NotTls(first)) => {
                self.hub.with(self.index, |table| table.note_plain(stream.conn));
                // What does not fit is not worth waiting for.
                let _ = stream.socket.socket.write(&plain_refusal(first));
                self.part(key);
                false
            }
            Some(Shake::Failed(error)) => {
                self.hub.with(self.index, |table| table.note_insecure(stream.conn, &error));
                // It has gone, or it is to be told why.
                if error.kind() == io::ErrorKind::InvalidData {
                    self.part(key)
                } else {
                    self.close(key)
                }
                false
            }
        }
    }

    /// Closes a connection when its peer has seen why.
    pub(super) fn part(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.handshake = None;
            stream.is_closing = true;
            self.write(key);
        }
    }
}

impl Stream {
    pub(super) fn is_handshake_late(&self, now: Instant) -> bool {
        self.handshake.as_ref().is_some_and(|handshake| handshake.until.is_some_and(|until| until < now))
    }
}

/// What a peer that speaks without TLS can read: a packet, or a line.
fn plain_refusal(first: u8) -> Vec<u8> {
    const WHY: &str = "this port speaks TLS only";
    if first != 0 {
        return text::refusal(code::TLS_REQUIRED, WHY).into_bytes();
    }
    let mut packet = Vec::new();
    packet::encode(&mut packet, Magic::Response, Kind::Error, &[code::TLS_REQUIRED.as_bytes(), WHY.as_bytes()]);
    packet
}
