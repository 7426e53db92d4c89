//! Where a server listens: `host:port`, `[::1]:4730`, `unix:/path`.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// The port that servers listen on unless told otherwise.
pub const PORT: u16 = 4730;

/// Where a server listens.
///
/// ```
/// use layshaft::gearman::Address;
///
/// let address = |text: &str| text.parse::<Address>().unwrap().to_string();
/// assert_eq!(address("jobs.example"), "jobs.example:4730");
/// assert_eq!(address("[::1]:7003"), "[::1]:7003");
/// assert_eq!(address("/run/jobs.sock"), "unix:/run/jobs.sock");
/// assert_eq!(Address::list("a, b:99").unwrap().len(), 2);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A name or a number, and a port.
    Tcp {
        /// Without the brackets of a version 6 address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError {
    text: String,
    why: &'static str,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no address of a server: {}", self.text, self.why)?;
        f.write_str("; write host:port, [::1]:port or unix:/path")
    }
}

impl Error for AddressError {}

/// A connection, of either kind.
#[derive(Debug)]
pub(crate) enum Connected {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

impl Address {
    /// Reads a list with commas or white space between its entries, as in the variable `GEARMAN_SERVERS`.
    ///
    /// # Errors
    /// [`AddressError`] for the first entry that is none, and for a list without entries.
    pub fn list(text: &str) -> Result<Vec<Address>, AddressError> {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        let list: Vec<Address> = entries.map(str::parse).collect::<Result<_, _>>()?;
        match list.is_empty() {
            true => Err(AddressError { text: text.to_owned(), why: "the list is empty" }),
            false => Ok(list),
        }
    }

    /// Connects, and blocks while it does: names are looked up by the system's resolver, which can do no other. All
    /// addresses of a name share the time, to which the resolver does not keep.
    ///
    /// # Errors
    /// The last address's, or that the name has none.
    pub(crate) fn connect(&self, timeout: Duration) -> io::Result<Connected> {
        let (host, port) = match self {
            Address::Tcp { host, port } => (host.as_str(), *port),
            #[cfg(unix)]
            Address::Unix(path) => return connect_unix(path, timeout).map(Connected::Unix),
            #[cfg(not(unix))]
            Address::Unix(_) => return Err(io::Error::from(io::ErrorKind::Unsupported)),
        };
        // None if that is beyond what the clock can tell.
        let end = Instant::now().checked_add(timeout);
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host, port).to_socket_addrs()? {
            let left = end.map_or(timeout, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match TcpStream::connect_timeout(&address, left) {
                Ok(stream) => {
                    // Packets are written whole; waiting for more would only delay them. Works without.
                    let _ = stream.set_nodelay(true);
                    return Ok(Connected::Tcp(stream));
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// Where nobody accepts and the queue is full, a connect waits for as long as a write may.
#[cfg(unix)]
fn connect_unix(path: &std::path::Path, timeout: Duration) -> io::Result<std::os::unix::net::UnixStream> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    // No time at all would be no limit.
    socket.set_write_timeout(Some(timeout.max(Duration::from_millis(1))))?;
    let is_late = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    socket.connect(&socket2::SockAddr::unix(path)?).map_err(|error| match is_late(&error) {
        true => io::ErrorKind::TimedOut.into(),
        false => error,
    })?;
    socket.set_write_timeout(None)?;
    Ok(socket.into())
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let wrong = |why| AddressError { text: text.to_owned(), why };
        let port = |port: &str| match port.parse() {
            Ok(0) | Err(_) => Err(wrong("the port is no number from 1 to 65535")),
            Ok(port) => Ok(port),
        };
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.contains('/').then_some(text)) {
            return match path {
                "" => Err(wrong("the path is missing")),
                path if path.contains("://") => Err(wrong("it is a URL")),
                path => Ok(Address::Unix(path.into())),
            };
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(|| wrong("a bracket is not closed"))?;
            match rest.strip_prefix(':') {
                Some(number) => (host, port(number)?),
                None if rest.is_empty() => (host, PORT),
                None => return Err(wrong("something follows the bracket")),
            }
        } else {
            match text.split_once(':') {
                None => (text, PORT),
                // Several colons and no brackets: a version 6 address without a port.
                Some((_, rest)) if rest.contains(':') => (text, PORT),
                Some((host, number)) => (host, port(number)?),
            }
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong("the host is missing, or holds white space"));
        }
        Ok(Address::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown) in [
            ("localhost", "localhost:4730"),
            ("10.0.0.7:99", "10.0.0.7:99"),
            ("[::1]", "[::1]:4730"),
            ("[::1]:1", "[::1]:1"),
            ("::1", "[::1]:4730"),
            ("unix:a.sock", "unix:a.sock"),
            ("./a.sock", "unix:./a.sock"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    /// Nobody accepts there, and its queue is full.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_socket_is_not_waited_for_longer_than_allowed() {
        let path = std::env::temp_dir().join(format!("layshaft-address-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        socket2::SockRef::from(&listener).listen(0).unwrap();
        let address = Address::Unix(path.clone());
        let first = address.connect(Duration::MAX).unwrap();
        let error = address.connect(Duration::from_millis(10)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(first);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_address_is_told() {
        for text in ["", ":4730", "a:", "a:0", "a:65536", "a:b", "[::1", "[::1]x", "unix:", "tcp://a:1", "a b:1"] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("is no address of a server: "), "{error}");
        }
        let error = "a:x".parse::<Address>().unwrap_err().to_string();
        let want = "\"a:x\" is no address of a server: the port is no number from 1 to 65535; \
                    write host:port, [::1]:port or unix:/path";
        assert_eq!(error, want);
    }

    #[test]
    fn lists_have_commas_or_spaces() {
        let list = |text| Address::list(text).map(|list| list.iter().map(Address::to_string).collect::<Vec<_>>());
        assert_eq!(list("a,b:2, ,[::1]:3\n"), Ok(vec!["a:4730".to_owned(), "b:2".to_owned(), "[::1]:3".to_owned()]));
        assert!(list(" , ").is_err());
    }
}
