//! The server's side: options, and what new connections take from them.

use super::error::TlsError;
use super::pem::{self, Pem};
use super::session::Session;
use crate::sync::Mutex;
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How a server's listener does TLS: see [`ServerBuilder::listen_tls`](crate::gearman::ServerBuilder::listen_tls).
///
/// TLS 1.2 and 1.3 are spoken. Files are read when the server starts, and again by
/// [`Server::reload_tls`](crate::gearman::Server::reload_tls).
///
/// ```no_run
/// use layshaft::gearman::Tls;
///
/// let tls = Tls::files("/etc/jobs/server.pem", "/etc/jobs/server.key").client_ca_file("/etc/jobs/clients.pem");
/// ```
#[derive(Debug, Clone)]
#[must_use = "it is for `ServerBuilder::listen_tls`"]
pub struct Tls {
    chain: Pem,
    key: Pem,
    client_ca: Vec<Pem>,
    is_client_optional: bool,
    are_known_admins: bool,
    is_only_newest: bool,
    handshake: Duration,
}

impl Tls {
    /// With the server's certificate, and those up to but not including the authority's, in one PEM file, and the key in another.
    pub fn files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Tls {
        Tls::new(Pem::File(chain.into()), Pem::File(key.into()))
    }

    /// The same from memory.
    pub fn pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Tls {
        Tls::new(Pem::Bytes(chain.into()), Pem::Bytes(key.into()))
    }

    fn new(chain: Pem, key: Pem) -> Tls {
        Tls {
            chain,
            key,
            client_ca: Vec::new(),
            is_client_optional: false,
            are_known_admins: false,
            is_only_newest: false,
            handshake: Duration::from_secs(5),
        }
    }

    /// Peers need a certificate of an authority in this PEM file. May be called several times. Default: they need none.
    pub fn client_ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.client_ca.push(Pem::File(file.into()));
        self
    }

    /// The same from memory.
    pub fn client_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.client_ca.push(Pem::Bytes(pem.into()));
        self
    }

    /// Whether peers may come without a certificate although there is an authority for them: one that is shown must be good
    /// all the same. Default: no.
    pub fn client_optional(mut self, optional: bool) -> Self {
        self.is_client_optional = optional;
        self
    }

    /// Whether peers with a certificate may use text commands that change something, wherever they are. Default: no.
    pub fn admin_by_certificate(mut self, allow: bool) -> Self {
        self.are_known_admins = allow;
        self
    }

    /// Whether TLS 1.2 is refused. Default: no.
    pub fn only_1_3(mut self, only: bool) -> Self {
        self.is_only_newest = only;
        self
    }

    /// How long a handshake may take. Default: 5 s.
    pub fn handshake_deadline(mut self, limit: Duration) -> Self {
        self.handshake = limit;
        self
    }

    /// Whether nobody gets in without a certificate.
    pub fn requires_client_certificate(&self) -> bool {
        !self.client_ca.is_empty() && !self.is_client_optional
    }

    /// Reads all files, as a server does when it starts.
    ///
    /// # Errors
    /// What cannot be read or used.
    pub fn check(&self) -> Result<(), TlsError> {
        self.config().map(drop)
    }

    fn config(&self) -> Result<ServerConfig, TlsError> {
        let unusable = |error| pem::failed("TLS cannot be set up".to_owned(), error);
        let builder = ServerConfig::builder_with_provider(pem::provider())
            .with_protocol_versions(pem::versions(self.is_only_newest))
            .map_err(unusable)?;
        let builder = if self.client_ca.is_empty() {
            builder.with_no_client_auth()
        } else {
            let roots = Arc::new(pem::roots(&self.client_ca)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, pem::provider());
            let verifier = if self.is_client_optional { verifier.allow_unauthenticated() } else { verifier };
            let built = verifier.build();
            builder.with_client_cert_verifier(
                built.map_err(|error| pem::failed("peers cannot be verified".to_owned(), error))?,
            )
        };
        let fits = builder.with_single_cert(self.chain.chain()?, self.key.key()?);
        fits.map_err(|error| pem::failed(format!("{} and {} do not fit", self.chain, self.key), error))
    }
}

/// What a listener gives its new connections.
#[derive(Debug)]
pub(crate) struct Acceptor {
    tls: Tls,
    config: Mutex<Arc<ServerConfig>>,
}

impl Acceptor {
    pub(crate) fn new(tls: Tls) -> Result<Acceptor, TlsError> {
        let config = Mutex::new(Arc::new(tls.config()?));
        Ok(Acceptor { tls, config })
    }

    /// Reads all again, or none: a server does not go on with half of it. Sessions of before are not resumed: they are those
    /// of peers that may not come any more.
    pub(crate) fn reload(all: &[Arc<Acceptor>]) -> Result<(), TlsError> {
        let configs = all.iter().map(|acceptor| acceptor.tls.config()).collect::<Result<Vec<_>, _>>()?;
        for (acceptor, config) in all.iter().zip(configs) {
            *acceptor.config.lock() = Arc::new(config);
        }
        Ok(())
    }

    pub(crate) fn session(&self) -> io::Result<Session> {
        let config = Arc::clone(&self.config.lock());
        let tls = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Session::new(tls.into()))
    }

    pub(crate) fn handshake(&self) -> Duration {
        self.tls.handshake
    }

    /// Whether nobody gets in without a certificate.
    pub(crate) fn requires_client_certificate(&self) -> bool {
        self.tls.requires_client_certificate()
    }

    pub(crate) fn are_known_admins(&self) -> bool {
        self.tls.are_known_admins
    }
}
