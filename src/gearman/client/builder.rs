//! A client's settings.

use super::error::ClientError;
use super::route::Routing;
use super::{Client, io};
use crate::gearman::address::Address;
use crate::gearman::packet::Limits;
use crate::gearman::secured::Connectors;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A client's settings, see [`Client::builder`](super::Client::builder).
#[derive(Debug, Clone)]
#[must_use = "a builder starts nothing until `start`"]
pub struct ClientBuilder {
    settings: Settings,
    servers: Vec<(Result<Vec<Address>, ClientError>, u32)>,
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// With their weights.
    pub(super) servers: Vec<(Address, u32)>,
    pub(super) routing: Routing,
    /// Decides where the turns begin.
    pub(super) seed: u64,
    pub(super) namespace: Vec<u8>,
    pub(super) exceptions: bool,
    pub(super) connect_timeout: Duration,
    pub(super) command_timeout: Option<Duration>,
    pub(super) patience: Duration,
    pub(super) backoff_max: Duration,
    pub(super) buffer: usize,
    pub(super) limits: Limits,
    pub(super) tls: Connectors,
}

impl ClientBuilder {
    pub(super) fn new() -> ClientBuilder {
        let settings = Settings {
            servers: Vec::new(),
            routing: Routing::default(),
            seed: RandomState::new().hash_one(0),
            namespace: Vec::new(),
            exceptions: true,
            connect_timeout: Duration::from_secs(5),
            command_timeout: Some(Duration::from_secs(30)),
            patience: Duration::from_secs(2),
            backoff_max: Duration::from_secs(90),
            buffer: 16 << 20,
            // Some tables have long lines.
            limits: Limits { line: 4 << 20, ..Limits::default() },
            tls: Connectors::default(),
        };
        ClientBuilder { settings, servers: Vec::new() }
    }

    /// Adds a server, or a list of them with commas between: see [`Address`].
    pub fn server(self, address: &str) -> Self {
        self.weighted_server(address, 1)
    }

    /// Adds a server that gets so many times the jobs of one with weight 1. At least 1.
    pub fn weighted_server(mut self, address: &str, weight: u32) -> Self {
        self.servers.push((Address::list(address).map_err(ClientError::from), weight.max(1)));
        self
    }

    /// Adds servers.
    pub fn servers(mut self, addresses: impl IntoIterator<Item = Address>) -> Self {
        self.servers.push((Ok(addresses.into_iter().collect()), 1));
        self
    }

    /// Adds a server, or a list of them, to be spoken to over TLS in a way of its own.
    #[cfg(feature = "tls")]
    pub fn tls_server(mut self, address: &str, tls: &crate::gearman::TlsClient) -> Self {
        for address in Address::list(address).unwrap_or_default() {
            self.settings.tls.set_own(address, tls);
        }
        self.server(address)
    }

    /// Speaks TLS to all servers, but for those on Unix sockets. What cannot be used of `tls`, [`start`](Self::start) tells.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: &crate::gearman::TlsClient) -> Self {
        self.settings.tls.set_all(tls);
        self
    }

    /// Which server gets a job. Default: [`Routing::UniqueHash`].
    pub fn routing(mut self, routing: Routing) -> Self {
        self.settings.routing = routing;
        self
    }

    /// Decides where the first job without a unique key goes, as jobs of many clients that submit one each should not all go to
    /// the first server: with 0 that is where it goes. Default: random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Puts a prefix and a tab before each function's name, so that clients and workers of several namespaces can share a
    /// server without seeing each other. Default: none.
    pub fn namespace(mut self, namespace: impl AsRef<[u8]>) -> Self {
        self.settings.namespace = namespace.as_ref().to_vec();
        self
    }

    /// Whether servers are asked to pass exceptions on; without, they are plain failures. Default: yes.
    pub fn exceptions(mut self, wanted: bool) -> Self {
        self.settings.exceptions = wanted;
        self
    }

    /// How long connecting may take. Default: 5 seconds.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        self
    }

    /// How long a server that owes an answer may be silent before the connection counts as lost; while jobs run it is asked
    /// that often whether it is still there. Zero: for ever. Default: 30 seconds.
    pub fn command_timeout(mut self, limit: Duration) -> Self {
        self.settings.command_timeout = Some(limit).filter(|limit| !limit.is_zero());
        self
    }

    /// How long a job waits when no server can be reached, while that is tried again and again. Default: 2 seconds.
    pub fn patience(mut self, limit: Duration) -> Self {
        self.settings.patience = limit;
        self
    }

    /// A server that fails n times in a row is asked only when there is no other, for n squared seconds, up to this.
    /// Default: 90 seconds.
    pub fn backoff_max(mut self, most: Duration) -> Self {
        self.settings.backoff_max = most;
        self
    }

    /// How many bytes of jobs may wait to be written, over all servers. Beyond that submits block, or pend. One job is
    /// always let through, however large. Default: 16 MiB.
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.settings.buffer = bytes;
        self
    }

    /// The largest packet that is taken. Default: 64 MiB and a bit.
    pub fn packet_limit(mut self, bytes: usize) -> Self {
        self.settings.limits.body = bytes;
        self
    }

    /// Starts the client's thread. Connections are made when they are needed.
    ///
    /// # Errors
    /// [`ClientError::Address`] for an address that is none, or for no address at all, [`ClientError::Tls`], and
    /// [`ClientError::Start`].
    pub fn start(self) -> Result<Client, ClientError> {
        self.settings().and_then(io::start)
    }

    /// What was set, checked.
    pub(super) fn settings(self) -> Result<Settings, ClientError> {
        let ClientBuilder { mut settings, servers } = self;
        for (addresses, weight) in servers {
            settings.servers.extend(addresses?.into_iter().map(|address| (address, weight)));
        }
        if let Some(error) = settings.tls.wrong.take() {
            return Err(ClientError::Tls(error));
        }
        if settings.servers.is_empty() {
            return Err(Address::list("").map_or_else(ClientError::from, |_| ClientError::Closed));
        }
        if settings.namespace.contains(&0) {
            return Err(ClientError::InvalidJob("a namespace holds a NUL, which the protocol cannot say"));
        }
        Ok(settings)
    }
}
