//! What a server listens on.

use super::shard::Door;
use super::socket::Listener;
use super::{Asked, Builder, Place};
use crate::gearman::tls::Acceptor;
use crate::sync::set_backlog;
use socket2::{Domain, SockAddr, Type};
use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
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

    /// Who may connect to the Unix sockets that it binds: the mode of their files. Default: `0o660`, the server's user and group.
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.unix_mode = mode;
        self
    }

    /// Whether addresses that other machines reach may be listened on though neither certificates are asked for
    /// (`Tls::client_ca_file`) nor is it said who may come ([`allow`](Self::allow)). There are no passwords: anyone who reaches the
    /// server can submit and take jobs. Default: no, and then [`start`](Self::start) fails with an [`ExposedError`].
    pub fn insecure(mut self, is_trusted: bool) -> Self {
        self.is_insecure = is_trusted;
        self
    }

    /// Connections that may wait to be accepted; the kernel has a limit of its own. Default: 1,024.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections.min(i32::MAX as u32) as i32;
        self
    }
}

/// All that is listened on.
pub(super) struct Bound {
    pub(super) doors: Vec<Door>,
    pub(super) addresses: Vec<SocketAddr>,
    /// It is said who may come, or that anybody may.
    pub(super) is_guarded: bool,
    pub(super) backlog: i32,
    pub(super) unix_mode: u32,
}

/// An address is not listened on since other machines reach it, and anyone there could do anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposedError {
    address: SocketAddr,
}

impl ExposedError {
    /// Whether an address can be reached from other machines.
    ///
    /// # Errors
    /// When it can.
    pub fn check(address: SocketAddr) -> Result<(), ExposedError> {
        if address.ip().to_canonical().is_loopback() { Ok(()) } else { Err(ExposedError { address }) }
    }

    /// What is wrong, and what can be done: how it is said here that certificates are wanted, who may come, and that the
    /// network is trusted.
    pub fn advice(&self, certificates: &str, networks: &str, trust: &str) -> String {
        format!(
            "{} can be reached from other machines, and there are no passwords: anyone there could submit and take jobs. \
             Listen on 127.0.0.1; or ask for certificates ({certificates}); or say who may come ({networks}), or {trust} if \
             the network is trusted",
            self.address
        )
    }
}

impl std::fmt::Display for ExposedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.advice("`Tls::client_ca_file`", "`ServerBuilder::allow`", "`ServerBuilder::insecure`"))
    }
}

impl std::error::Error for ExposedError {}

impl Bound {
    pub(super) fn add(&mut self, asked: Asked) -> io::Result<()> {
        let Asked { place, is_admin, tls } = asked;
        match place {
            Place::Tcp(address) => {
                for address in resolve(&address)? {
                    let named = |error| name(&address.to_string(), &error);
                    self.check(address, tls.as_deref())?;
                    self.add_tcp(TcpListener::bind(address).map_err(named)?, is_admin, tls.clone())?;
                }
            }
            Place::TcpListener(socket) => self.add_tcp(socket, is_admin, tls)?,
            Place::Unix(path) => {
                let (socket, file) = bind_unix(&path, self.unix_mode, self.backlog)?;
                self.add_unix(socket, Some(file), is_admin)?;
            }
            Place::UnixListener(socket) => self.add_unix(socket, None, is_admin)?,
        }
        Ok(())
    }

    /// Whether an address may be listened on.
    fn check(&self, address: SocketAddr, tls: Option<&Acceptor>) -> io::Result<()> {
        if self.is_guarded || tls.is_some_and(Acceptor::requires_client_certificate) {
            return Ok(());
        }
        ExposedError::check(address).map_err(io::Error::other)
    }

    fn add_tcp(&mut self, socket: TcpListener, is_admin: bool, tls: Option<Arc<Acceptor>>) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        self.check(address, tls.as_deref())?;
        set_backlog(socket.as_fd(), self.backlog);
        self.addresses.push(address);
        let listener = Listener::Tcp(mio::net::TcpListener::from_std(socket));
        self.doors.push(Door { listener, file: None, is_admin: is_admin || address.ip().is_loopback(), tls });
        Ok(())
    }

    fn add_unix(&mut self, socket: UnixListener, file: Option<SocketFile>, is_admin: bool) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        set_backlog(socket.as_fd(), self.backlog);
        let listener = Listener::Unix(mio::net::UnixListener::from_std(socket));
        self.doors.push(Door { file, listener, is_admin, tls: None });
        Ok(())
    }
}

fn name(place: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {place}: {error}"))
}

fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(address.to_socket_addrs().map_err(|error| name(address, &error))?.collect())
}

fn bind_unix(path: &Path, mode: u32, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    use io::ErrorKind;
    let named = |error: io::Error| name(&path.display().to_string(), &error);
    match bind_new(path, mode, backlog) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
            if !is_socket {
                return Err(named(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket")));
            }
            // Of a server that is gone nobody answers.
            match UnixStream::connect(path) {
                Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(named)?;
                    bind_new(path, mode, backlog).map_err(named)
                }
                _ => Err(named(error)),
            }
        }
        other => other.map_err(named),
    }
}

fn bind_new(path: &Path, mode: u32, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let found = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), number: (found.dev(), found.ino()) };
    // Before anybody can connect.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

/// The file of a Unix socket. It goes with this, unless another server has taken its place. To be dropped before the socket: as
/// long as that is open, no other file has this number.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Of device and inode.
    number: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_mine = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.number);
        if is_mine {
            let _ = fs::remove_file(&self.path);
        }
    }
}
