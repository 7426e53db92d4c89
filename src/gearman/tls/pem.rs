//! Certificates and keys as they come: files, or bytes, in PEM.

use super::error::TlsError;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A file, read when it is needed, or what would be in it.
#[derive(Clone)]
pub(super) enum Pem {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// Without what may be a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => path.fmt(f),
            Pem::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// For messages.
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => path.display().fmt(f),
            Pem::Bytes(_) => f.write_str("the given text"),
        }
    }
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Pem::File(path) => std::fs::read(path).map_err(|error| failed(format!("cannot read {self}"), error)),
            Pem::Bytes(bytes) => Ok(bytes.clone()),
        }
    }

    /// One certificate or more.
    pub(super) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let text = self.read()?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|error| failed(format!("{self} is not in PEM"), error))?;
        if chain.is_empty() {
            return Err(TlsError { what: format!("{self} holds no certificate"), cause: None });
        }
        Ok(chain)
    }

    /// The first private key.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.read()?)
            .map_err(|error| failed(format!("{self} holds no private key that can be read"), error))
    }
}

/// The certificates of all of these as those of authorities.
pub(super) fn roots(pems: &[Pem]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        for certificate in pem.chain()? {
            let added = roots.add(certificate);
            added.map_err(|error| failed(format!("{pem} holds a certificate that is none of an authority"), error))?;
        }
    }
    Ok(roots)
}

pub(super) fn failed(what: String, cause: impl Error + Send + Sync + 'static) -> TlsError {
    TlsError { what, cause: Some(Arc::new(cause)) }
}

/// The one that is compiled in, whatever else this process has.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The versions that are spoken, of those that there are.
pub(super) fn versions(only_newest: bool) -> &'static [&'static rustls::SupportedProtocolVersion] {
    const NEWEST: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
    if only_newest { NEWEST } else { rustls::ALL_VERSIONS }
}
