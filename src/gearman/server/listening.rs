//! What a server listens on.

use super::shard::Door;
use super::socket::Listener;
use super::{Asked, Builder, Place};
use crate::gearman::tls::Acceptor;
use crate::sync::set_backlog;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Builder {
    pub(super) fn add(&mut self, place: Place, is_admin: bool) {
        self.addresses.push(Asked { place, is_admin, tls: None });
    }

    /// Listens on an address on which only TLS is spoken. What cannot be used of `tls`, [`start`](Self::start) tells.
    ///
    /// Text commands that change something are taken as by [`listen`](Self::listen), and of peers with a certificate if
    /// [that is set](crate::gearman::Tls::admin_by_certificate).
    #[cfg(feature = "tls")]
    pub fn listen_tls(self, address: impl Into<String>, tls: crate::gearman::Tls) -> Self {
        self.add_tls(Place::Tcp(address.into()), tls)
    }

    /// The same on a socket that is bound already.
    #[cfg(feature = "tls")]
    pub fn listener_tls(self, socket: TcpListener, tls: crate::gearman::Tls) -> Self {
        self.add_tls(Place::TcpListener(socket), tls)
    }

    #[cfg(feature = "tls")]
    fn add_tls(mut self, place: Place, tls: crate::gearman::Tls) -> Self {
        match Acceptor::new(tls) {
            Ok(acceptor) => self.addresses.push(Asked { place, is_admin: false, tls: Some(acceptor.into()) }),
            Err(error) => _ = self.wrong.get_or_insert(error),
        }
        self
    }

    /// Listens on a socket that is bound already: handed over by a service manager, say. As [`listen`](Self::listen).
    pub fn listener(mut self, socket: TcpListener) -> Self {
        self.add(Place::TcpListener(socket), false);
        self
    }

    /// The same, as [`listen_admin`](Self::listen_admin).
    pub fn listener_admin(mut self, socket: TcpListener) -> Self {
        self.add(Place::TcpListener(socket), true);
        self
    }

    /// The same for a Unix socket. Whoever has bound it removes its path.
    pub fn listener_unix(mut self, socket: UnixListener) -> Self {
        self.add(Place::UnixListener(socket), true);
        self
    }

    /// Connections that may wait to be accepted; the kernel has a limit of its own. Default: 1,024.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections.min(i32::MAX as u32) as i32;
        self
    }
}

/// All that is listened on.
#[derive(Default)]
pub(super) struct Bound {
    pub(super) doors: Vec<Door>,
    pub(super) addresses: Vec<SocketAddr>,
    /// To be removed at the end.
    pub(super) paths: Vec<PathBuf>,
}

impl Bound {
    pub(super) fn add(&mut self, asked: Asked, backlog: i32) -> io::Result<()> {
        let Asked { place, is_admin, tls } = asked;
        match place {
            Place::Tcp(address) => {
                for address in resolve(&address)? {
                    let named = |error| name(&address.to_string(), &error);
                    self.add_tcp(TcpListener::bind(address).map_err(named)?, is_admin, tls.clone(), backlog)?;
                }
            }
            Place::TcpListener(socket) => self.add_tcp(socket, is_admin, tls, backlog)?,
            Place::Unix(path) => {
                self.add_unix(bind_unix(&path)?, is_admin, backlog)?;
                self.paths.push(path);
            }
            Place::UnixListener(socket) => self.add_unix(socket, is_admin, backlog)?,
        }
        Ok(())
    }

    fn add_tcp(
        &mut self,
        socket: TcpListener,
        is_admin: bool,
        tls: Option<Arc<Acceptor>>,
        backlog: i32,
    ) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        set_backlog(socket.as_fd(), backlog);
        let address = socket.local_addr()?;
        self.addresses.push(address);
        let listener = Listener::Tcp(mio::net::TcpListener::from_std(socket));
        self.doors.push(Door { listener, is_admin: is_admin || address.ip().is_loopback(), tls });
        Ok(())
    }

    fn add_unix(&mut self, socket: UnixListener, is_admin: bool, backlog: i32) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        set_backlog(socket.as_fd(), backlog);
        let listener = Listener::Unix(mio::net::UnixListener::from_std(socket));
        self.doors.push(Door { listener, is_admin, tls: None });
        Ok(())
    }
}

fn name(place: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {place}: {error}"))
}

fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(address.to_socket_addrs().map_err(|error| name(address, &error))?.collect())
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    use io::ErrorKind;
    let named = |error: io::Error| name(&path.display().to_string(), &error);
    match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            // Of a server that is gone nobody answers.
            match UnixStream::connect(path) {
                Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(named)?;
                    UnixListener::bind(path).map_err(named)
                }
                _ => Err(named(error)),
            }
        }
        other => other.map_err(named),
    }
}
