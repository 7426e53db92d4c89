//! Why a client could not do what was asked.

use crate::gearman::address::AddressError;
use crate::gearman::packet::{Kind, PacketError};
use crate::gearman::tls::TlsError;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why a client could not do what was asked.
///
/// Cloning is cheap: when a connection is lost, all that waited for it hear of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientError {
    /// An address of a server cannot be read.
    Address(AddressError),
    /// What was said of TLS cannot be used.
    Tls(TlsError),
    /// The client cannot start: the system refuses a thread or a descriptor.
    Start(Arc<io::Error>),
    /// What was asked for cannot be said on the wire.
    InvalidJob(&'static str),
    /// No server could be reached. The text names each, with the reason.
    NoServer(String),
    /// The connection was lost while the server had the job. It may have run.
    Lost {
        /// The server's address.
        server: String,
        /// What happened.
        why: String,
    },
    /// The connection broke.
    Io {
        /// The server's address.
        server: String,
        /// What the system says.
        error: Arc<io::Error>,
    },
    /// The client and the server do not trust each other, or the server speaks no TLS.
    Insecure {
        /// The server's address.
        server: String,
        /// What is wrong.
        error: Arc<io::Error>,
    },
    /// The server closed the connection, and had not answered.
    Disconnected {
        /// The server's address.
        server: String,
    },
    /// The server sent what is no packet.
    Packet {
        /// The server's address.
        server: String,
        /// What is wrong with it.
        error: PacketError,
    },
    /// The server answered what nobody had asked.
    Unexpected {
        /// The server's address.
        server: String,
        /// The answer.
        kind: Kind,
    },
    /// Something else listens there.
    NotGearman {
        /// The server's address.
        server: String,
        /// What it seems to speak.
        protocol: &'static str,
    },
    /// The server owes an answer, and gave none for so long. The job may run.
    Silent {
        /// The server's address.
        server: String,
        /// How long the answer was waited for.
        after: Duration,
    },
    /// The server refused.
    Server {
        /// The server's address.
        server: String,
        /// Its code, for programs.
        code: String,
        /// Its text, for people.
        text: String,
    },
    /// The worker reported that the job failed.
    Failed,
    /// The worker reported an exception, with these bytes.
    Exception(Vec<u8>),
    /// The job has not ended in time. It may still run.
    TimedOut {
        /// The limit of the job, or of its last attempt.
        after: Duration,
        /// How often it was submitted.
        attempts: u32,
    },
    /// The client is gone.
    Closed,
    /// A wait on the client's own thread, in a listener: nobody would be left to end it.
    WouldNeverEnd,
}

impl ClientError {
    /// Whether it is about reaching a server, or talking to it; not about the job.
    pub fn is_connection(&self) -> bool {
        use ClientError::{Disconnected, Insecure, Io, Lost, NoServer, NotGearman, Packet, Unexpected};
        matches!(
            self,
            NoServer(_)
                | Lost { .. }
                | Insecure { .. }
                | Io { .. }
                | Disconnected { .. }
                | Packet { .. }
                | Unexpected { .. }
                | NotGearman { .. }
        )
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LOST: &str = "the job may have run; one with a unique key, or with resubmit(true), is submitted again";
        match self {
            ClientError::Address(error) => error.fmt(f),
            ClientError::Tls(error) => error.fmt(f),
            ClientError::Start(_) => f.write_str("the client cannot start"),
            ClientError::InvalidJob(why) => f.write_str(why),
            ClientError::NoServer(which) => write!(f, "no server at {which}"),
            ClientError::Insecure { server, .. } => write!(f, "no secure connection to {server}"),
            ClientError::Lost { server, why } => write!(f, "the connection to {server} was lost ({why}): {LOST}"),
            ClientError::Io { server, .. } => write!(f, "the connection to {server} broke"),
            ClientError::Disconnected { server } => {
                write!(f, "{server} closed the connection without an answer; is it a Gearman server?")
            }
            ClientError::Packet { server, .. } => write!(f, "{server} sent what is no Gearman packet"),
            ClientError::Unexpected { server, kind } => {
                write!(f, "{server} answered {kind} to nothing that was asked, so its answers cannot be told apart")
            }
            ClientError::NotGearman { server, protocol } => {
                write!(f, "the peer at {server} speaks {protocol}, not Gearman; is the port right?")
            }
            ClientError::Silent { server, after } => {
                write!(
                    f,
                    "no answer from {server} within {:.1} s: it hangs, or is no Gearman server",
                    after.as_secs_f64()
                )
            }
            ClientError::Server { server, code, text } => {
                write!(f, "{server} refused: {} ({})", text.escape_debug(), code.escape_debug())
            }
            ClientError::Failed => f.write_str("the worker reported that the job failed"),
            ClientError::Exception(bytes) => {
                let cut = &bytes[..bytes.len().min(200)];
                let text = String::from_utf8_lossy(cut);
                let more = if cut.len() < bytes.len() { "..." } else { "" };
                write!(f, "the worker reported an exception: {}{more}", text.escape_debug())
            }
            ClientError::TimedOut { after, attempts: 0 | 1 } => {
                write!(f, "no result within {:.1} s: is there a worker?", after.as_secs_f64())
            }
            ClientError::TimedOut { after, attempts } => {
                write!(f, "no result within {:.1} s, in {attempts} attempts: is there a worker?", after.as_secs_f64())
            }
            ClientError::Closed => f.write_str("the client is closed"),
            ClientError::WouldNeverEnd => {
                f.write_str("a wait inside a listener would never end: the client's thread is busy with the listener")
            }
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ClientError::Start(error) | ClientError::Io { error, .. } | ClientError::Insecure { error, .. } => {
                Some(error)
            }
            ClientError::Packet { error, .. } => Some(error),
            ClientError::Tls(error) => error.source(),
            _ => None,
        }
    }
}

impl From<AddressError> for ClientError {
    fn from(error: AddressError) -> ClientError {
        ClientError::Address(error)
    }
}
