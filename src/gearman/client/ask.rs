//! Questions that are no jobs: status, echo, text commands.

use super::error::ClientError;
use super::reply::Completer;
use super::text::{Text, TextAnswer};
use super::update::{RemoteId, RemoteStatus};
use crate::gearman::packet::{Kind, Magic, Packet, encode};

/// A question, and who wants the answer.
pub(super) struct Question {
    pub(super) ask: Ask,
    /// The one server that can answer.
    pub(super) server: Option<usize>,
    /// How many servers were lost over it.
    pub(super) losses: usize,
}

pub(super) enum Ask {
    Status(RemoteId, Completer<RemoteStatus>),
    StatusUnique(Vec<u8>, Completer<RemoteStatus>),
    Echo(Vec<u8>, Completer<Vec<u8>>),
    Text(Text, Completer<TextAnswer>),
}

impl Question {
    /// What it is about, if that says who can answer.
    pub(super) fn key(&self) -> Option<&[u8]> {
        match &self.ask {
            Ask::StatusUnique(key, _) => Some(key),
            _ => None,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut packet = |kind, arg: &[u8]| encode(out, Magic::Request, kind, &[arg]);
        match &self.ask {
            Ask::Status(id, _) => packet(Kind::GetStatus, id.name()),
            Ask::StatusUnique(key, _) => packet(Kind::GetStatusUnique, key),
            Ask::Echo(bytes, _) => packet(Kind::EchoReq, bytes),
            Ask::Text(text, _) => {
                out.extend_from_slice(&text.line);
                out.push(b'\n');
            }
        }
    }

    /// Whether this packet answers it.
    pub(super) fn is_answered_by(&self, packet: &Packet<'_>) -> bool {
        match (&self.ask, packet.kind) {
            (Ask::Status(id, _), Kind::StatusRes) => packet.arg(0) == id.name(),
            (Ask::StatusUnique(key, _), Kind::StatusResUnique) => packet.arg(0) == key,
            (Ask::Echo(bytes, _), Kind::EchoRes) => packet.arg(0) == bytes,
            _ => false,
        }
    }

    /// Gives the answer, which is one.
    pub(super) fn answer(self, packet: &Packet<'_>) {
        let status = |clients| RemoteStatus {
            is_known: packet.arg(1) == b"1",
            is_running: packet.arg(2) == b"1",
            numerator: number(packet.arg(3)),
            denominator: number(packet.arg(4)),
            clients,
        };
        match self.ask {
            Ask::Status(_, completer) => completer.complete(Ok(status(None))),
            Ask::StatusUnique(_, completer) => completer.complete(Ok(status(Some(number(packet.arg(5)))))),
            Ask::Echo(_, completer) => completer.complete(Ok(packet.arg(0).to_vec())),
            Ask::Text(..) => {}
        }
    }

    pub(super) fn fail(self, error: ClientError) {
        match self.ask {
            Ask::Status(_, completer) | Ask::StatusUnique(_, completer) => completer.complete(Err(error)),
            Ask::Echo(_, completer) => completer.complete(Err(error)),
            Ask::Text(_, completer) => completer.complete(Err(error)),
        }
    }
}

/// A number as it is written on the wire; what is none counts as 0. Some workers end theirs with a NUL.
pub(super) fn number(text: &[u8]) -> u64 {
    let digits = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    std::str::from_utf8(&text[..digits]).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_far_as_they_go() {
        assert_eq!([&b"12"[..], b"12\0", b"", b"-1", b"99999999999999999999"].map(number), [12, 12, 0, 0, 0]);
    }
}
