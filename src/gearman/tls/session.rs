//! One conversation over TLS, without I/O of its own: it is lent the socket for each call.

use rustls::Connection;
use std::io::{self, ErrorKind, Read, Write};

/// Bytes that are asked of a socket at once: about two records.
const CHUNK: usize = 32 << 10;
/// The first byte of what may be a handshake.
const HANDSHAKE: u8 = 22;

/// One conversation over TLS.
#[derive(Debug)]
pub(crate) struct Session {
    tls: Connection,
    /// Came from the socket, and was not looked at, for want of room for what is in it.
    raw: Vec<u8>,
    /// So much of that was looked at.
    seen: usize,
    /// Nothing is left to be read, here or, as far as can be known, of the socket.
    is_drained: bool,
    has_begun: bool,
    /// Found while there was something before it to hand over.
    error: Option<rustls::Error>,
    has_failed: bool,
}

/// What became of a handshake so far.
#[derive(Debug)]
pub(crate) enum Shake {
    /// An event of the socket says when to go on.
    Waits,
    /// There is a connection.
    Done,
    /// There will be none. The peer was told.
    Failed(io::Error),
    /// The peer speaks something else, and this is its first byte.
    NotTls(u8),
}

impl Session {
    pub(super) fn new(tls: Connection) -> Session {
        Session { tls, raw: Vec::new(), seen: 0, is_drained: false, has_begun: false, error: None, has_failed: false }
    }

    /// Goes on with the handshake.
    pub(crate) fn shake(&mut self, socket: &mut (impl Read + Write)) -> Shake {
        loop {
            match self.flush(socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Shake::Waits,
                Err(error) => return Shake::Failed(error),
                Ok(()) => {}
            }
            if !self.tls.is_handshaking() {
                return Shake::Done;
            }
            if self.seen == self.raw.len() {
                match self.fetch(socket) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Shake::Waits,
                    Err(error) => return Shake::Failed(error),
                    Ok(0) => return Shake::Failed(ErrorKind::UnexpectedEof.into()),
                    Ok(_) => {}
                }
            }
            let first = self.raw[self.seen];
            if !std::mem::replace(&mut self.has_begun, true) && first != HANDSHAKE {
                self.has_failed = true;
                return Shake::NotTls(first);
            }
            if let Err(error) = self.feed() {
                return Shake::Failed(self.fail(error, socket));
            }
        }
    }

    /// Whether the peer has shown a certificate. None gets so far that is not good.
    pub(crate) fn is_known(&self) -> bool {
        !self.tls.is_handshaking() && self.tls.peer_certificates().is_some_and(|chain| !chain.is_empty())
    }

    /// Reads until the buffer is full, or the socket has nothing more.
    pub(crate) fn read(&mut self, socket: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_failed {
            let read = socket.read(buffer);
            self.is_drained = !matches!(read, Ok(n) if n == buffer.len());
            return read;
        }
        self.is_drained = false;
        let (mut filled, mut was_short) = (0, false);
        while filled < buffer.len() {
            match self.tls.reader().read(&mut buffer[filled..]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The end, in order or not: it is found again when that is all there is.
                Ok(0) | Err(_) if filled > 0 => break,
                Ok(n) if n > 0 => {
                    filled += n;
                    continue;
                }
                end => return end,
            }
            if let Some(error) = self.error.take() {
                return Err(self.fail(error, socket));
            }
            if self.seen == self.raw.len() {
                // A short read has emptied the socket: the next byte is a new event.
                match if was_short { Err(ErrorKind::WouldBlock.into()) } else { self.fetch(socket) } {
                    Ok(n) => was_short = n < CHUNK && n > 0,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.is_drained = true;
                        break;
                    }
                    Err(_) if filled > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            if let Err(error) = self.feed() {
                self.error = Some(error);
                if filled > 0 {
                    break;
                }
            }
        }
        if self.seen == self.raw.len() {
            // Connections that rest take no memory for it.
            (self.raw, self.seen) = (Vec::new(), 0);
        }
        // Answers of the layer itself. If they cannot be sent now, an event tells when.
        let _ = self.flush(socket);
        if filled == 0 && self.is_drained { Err(ErrorKind::WouldBlock.into()) } else { Ok(filled) }
    }

    /// Reads from the socket, and tells the layer of its end.
    fn fetch(&mut self, socket: &mut impl Read) -> io::Result<usize> {
        self.raw.resize(CHUNK, 0);
        let read = loop {
            match socket.read(&mut self.raw) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.raw.truncate(*read.as_ref().unwrap_or(&0));
        self.seen = 0;
        if matches!(read, Ok(0)) {
            self.tls.read_tls(&mut io::empty())?;
        }
        read
    }

    /// Lets the layer look at a part of what came. What it makes of that has to be read before the next part.
    fn feed(&mut self) -> Result<(), rustls::Error> {
        let mut rest = &self.raw[self.seen..];
        match self.tls.read_tls(&mut rest) {
            // Behind a farewell it takes nothing.
            Ok(0) => self.seen = self.raw.len(),
            Ok(taken) => self.seen += taken,
            Err(error) => return Err(rustls::Error::General(error.to_string())),
        }
        self.tls.process_new_packets().map(drop)
    }

    /// Tells the peer what is wrong, which the layer has put into words.
    fn fail(&mut self, error: rustls::Error, socket: &mut (impl Read + Write)) -> io::Error {
        let _ = self.flush(socket);
        self.has_failed = true;
        self.is_drained = false;
        (self.raw, self.seen) = (Vec::new(), 0);
        io::Error::new(ErrorKind::InvalidData, error)
    }

    /// Writes as much as the socket takes, and a bit more, which waits to be [flushed](Self::flush).
    pub(crate) fn write(&mut self, socket: &mut (impl Read + Write), bytes: &[u8]) -> io::Result<usize> {
        if self.has_failed {
            // Nobody hears it.
            return Ok(bytes.len());
        }
        self.flush(socket)?;
        let mut written = 0;
        while written < bytes.len() {
            written += self.tls.writer().write(&bytes[written..])?;
            match self.flush(socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                flushed => flushed?,
            }
        }
        Ok(written)
    }

    /// Sends what waits here.
    pub(crate) fn flush(&mut self, socket: &mut (impl Read + Write)) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn is_flushed(&self) -> bool {
        !self.tls.wants_write()
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.is_drained
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Says that nothing more is written.
    pub(crate) fn finish(&mut self, socket: &mut (impl Read + Write)) {
        if !self.has_failed && !self.tls.is_handshaking() {
            self.tls.send_close_notify();
        }
        let _ = self.flush(socket);
    }
}
