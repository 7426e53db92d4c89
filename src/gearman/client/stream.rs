//! A connection, of either kind.

use crate::gearman::address::Connected;
use mio::net::TcpStream;
#[cfg(unix)]
use mio::net::UnixStream;
use mio::{Interest, Poll, Token};
use std::io::{self, IoSlice, Read, Write};

/// A connection, of either kind.
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// Does the same with either.
macro_rules! either {
    ($stream:expr, $inner:ident => $act:expr) => {
        match $stream {
            Stream::Tcp($inner) => $act,
            #[cfg(unix)]
            Stream::Unix($inner) => $act,
        }
    };
}

impl Stream {
    pub(super) fn register(connected: Connected, poll: &Poll, token: Token) -> io::Result<Stream> {
        let mut stream = match connected {
            Connected::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                Stream::Tcp(TcpStream::from_std(stream))
            }
            #[cfg(unix)]
            Connected::Unix(stream) => {
                stream.set_nonblocking(true)?;
                Stream::Unix(UnixStream::from_std(stream))
            }
        };
        let both = Interest::READABLE | Interest::WRITABLE;
        either!(&mut stream, inner => poll.registry().register(inner, token, both))?;
        Ok(stream)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, inner => inner.read(buffer))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, inner => inner.write(bytes))
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, inner => inner.write_vectored(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        either!(self, inner => inner.flush())
    }
}
