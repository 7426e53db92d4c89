//! Sockets of either kind.

use crate::gearman::packet::{self, Kind, Magic};
use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// A peer that has been silent for a minute is asked whether it is there; after four times, 15 s apart, it is not.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);
/// How long what was sent may stay unanswered: as long as that takes.
const UNANSWERED: Duration = Duration::from_secs(120);

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

    /// Whether its peer is on this machine, whose kernel says at once when it has closed.
    pub(super) fn is_unix(&self) -> bool {
        matches!(self, Socket::Unix(_))
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn shut(&mut self) -> io::Result<()> {
        either!(self, socket => socket.shutdown(Shutdown::Write))
    }

    /// Tells a peer that has just come why it cannot stay.
    pub(super) fn refuse(&mut self, code: &str, why: &str) {
        let mut packet = Vec::new();
        packet::encode(&mut packet, Magic::Response, Kind::Error, &[code.as_bytes(), why.as_bytes()]);
        // What has come is read, or the peer's system might drop the packet. A peer that is gone needs no telling.
        let _ = self.read(&mut [0; 4096]);
        let _ = self.write(&packet);
        let _ = self.shut();
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| either!(self, socket => socket.read(buffer)))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| either!(self, socket => socket.write(bytes)))
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        retry(|| either!(self, socket => socket.write_vectored(bytes)))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Listener {
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        either!(self, socket => socket.register(registry, token, Interest::READABLE))
    }

    /// The next connection, and where it comes from.
    pub(super) fn accept(&mut self, write_stall: Duration) -> io::Result<(Socket, String, Option<IpAddr>)> {
        retry(|| match self {
            Listener::Tcp(listener) => {
                let (socket, peer) = listener.accept()?;
                // Packets are sent whole, once a turn.
                let _ = socket.set_nodelay(true);
                // A worker whose machine is gone says nothing: its jobs go to others when it does not answer.
                let _ = SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE);
                // While something is on its way to it there are no probes; without this it would be a quarter of an hour.
                let _ = SockRef::from(&socket).set_tcp_user_timeout(Some(UNANSWERED.max(write_stall)));
                Ok((Socket::Tcp(socket), peer.to_string(), Some(peer.ip().to_canonical())))
            }
            Listener::Unix(listener) => {
                listener.accept().map(|(socket, _)| (Socket::Unix(socket), "unix".to_owned(), None))
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gs_12_small_packets_are_sent_at_once_and_dead_peers_are_found() {
        let mut listener = Listener::Tcp(TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap());
        let Listener::Tcp(tcp) = &listener else { unreachable!() };
        let address = tcp.local_addr().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (socket, ..) = listener.accept(Duration::from_secs(60)).unwrap();
        let Socket::Tcp(socket) = socket else { unreachable!() };
        assert!(socket.nodelay().unwrap());
        assert!(SockRef::from(&socket).keepalive().unwrap());
        assert_eq!(SockRef::from(&socket).tcp_user_timeout().unwrap(), Some(UNANSWERED));
        // A peer that reads nothing may do so for as long as is said.
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (socket, ..) = listener.accept(Duration::from_secs(1000)).unwrap();
        let Socket::Tcp(socket) = socket else { unreachable!() };
        assert_eq!(SockRef::from(&socket).tcp_user_timeout().unwrap(), Some(Duration::from_secs(1000)));
    }
}
