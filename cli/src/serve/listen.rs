//! What is listened on, and who is in the way.

use super::plan::{Door, Plan};
use super::units::Place;
use layshaft::gearman::{ExposedError, ServerBuilder};
use listenfd::ListenFd;
use rustix::io::Errno;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// All that a server is to listen on.
pub(super) enum Listener {
    Tcp(TcpListener, Door),
    Unix(UnixListener),
    /// Bound by the server, which removes it at the end.
    UnixPath(PathBuf),
}

/// What a plan says where to listen, with names looked up.
pub(super) struct Wanted {
    doors: Vec<(Spot, Door)>,
    metrics: Vec<SocketAddr>,
}

enum Spot {
    /// All addresses of a name.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

impl Wanted {
    /// All that can be known to be wrong before anything is bound. Where nothing is said and sockets `are_given`, those are all.
    ///
    /// # Errors
    /// What cannot be listened on, or who could come then, or what is wrong with the certificates.
    pub(super) fn new(plan: &Plan, are_given: bool) -> Result<Wanted, String> {
        let places = match plan.places() {
            Some(places) => places,
            None if are_given => Vec::new(),
            None => vec![(plan.default_place(), Door::Plain)],
        };
        let mut doors = Vec::new();
        for (place, door) in places {
            let spot = match place {
                Place::Unix(_) if door == Door::Tls => return Err("a Unix socket needs no TLS".to_owned()),
                Place::Unix(path) => Spot::Unix(path),
                place @ Place::Tcp(..) => Spot::Tcp(resolve(&place, plan.may_be_reached(door))?),
            };
            doors.push((spot, door));
        }
        if doors.iter().any(|(_, door)| *door == Door::Tls) {
            plan.tls()?.check().map_err(|error| io::Error::from(error).to_string())?;
        }
        let metrics = match &plan.server.metrics {
            Some(place) => resolve(&plan.with_metrics_port(place)?, plan.is_insecure())?,
            None => Vec::new(),
        };
        Ok(Wanted { doors, metrics })
    }

    /// Binds it all, besides what is `given`; and the sockets for metrics.
    ///
    /// # Errors
    /// What cannot be listened on, and why.
    pub(super) fn bind(self, given: Vec<Listener>) -> Result<(Vec<Listener>, Vec<TcpListener>), String> {
        let mut listeners = given;
        for (spot, door) in self.doors {
            match spot {
                Spot::Unix(path) => listeners.push(Listener::UnixPath(path)),
                Spot::Tcp(addresses) => {
                    listeners.extend(bind_tcp(&addresses)?.into_iter().map(|socket| Listener::Tcp(socket, door)));
                }
            }
        }
        Ok((listeners, bind_tcp(&self.metrics)?))
    }
}

/// Addresses that are listened on, and what is spoken there.
pub(super) struct Bound {
    doors: Vec<(SocketAddr, Door)>,
    metrics: Vec<SocketAddr>,
    /// Whether peers need certificates where TLS is spoken: as it was when the server started.
    asks_for_certificates: bool,
}

impl Bound {
    /// # Errors
    /// When the kernel does not tell.
    pub(super) fn of(plan: &Plan, listeners: &[Listener], metrics: &[TcpListener]) -> Result<Bound, String> {
        let address = |socket: &TcpListener| socket.local_addr().map_err(|error| format!("cannot listen: {error}"));
        let mut doors = Vec::new();
        for listener in listeners {
            if let Listener::Tcp(socket, door) = listener {
                doors.push((address(socket)?, *door));
            }
        }
        let metrics = metrics.iter().map(address).collect::<Result<_, _>>()?;
        Ok(Bound { doors, metrics, asks_for_certificates: plan.server.tls_client_ca.is_some() })
    }

    /// Whether a plan, of the start or a later one, lets nobody in who is not meant to come.
    ///
    /// # Errors
    /// An address that anybody could use.
    pub(super) fn check(&self, plan: &Plan) -> Result<(), String> {
        for (address, door) in &self.doors {
            let is_guarded = *door == Door::Tls && self.asks_for_certificates;
            check(*address, is_guarded || plan.may_be_reached(Door::Plain))?;
        }
        self.metrics.iter().try_for_each(|address| check(*address, plan.is_insecure()))
    }
}

/// Hands them to a server.
///
/// # Errors
/// When it is not said how to speak TLS.
pub(super) fn add(builder: ServerBuilder, listeners: Vec<Listener>, plan: &Plan) -> Result<ServerBuilder, String> {
    listeners.into_iter().try_fold(builder, |builder, listener| {
        Ok(match listener {
            Listener::Tcp(socket, Door::Plain) => builder.listener(socket),
            Listener::Tcp(socket, Door::Admin) => builder.listener_admin(socket),
            Listener::Tcp(socket, Door::Tls) => builder.listener_tls(socket, plan.tls()?),
            Listener::Unix(socket) => builder.listener_unix(socket),
            Listener::UnixPath(path) => builder.listen_unix(path),
        })
    })
}

/// Sockets that a service manager has bound: `LISTEN_FDS`.
///
/// # Errors
/// When there is one that cannot be used.
pub(super) fn given() -> Result<Vec<Listener>, String> {
    let mut given = ListenFd::from_env();
    let mut listeners = Vec::new();
    for i in 0..given.len() {
        if let Ok(Some(socket)) = given.take_tcp_listener(i) {
            listeners.push(Listener::Tcp(socket, Door::Plain));
        } else if let Ok(Some(socket)) = given.take_unix_listener(i) {
            listeners.push(Listener::Unix(socket));
        } else {
            return Err(format!("socket {i} of LISTEN_FDS is no stream socket that is listened on"));
        }
    }
    Ok(listeners)
}

/// All addresses of a place.
fn resolve(place: &Place, may_be_reached: bool) -> Result<Vec<SocketAddr>, String> {
    let Place::Tcp(host, Some(port)) = place else { return Err("an address of TCP with a port is wanted".to_owned()) };
    let resolved = (host.as_str(), *port).to_socket_addrs();
    let addresses: Vec<_> = resolved.map_err(|error| format!("cannot listen on {host}: {error}"))?.collect();
    addresses.iter().try_for_each(|address| check(*address, may_be_reached))?;
    Ok(addresses)
}

/// Binds all addresses of a name; those that this machine does not have are left out if there are others.
fn bind_tcp(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, String> {
    let (mut sockets, mut missing) = (Vec::new(), None);
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) if is_missing(&error) => missing = missing.or_else(|| Some(told(*address, &error))),
            Err(error) => return Err(told(*address, &error)),
        }
    }
    match missing {
        Some(error) if sockets.is_empty() => Err(error),
        _ => Ok(sockets),
    }
}

