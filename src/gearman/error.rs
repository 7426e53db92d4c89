//! What can go wrong between two peers.

use super::packet::PacketError;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

/// Why a peer could not be reached, or a conversation with it ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The connection could not be made, or broke.
    Io(io::Error),
    /// The peer sent what is no packet.
    Packet(PacketError),
    /// Something else is there.
    NotGearman {
        /// What it speaks.
        protocol: &'static str,
    },
    /// The server answered with an error.
    Server {
        /// Its code, for programs.
        code: String,
        /// Its text, for people.
        text: String,
    },
    /// The peer owes an answer, and gave none for so long.
    Silent(Duration),
    /// The peer closed the connection.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(_) => f.write_str("the connection failed"),
            Error::Packet(_) => f.write_str("the peer does not speak the Gearman protocol"),
            Error::NotGearman { protocol } => write!(f, "the peer speaks {protocol}, not Gearman"),
            Error::Server { code, text } => {
                write!(f, "the server says {}: {}", code.escape_debug(), text.escape_debug())
            }
            Error::Silent(time) => write!(f, "no answer for {:.1} s", time.as_secs_f64()),
            Error::Closed => f.write_str("the peer closed the connection"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Io(error) => Some(error),
            Error::Packet(error) => Some(error),
            Error::NotGearman { .. } | Error::Server { .. } | Error::Silent(_) | Error::Closed => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

impl From<PacketError> for Error {
    fn from(error: PacketError) -> Error {
        Error::Packet(error)
    }
}

/// What is spoken by a peer that says such a line where packets are expected, if that is known.
pub(super) fn protocol_of(line: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 5] =
        [(b"HTTP/", "HTTP"), (b"<!DOCTYPE", "HTTP"), (b"<html", "HTTP"), (b"SSH-", "SSH"), (b"-ERR", "Redis")];
    known.iter().find(|(begin, _)| line.starts_with(begin)).map(|(_, protocol)| *protocol)
}
