//! What is submitted, and how it is written.

use crate::gearman::packet::{self, HEADER, Kind, Magic};
use std::time::Duration;

/// What is submitted.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) kind: Kind,
    /// With its namespace.
    pub(super) function: Vec<u8>,
    /// Empty: none. `-`: the payload.
    pub(super) unique: Vec<u8>,
    pub(super) reducer: Option<Vec<u8>>,
    /// Seconds since 1970.
    pub(super) at: Option<u64>,
    pub(super) payload: Vec<u8>,
    pub(super) retries: u32,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    /// Whether it may run twice.
    pub(super) resubmit: bool,
}

impl Spec {
    /// What equal jobs have in common, if there may be equal ones.
    pub(super) fn key(&self) -> Option<&[u8]> {
        match self.unique.as_slice() {
            b"" => None,
            b"-" => Some(&self.payload),
            unique => Some(unique),
        }
    }

    /// Bytes on the wire, nearly.
    pub(super) fn size(&self) -> usize {
        let reducer = self.reducer.as_ref().map_or(0, Vec::len);
        HEADER + self.function.len() + self.unique.len() + reducer + self.payload.len() + 4
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (function, unique, payload) = (&self.function[..], &self.unique[..], &self.payload[..]);
        match (&self.reducer, self.at) {
            (Some(reducer), _) => {
                // The empty argument is what libgearman sends, and servers expect.
                packet::encode(out, Magic::Request, self.kind, &[function, unique, reducer, b"", payload]);
            }
            (None, Some(at)) => {
                let at = at.to_string();
                packet::encode(out, Magic::Request, self.kind, &[function, unique, at.as_bytes(), payload]);
            }
            (None, None) => packet::encode(out, Magic::Request, self.kind, &[function, unique, payload]),
        }
    }
}
