//! One server that a worker takes jobs from: its address, and the connection if there is one.

use super::backoff::Outage;
use super::job::Line;
use super::link::{Link, News};
use super::mail::Origin;
use super::socket::Socket;
use crate::gearman::address::Address;
use crate::gearman::error::Error;
use crate::gearman::secured::Secured;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A buffer that grew beyond this goes when it is empty.
const LARGE: usize = 1 << 20;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    At(Address),
    /// Whoever started this process is connected already.
    Stdio,
}

pub(super) struct Server {
    pub(super) place: Place,
    /// For messages.
    pub(super) name: String,
    pub(super) state: State,
    pub(super) outage: Outage,
    /// Why it was lost last.
    pub(super) error: Option<Error>,
    /// Connections there were.
    pub(super) epoch: u64,
}

pub(super) enum State {
    /// Tried again at this time.
    Down(Instant),
    Connecting,
    Up(Box<Up>),
    /// All was said, and the server closes the connection, or it is closed at this time.
    Parting(Secured<Socket>, Instant),
    /// For good.
    Gone,
}

/// Cuts the line when the connection goes, in whatever way: a job that waits for room must not wait for ever.
pub(super) struct Cut(pub(super) Arc<Line>);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// A connection that works.
pub(super) struct Up {
    pub(super) socket: Secured<Socket>,
    pub(super) link: Link,
    pub(super) line: Cut,
    /// Bytes of the output that jobs have told.
    pub(super) told: usize,
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// The peer sends no more: a short read is not the last one.
    pub(super) is_read_closed: bool,
    /// How long nothing may be heard before it is asked without a wake-up.
    pub(super) patience: Duration,
}

impl Server {
    pub(super) fn new(place: Place, now: Instant) -> Server {
        let name = match &place {
            Place::At(address) => address.to_string(),
            Place::Stdio => "standard input".to_owned(),
        };
        Server { place, name, state: State::Down(now), outage: Outage::default(), error: None, epoch: 0 }
    }

    pub(super) fn up(&mut self) -> Option<&mut Up> {
        match &mut self.state {
            State::Up(up) => Some(up),
            _ => None,
        }
    }

    /// The connection, if it is still the one that is meant.
    pub(super) fn up_for(&mut self, origin: Origin) -> Option<&mut Up> {
        self.up().filter(|up| up.line.0.origin == origin)
    }
}

impl Up {
    /// Reads all there is. What was understood before an error is among the news.
    pub(super) fn read(&mut self, buffer: &mut [u8], now: Instant, news: &mut Vec<News>) -> Result<(), Error> {
        while self.is_readable {
            match self.socket.read(buffer) {
                Ok(0) => return Err(Error::Closed),
                Ok(n) => {
                    self.link.hear(&buffer[..n], now, news)?;
                    // A short read has emptied the socket: the next byte is a new event.
                    self.is_readable = self.socket.has_more(n, buffer.len()) || self.is_read_closed;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes what the socket takes.
    pub(super) fn write(&mut self, now: Instant) -> Result<(), Error> {
        let Link { output, sent, .. } = &mut self.link;
        let before = *sent;
        while self.is_writable && (*sent < output.len() || !self.socket.is_flushed()) {
            let rest = &output[*sent..];
            let written = if rest.is_empty() { self.socket.flush().map(|()| 0) } else { self.socket.write(rest) };
            match written {
                Ok(0) if rest.is_empty() => {}
                Ok(0) => return Err(Error::Closed),
                Ok(n) => *sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (wrote, is_all) = (*sent - before, *sent == output.len() && self.socket.is_flushed());
        if *sent == output.len() && self.told > 0 {
            self.line.0.sent(std::mem::take(&mut self.told));
        }
        // Moved down when at least as much goes as stays.
        if *sent * 2 >= output.len() {
            output.drain(..*sent);
            *sent = 0;
            if output.is_empty() && output.capacity() > LARGE {
                *output = Vec::new();
            }
        }
        self.link.wrote(wrote, is_all, now);
        Ok(())
    }
}
