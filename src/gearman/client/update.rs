//! What is heard of a job before its end.

use crate::gearman::address::Address;
use std::fmt;
use std::sync::Arc;

/// Under which name a server knows a job: `H:host:17`, what Gearman calls its handle.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RemoteId {
    server: Arc<Address>,
    name: Arc<[u8]>,
}

impl RemoteId {
    /// A name that was kept somewhere.
    pub fn new(server: Address, name: impl AsRef<[u8]>) -> RemoteId {
        RemoteId { server: Arc::new(server), name: name.as_ref().into() }
    }

    pub(super) fn of(server: Arc<Address>, name: Arc<[u8]>) -> RemoteId {
        RemoteId { server, name }
    }

    /// The server.
    pub fn server(&self) -> &Address {
        &self.server
    }

    /// The name, any bytes.
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

impl fmt::Display for RemoteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name.escape_ascii())
    }
}

/// What is heard of a job before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteUpdate {
    /// The server has accepted it.
    Created(RemoteId),
    /// A part of the result.
    Data(Vec<u8>),
    /// Something went wrong, and the job goes on.
    Warning(Vec<u8>),
    /// How far it is, in units of its own.
    Status {
        /// What is done.
        numerator: u64,
        /// What there is in all; 0 when the worker does not say.
        denominator: u64,
    },
    /// The worker reported an exception. The attempt has failed.
    Exception(Vec<u8>),
    /// An attempt has failed, and the job is submitted again for the so-and-so-many-th time, from 1.
    Retry(u32),
}

/// Hears of updates.
pub(super) type Listener = Box<dyn FnMut(&RemoteUpdate) + Send>;

/// What a server knows of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RemoteStatus {
    /// Whether there is such a job. One that has ended is forgotten.
    pub is_known: bool,
    /// Whether a worker has it.
    pub is_running: bool,
    /// What is done, as the worker told it.
    pub numerator: u64,
    /// What there is in all.
    pub denominator: u64,
    /// How many clients wait for it. Only servers that were asked by unique key tell.
    pub clients: Option<u64>,
}
