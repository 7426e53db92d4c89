//! Sockets of either kind.

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

/// A connected socket.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket that is listened on.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

macro_rules! either {
    ($self:expr, $socket:ident => $do:expr) => {
        match $self {
            Self::Tcp($socket) => $do,
            Self::Unix($socket) => $do,
        }
    };
}

impl Socket {
    pub(super) fn number(&self) -> RawFd {
        either!(self, socket => socket.as_raw_fd())
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        either!(self, socket => socket.register(registry, token, Interest::READABLE | Interest::WRITABLE))
    }

    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        either!(self, socket => socket.deregister(registry))
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| either!(self, socket => socket.read(buffer)))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| either!(self, socket => socket.write(bytes)))
    }
}

impl Listener {
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        either!(self, socket => socket.register(registry, token, Interest::READABLE))
    }

    /// The next connection, and where it comes from.
    pub(super) fn accept(&mut self) -> io::Result<(Socket, String)> {
        retry(|| match self {
            Listener::Tcp(listener) => {
                let (socket, peer) = listener.accept()?;
                // Packets are sent whole, once a turn.
                let _ = socket.set_nodelay(true);
                Ok((Socket::Tcp(socket), peer.to_string()))
            }
            Listener::Unix(listener) => listener.accept().map(|(socket, _)| (Socket::Unix(socket), "unix".to_owned())),
        })
    }
}

/// Repeats what a signal has interrupted.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