/// Whether the machine has no such address, nor any of its kind: version 6 is often off, and `localhost` names both.
fn is_missing(error: &io::Error) -> bool {
    let no_such_kind = Some(Errno::AFNOSUPPORT.raw_os_error());
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == no_such_kind
}

/// Whether other machines may reach an address, if they can.
fn check(address: SocketAddr, may_be_reached: bool) -> Result<(), String> {
    if may_be_reached { Ok(()) } else { ExposedError::check(address).map_err(|error| advice(&error)) }
}

/// Why a server does not start, in the words of the command line.
pub(super) fn reason(error: &io::Error) -> String {
    let exposed = error.get_ref().and_then(|error| error.downcast_ref());
    exposed.map_or_else(|| error.to_string(), advice)
}

fn advice(error: &ExposedError) -> String {
    error.advice("--tls-listen with --tls-client-ca", "--allow 10.0.0.0/8", "--insecure")
}

fn told(address: SocketAddr, error: &io::Error) -> String {
    if error.kind() != ErrorKind::AddrInUse {
        return format!("cannot listen on {address}: {error}");
    }
    let holder = holder(address).map_or(String::new(), |(name, pid)| format!(" ({name}, pid {pid})"));
    let next = SocketAddr::new(address.ip(), address.port().checked_add(1).unwrap_or(super::plan::PORT));
    let stop = if holder.is_empty() { "Stop what listens there" } else { "Stop it" };
    format!("cannot listen on {address}: address in use{holder}. {stop}, or pass --listen {next}")
}

/// Who listens there: name and process id. Only root can tell of other users' processes.
fn holder(address: SocketAddr) -> Option<(String, u32)> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().find_map(|line| inode_of(line, address))
    })?;
    let wanted = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let is_it = |link: std::path::PathBuf| link.to_str() == Some(&wanted);
        if files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(is_it)) {
            let name = fs::read(entry.path().join("comm")).unwrap_or_default();
            return Some((super::log::shown(name.trim_ascii_end()), pid));
        }
    }
    None
}

/// The inode of a socket in the kernel's table that listens on this address, or on all.
fn inode_of(line: &str, address: SocketAddr) -> Option<u64> {
    const LISTENS: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (host, port) = local.split_once(':')?;
    let is_there = *state == LISTENS && u16::from_str_radix(port, 16) == Ok(address.port());
    let host = host_of(host)?;
    let is_same = host.is_unspecified() || host.to_canonical() == address.ip().to_canonical();
    inode.parse().ok().filter(|_| is_there && (is_same || address.ip().is_unspecified()))
}

/// An address as the kernel prints it: words of 32 bits in the machine's order.
fn host_of(text: &str) -> Option<IpAddr> {
    let words = text.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).ok()?;
        u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
    });
    let bytes = words.collect::<Option<Vec<[u8; 4]>>>()?.concat();
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(holder(address).map(|(_, pid)| pid), Some(std::process::id()));
        let again = TcpListener::bind(address).unwrap_err();
        let text = told(address, &again);
        let next = address.port().wrapping_add(1);
        assert!(text.starts_with(&format!("cannot listen on {address}: address in use (")), "{text}");
        assert!(
            text.ends_with(&format!(", pid {}). Stop it, or pass --listen 127.0.0.1:{next}", std::process::id())),
            "{text}"
        );
    }

    #[test]
    fn addresses_that_the_machine_does_not_have_are_left_out() {
        // Of a network for documents, which nobody has.
        let [here, nowhere] = ["127.0.0.1:0", "192.0.2.1:0"].map(|address| address.parse().unwrap());
        assert_eq!(bind_tcp(&[nowhere, here]).map(|sockets| sockets.len()), Ok(1));
        let refused = bind_tcp(&[nowhere, nowhere]).unwrap_err();
        assert!(refused.starts_with("cannot listen on 192.0.2.1:0: "), "{refused}");
        // What somebody else has is wanted, and told.
        let taken = TcpListener::bind(here).unwrap();
        assert!(bind_tcp(&[here, taken.local_addr().unwrap()]).unwrap_err().contains("address in use"));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn lines_of_the_kernel() {
        let line =
            "   0: 0100007F:127A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        let inode = |address: &str| inode_of(line, address.parse().unwrap());
        assert_eq!(["127.0.0.1:4730", "0.0.0.0:4730"].map(inode), [Some(4711); 2]);
        assert_eq!(["127.0.0.1:4731", "127.0.0.2:4730"].map(inode), [None; 2]);
        assert_eq!(host_of("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
    }
}
