//! TLS between servers and their peers: with [rustls], which does no I/O of its own.
//!
//! A [`Session`] stands between a socket and whoever reads and writes messages. Servers shake hands without waiting for it, an
//! event at a time, since there are many peers and some of them are not in earnest. Clients and workers connect on threads of
//! their own anyway, for names to be looked up, and shake hands there.

mod acceptor;
mod connector;
mod error;
mod pem;
mod session;

pub use acceptor::Tls;
pub use connector::TlsClient;
pub use error::TlsError;

pub(crate) use acceptor::Acceptor;
pub(crate) use connector::Connector;
pub(crate) use session::{Session, Shake};
