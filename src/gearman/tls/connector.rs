//! The side of clients and workers: options, and how a connection is made with them.

use super::error::TlsError;
use super::pem::{self, Pem};
use super::session::{Session, Shake};
use crate::gearman::address::{Address, Connected};
use crate::gearman::secured::Connectors;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a client or a worker does TLS with servers: see [`ClientBuilder::tls`](crate::gearman::ClientBuilder::tls) and
/// [`WorkerBuilder::tls`](crate::gearman::worker::WorkerBuilder::tls).
///
/// TLS 1.2 and 1.3 are spoken. Which authorities are trusted has to be said; those of the system are in a file, too, which
/// Debian has at `/etc/ssl/certs/ca-certificates.crt`.
///
/// ```no_run
/// use layshaft::gearman::TlsClient;
///
/// let tls = TlsClient::ca_file("/etc/jobs/ca.pem").identity_files("/etc/jobs/client.pem", "/etc/jobs/client.key");
/// ```
#[derive(Debug, Clone)]
#[must_use = "it is for `tls` of a builder"]
pub struct TlsClient {
    ca: Vec<Pem>,
    name: Option<String>,
    identity: Option<(Pem, Pem)>,
    is_only_newest: bool,
}

impl TlsClient {
    /// Trusts the authorities whose certificates are in this PEM file.
    pub fn ca_file(file: impl Into<PathBuf>) -> TlsClient {
        TlsClient::new(Pem::File(file.into()))
    }

    /// The same from memory.
    pub fn ca_pem(pem: impl Into<Vec<u8>>) -> TlsClient {
        TlsClient::new(Pem::Bytes(pem.into()))
    }

    fn new(ca: Pem) -> TlsClient {
        TlsClient { ca: vec![ca], name: None, identity: None, is_only_newest: false }
    }

    /// The name that is to be in servers' certificates: a name, or an IP address. Default: the host of the server's address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The certificate to show to servers that want one, and those up to but not including the authority's, in one PEM file, and the key in another.
    pub fn identity_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((Pem::File(chain.into()), Pem::File(key.into())));
        self
    }

    /// The same from memory.
    pub fn identity_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((Pem::Bytes(chain.into()), Pem::Bytes(key.into())));
        self
    }

    /// Whether TLS 1.2 is refused. Default: no.
    pub fn only_1_3(mut self, only: bool) -> Self {
        self.is_only_newest = only;
        self
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(pem::provider())
            .with_protocol_versions(pem::versions(self.is_only_newest))
            .map_err(|error| pem::failed("TLS cannot be set up".to_owned(), error))?
            .with_root_certificates(pem::roots(&self.ca)?);
        let Some((chain, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let fits = builder.with_client_auth_cert(chain.chain()?, key.key()?);
        fits.map_err(|error| pem::failed(format!("{chain} and {key} do not fit"), error))
    }
}

/// What connections are made with.
#[derive(Debug)]
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl Connector {
    pub(crate) fn new(tls: &TlsClient) -> Result<Connector, TlsError> {
        let name = tls.name.clone().map(|name| {
            let what = format!("{name:?} is no name of a server");
            ServerName::try_from(name).map_err(|error| pem::failed(what, error))
        });
        Ok(Connector { config: Arc::new(tls.config()?), name: name.transpose()? })
    }

    /// Connects, and blocks until both sides have met.
    pub(crate) fn connect(&self, address: &Address, limit: Duration) -> io::Result<(Connected, Option<Session>)> {
        let end = Instant::now().checked_add(limit);
        let connected = address.connect(limit)?;
        let (Connected::Tcp(stream), Address::Tcp { host, .. }) = (&connected, address) else {
            // It does not leave the machine.
            return Ok((connected, None));
        };
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                ServerName::try_from(host.clone()).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?
            }
        };
        let tls = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let mut session = Session::new(tls.into());
        match session.shake(&mut Until { stream, end }) {
            Shake::Done => Ok((connected, Some(session))),
            Shake::Waits => Err(ErrorKind::TimedOut.into()),
            Shake::NotTls(_) => Err(io::Error::new(ErrorKind::InvalidData, "the server speaks no TLS there")),
            Shake::Failed(error) => Err(error),
        }
    }
}

impl Connectors {
    /// Speaks so to all servers that are not told otherwise.
    pub(crate) fn set_all(&mut self, tls: &TlsClient) {
        self.all = self.make(tls);
    }

    /// Speaks so to this server.
    pub(crate) fn set_own(&mut self, address: Address, tls: &TlsClient) {
        let connector = self.make(tls);
        self.own.extend(connector.map(|connector| (address, connector)));
    }

    fn make(&mut self, tls: &TlsClient) -> Option<Arc<Connector>> {
        match Connector::new(tls) {
            Ok(connector) => Some(Arc::new(connector)),
            Err(error) => {
                self.wrong.get_or_insert(error);
                None
            }
        }
    }
}

/// A socket that blocks until a time.
struct Until<'a> {
    stream: &'a TcpStream,
    end: Option<Instant>,
}

impl Until<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        (&mut &*self.stream).read(buffer)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        (&mut &*self.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
