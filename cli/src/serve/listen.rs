//! What is listened on, and who is in the way.

use super::plan::{Door, Plan};
use super::units::Place;
use layshaft::gearman::{ExposedError, ServerBuilder};
use listenfd::ListenFd;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::UnixListener;

/// All that a server is to listen on.
pub(super) enum Listener {
    Tcp(TcpListener, Door),
    Unix(UnixListener),
    /// Bound by the server, which removes it at the end.
    UnixPath(std::path::PathBuf),
}

/// Binds what the plan says, or takes what a service manager has bound.
///
/// # Errors
/// What cannot be listened on, and why.
pub(super) fn bind(plan: &Plan) -> Result<Vec<Listener>, String> {
    let mut listeners = given()?;
    let places = match plan.places() {
        Some(places) => places,
        None if listeners.is_empty() => vec![(plan.default_place(), Door::Plain)],
        None => Vec::new(),
    };
    for (place, door) in places {
        match place {
            Place::Unix(_) if door == Door::Tls => return Err("a Unix socket needs no TLS".to_owned()),
            Place::Unix(path) => listeners.push(Listener::UnixPath(path)),
            place @ Place::Tcp(..) => {
                let sockets = bind_tcp(&place)?;
                listeners.extend(sockets.into_iter().map(|socket| Listener::Tcp(socket, door)));
            }
        }
    }
    Ok(listeners)
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
fn given() -> Result<Vec<Listener>, String> {
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

/// Binds all addresses of a place.
///
/// # Errors
/// What cannot be listened on, and why.
pub(super) fn bind_tcp(place: &Place) -> Result<Vec<TcpListener>, String> {
    let Place::Tcp(host, Some(port)) = place else { return Err("an address of TCP with a port is wanted".to_owned()) };
    let resolved = (host.as_str(), *port).to_socket_addrs();
    let addresses = resolved.map_err(|error| format!("cannot listen on {host}: {error}"))?;
    let mut sockets = Vec::new();
    for address in addresses {
        sockets.push(TcpListener::bind(address).map_err(|error| told(address, &error))?);
    }
    Ok(sockets)
}

/// Binds all addresses that metrics are told at, to whoever asks.
///
/// # Errors
/// What cannot be listened on, and why; or is not to be.
pub(super) fn bind_metrics(plan: &Plan, place: &Place) -> Result<Vec<TcpListener>, String> {
    let sockets = bind_tcp(&plan.with_metrics_port(place)?)?;
    for socket in sockets.iter().filter(|_| !plan.is_insecure()) {
        let address = socket.local_addr().map_err(|error| format!("cannot listen: {error}"))?;
        ExposedError::check(address).map_err(|error| advice(&error))?;
    }
    Ok(sockets)
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
