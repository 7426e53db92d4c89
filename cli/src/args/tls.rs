//! How to speak TLS with servers.

use layshaft::gearman::TlsClient;
use std::path::PathBuf;

/// How to speak TLS with servers.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct Tls {
    /// Speak TLS with the servers, and trust the authorities in FILE, in PEM
    #[arg(long = "tls-ca", value_name = "FILE", env = "LAYSHAFT_TLS_CA", hide_env = true)]
    ca: Option<PathBuf>,

    /// The certificate to show to servers, and those between it and the authority's, in PEM
    #[arg(long = "tls-cert", value_name = "FILE", env = "LAYSHAFT_TLS_CERT", hide_env = true)]
    #[arg(requires_all = ["ca", "key"])]
    cert: Option<PathBuf>,

    /// The key of that certificate, in PEM
    #[arg(long = "tls-key", value_name = "FILE", env = "LAYSHAFT_TLS_KEY", hide_env = true)]
    #[arg(requires_all = ["ca", "cert"])]
    key: Option<PathBuf>,

    /// The name in the servers' certificates [default: the host of the address]
    #[arg(long = "tls-name", value_name = "NAME", env = "LAYSHAFT_TLS_NAME", hide_env = true, requires = "ca")]
    name: Option<String>,
}

impl Tls {
    /// As the library wants it; `None`: without TLS.
    pub(crate) fn options(&self) -> Option<TlsClient> {
        let mut tls = TlsClient::ca_file(self.ca.as_ref()?);
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity_files(cert, key);
        }
        Some(self.name.iter().fold(tls, TlsClient::server_name))
    }
}
