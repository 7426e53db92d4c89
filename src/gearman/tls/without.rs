//! In place of TLS where the feature is off: the same types, of which there are no values.

mod error;

pub use error::TlsError;

use super::address::{Address, Connected};
use std::io::{self, Read, Write};
use std::time::Duration;

/// There is none.
#[derive(Debug)]
pub(crate) enum Session {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Acceptor {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Connector {}

/// What became of a handshake so far.
#[derive(Debug)]
#[allow(dead_code, reason = "nobody shakes hands")]
pub(crate) enum Shake {
    Waits,
    Done,
    Failed(io::Error),
    NotTls(u8),
}

impl Connector {
    pub(crate) fn connect(&self, _address: &Address, _limit: Duration) -> io::Result<(Connected, Option<Session>)> {
        match *self {}
    }
}

impl Acceptor {
    pub(crate) fn session(&self) -> io::Result<Session> {
        match *self {}
    }

    pub(crate) fn handshake(&self) -> Duration {
        match *self {}
    }

    pub(crate) fn requires_client_certificate(&self) -> bool {
        match *self {}
    }

    pub(crate) fn are_known_admins(&self) -> bool {
        match *self {}
    }
}

impl Session {
    pub(crate) fn shake(&mut self, _socket: &mut (impl Read + Write)) -> Shake {
        match *self {}
    }

    pub(crate) fn is_known(&self) -> bool {
        match *self {}
    }

    pub(crate) fn read(&mut self, _socket: &mut (impl Read + Write), _buffer: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn write(&mut self, _socket: &mut (impl Read + Write), _bytes: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn flush(&mut self, _socket: &mut (impl Read + Write)) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn is_flushed(&self) -> bool {
        match *self {}
    }

    pub(crate) fn is_drained(&self) -> bool {
        match *self {}
    }

    pub(crate) fn has_failed(&self) -> bool {
        match *self {}
    }

    pub(crate) fn finish(&mut self, _socket: &mut (impl Read + Write)) {
        match *self {}
    }
}
