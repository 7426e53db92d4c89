//! What is wrong with certificates, keys and names.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why TLS cannot be set up: a file that cannot be read, or what is no certificate, key or name.
///
/// Only with feature `tls` does anything fail with it.
#[derive(Debug, Clone)]
pub struct TlsError {
    /// With the file's name, where there is one.
    pub(super) what: String,
    pub(super) cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as &(dyn Error + 'static))
    }
}

/// With its cause in the text, since that of the outer error is all that is often shown.
impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> io::Error {
        let text = error.cause.as_ref().map(|cause| format!("{error}: {cause}"));
        match text {
            Some(what) => io::Error::new(io::ErrorKind::InvalidInput, TlsError { what, cause: error.cause }),
            None => io::Error::new(io::ErrorKind::InvalidInput, error),
        }
    }
}
