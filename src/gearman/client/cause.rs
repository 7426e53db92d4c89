//! Why a connection is over.

use super::error::ClientError;
use crate::gearman::packet::{Kind, Packet, PacketError};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why a connection is over.
#[derive(Debug, Clone)]
pub(super) enum Cause {
    Closed,
    Connect(Arc<io::Error>),
    Io(Arc<io::Error>),
    /// The two sides do not trust each other, or one of them speaks no TLS.
    Insecure(Arc<io::Error>),
    Packet(PacketError),
    Unexpected(Kind),
    Foreign(&'static str),
    /// It takes no connection from here, or none at present.
    Refused {
        code: String,
        text: String,
    },
    Silent(Duration),
}

/// The code of the error that our server sends to who speaks no TLS.
const TLS_REQUIRED: &[u8] = b"tls_required";
/// To who may not come, whenever.
const NOT_ALLOWED: &str = "peer_not_allowed";
/// To who is one too many.
const TOO_MANY: &str = "too_many_connections";

impl Cause {
    /// The error of whoever was waiting for an answer.
    pub(super) fn error(&self, server: &impl ToString) -> ClientError {
        let server = server.to_string();
        match self.clone() {
            Cause::Closed => ClientError::Disconnected { server },
            Cause::Io(error) | Cause::Connect(error) => ClientError::Io { server, error },
            Cause::Insecure(error) => ClientError::Insecure { server, error },
            Cause::Packet(error) => ClientError::Packet { server, error },
            Cause::Unexpected(kind) => ClientError::Unexpected { server, kind },
            Cause::Foreign(protocol) => ClientError::NotGearman { server, protocol },
            Cause::Refused { code, text } => ClientError::Server { server, code, text },
            Cause::Silent(after) => ClientError::Silent { server, after },
        }
    }

    /// Whether trying again would show the same.
    pub(super) fn is_hopeless(&self) -> bool {
        match self {
            Cause::Refused { code, .. } => code == NOT_ALLOWED,
            other => other.is_refusal(),
        }
    }

    /// Whether nobody there has understood anything.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Cause::Foreign(_) | Cause::Insecure(_) | Cause::Refused { .. })
    }

    /// Why a connection is none, when this is the first packet on it: an error that is no answer to anything.
    pub(super) fn of_first(packet: &Packet<'_>) -> Option<Cause> {
        if packet.kind != Kind::Error {
            return None;
        }
        let code = packet.arg(0);
        if code == TLS_REQUIRED {
            return Some(Cause::Foreign("TLS"));
        }
        let text = |at| String::from_utf8_lossy(packet.arg(at)).into_owned();
        let is_refusal = [NOT_ALLOWED, TOO_MANY].iter().any(|known| known.as_bytes() == code);
        is_refusal.then(|| Cause::Refused { code: text(0), text: text(1) })
    }

    /// Why there is no connection.
    pub(super) fn of_connect(error: io::Error) -> Cause {
        match error.kind() {
            io::ErrorKind::InvalidData => Cause::Insecure(Arc::new(error)),
            _ => Cause::Connect(Arc::new(error)),
        }
    }
}

/// In a few words, for [`ClientError::NoServer`].
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Closed => f.write_str("it closed the connection"),
            Cause::Connect(error) | Cause::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => f.write_str("refused"),
                io::ErrorKind::TimedOut => f.write_str("no answer"),
                io::ErrorKind::NotFound => f.write_str("not found"),
                _ => error.fmt(f),
            },
            Cause::Insecure(error) => error.fmt(f),
            Cause::Packet(error) => error.fmt(f),
            Cause::Unexpected(kind) => write!(f, "sent {kind} for nothing"),
            Cause::Foreign(protocol) => write!(f, "speaks {protocol}, not Gearman"),
            Cause::Refused { text, .. } => f.write_str(text),
            Cause::Silent(_) => f.write_str("does not answer"),
        }
    }
}
