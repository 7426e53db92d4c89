//! A socket, with or without TLS over it.

use super::address::{Address, Connected};
use super::tls::{Connector, Session, Shake, TlsError};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

/// A socket that does not block, with or without TLS over it. What is read and written is what Gearman says.
///
/// Two things are different with TLS. Bytes that were written may wait here, though there is nothing more to write: whoever
/// writes goes on with [`Write::flush`] when the socket takes more, until it [is flushed](Self::is_flushed). And a short read
/// says nothing of what there is to read: [`has_more`](Self::has_more) does.
#[derive(Debug)]
pub(super) struct Secured<S> {
    pub(super) socket: S,
    session: Option<Box<Session>>,
}

impl<S> Secured<S> {
    pub(super) fn new(socket: S, session: Option<Session>) -> Secured<S> {
        Secured { socket, session: session.map(Box::new) }
    }

    /// Turns the socket into one of another kind.
    pub(super) fn try_map<T>(self, map: impl FnOnce(S) -> io::Result<T>) -> io::Result<Secured<T>> {
        let Secured { socket, session } = self;
        Ok(Secured { socket: map(socket)?, session })
    }

    /// Whether more can be read though no event will say so, after a read of `read` bytes where there was room for `room`.
    pub(super) fn has_more(&self, read: usize, room: usize) -> bool {
        match &self.session {
            None => read == room,
            Some(session) => !session.is_drained(),
        }
    }

    /// Whether all that was written has gone to the system.
    pub(super) fn is_flushed(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.is_flushed())
    }

    /// Whether the peer has broken the rules of TLS, or says that this side has. It is told; reading drops what still comes.
    pub(super) fn has_failed(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.has_failed())
    }

    /// Whether the peer has shown a certificate, which is then a good one.
    pub(super) fn is_known(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_known())
    }
}

impl Secured<Connected> {
    /// Connects, and blocks while it does, for so long at most. An error of kind [`InvalidData`](io::ErrorKind::InvalidData)
    /// says that the two sides do not trust, or do not understand, each other.
    pub(super) fn connect(
        address: &Address,
        tls: Option<&Connector>,
        limit: Duration,
    ) -> io::Result<Secured<Connected>> {
        match tls {
            None => Ok(Secured::new(address.connect(limit)?, None)),
            Some(tls) => tls.connect(address, limit).map(|(socket, session)| Secured::new(socket, session)),
        }
    }
}

/// Which servers are to be spoken to over TLS, and how.
#[derive(Debug, Clone, Default)]
pub(super) struct Connectors {
    pub(super) all: Option<Arc<Connector>>,
    /// What goes before that, for single servers.
    pub(super) own: Vec<(Address, Arc<Connector>)>,
    /// The first thing that could not be used.
    pub(super) wrong: Option<TlsError>,
}

impl Connectors {
    /// How to speak to a server over TLS, if that is to be done.
    pub(super) fn of(&self, address: &Address) -> Option<Arc<Connector>> {
        let own = self.own.iter().find(|(other, _)| other == address).map(|(_, connector)| connector);
        own.or(self.all.as_ref()).cloned()
    }
}

impl<S: Read + Write> Secured<S> {
    /// Goes on with the handshake; `None` without TLS.
    pub(super) fn shake(&mut self) -> Option<Shake> {
        let Secured { socket, session } = self;
        session.as_mut().map(|session| session.shake(socket))
    }

    /// Says by way of TLS that nothing more is written, as far as the socket takes that at once.
    pub(super) fn finish(&mut self) {
        if let Some(session) = &mut self.session {
            session.finish(&mut self.socket);
        }
    }
}

impl<S: Read + Write> Read for Secured<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.session {
            None => self.socket.read(buffer),
            Some(session) => session.read(&mut self.socket, buffer),
        }
    }
}

impl<S: Read + Write> Write for Secured<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.session {
            None => self.socket.write(bytes),
            Some(session) => session.write(&mut self.socket, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.session {
            None => self.socket.flush(),
            Some(session) => session.flush(&mut self.socket),
        }
    }
}
