//! A job on the client's side, and the table of them.

use super::error::ClientError;
use super::reply::Completer;
use super::update::{Listener, RemoteId, RemoteUpdate};
use crate::gearman::packet::{self, HEADER, Kind, Magic};
use crate::quiet::quietly;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Who hears of the end.
pub(super) enum Caller {
    /// Of the result.
    Foreground(Completer<Vec<u8>>),
    /// Of the server's acceptance: that is the end, here.
    Background(Completer<RemoteId>),
}

/// A job, until its end is known.
pub(super) struct Job {
    pub(super) spec: Spec,
    pub(super) caller: Caller,
    pub(super) listener: Option<Listener>,
    /// Bytes that it takes of the room, until it is written.
    pub(super) held: usize,
    /// Counted up with each submission: answers to earlier ones are not its own.
    pub(super) attempt: u32,
    /// Attempts that failed and were followed by another.
    pub(super) retried: u32,
    /// Connections that were lost while it may have run.
    pub(super) losses: u32,
    /// On which server it is, if on any.
    pub(super) server: Option<usize>,
    pub(super) id: Option<Arc<[u8]>>,
    /// The server may have the whole packet.
    pub(super) is_sent: bool,
    /// Since when there has been no server for it.
    pub(super) parked_at: Option<Instant>,
    pub(super) asked_at: Instant,
}

impl Job {
    pub(super) fn new(spec: Spec, caller: Caller, listener: Option<Listener>) -> Box<Job> {
        Box::new(Job {
            held: spec.size(),
            spec,
            caller,
            listener,
            attempt: 0,
            retried: 0,
            losses: 0,
            server: None,
            id: None,
            is_sent: false,
            parked_at: None,
            asked_at: Instant::now(),
        })
    }

    /// Tells the listener, whose panic concerns nobody else.
    pub(super) fn tell(&mut self, update: &RemoteUpdate) {
        if let Some(listener) = &mut self.listener {
            quietly(|| listener(update));
        }
    }

    /// Whether its packet may be wanted again.
    pub(super) fn may_be_sent_again(&self) -> bool {
        self.spec.resubmit || self.spec.retries > self.retried
    }

    /// Ends it.
    pub(super) fn fail(self: Box<Self>, error: ClientError) {
        let Job { caller, listener, .. } = *self;
        // The stream of updates ends before the result is there.
        quietly(|| drop(listener));
        match caller {
            Caller::Foreground(completer) => completer.complete(Err(error)),
            Caller::Background(completer) => completer.complete(Err(error)),
        }
    }

    /// The server has a background job: all that will be known of it here.
    pub(super) fn accept(self: Box<Self>, id: RemoteId) {
        let Job { caller, listener, .. } = *self;
        quietly(|| drop(listener));
        if let Caller::Background(completer) = caller {
            completer.complete(Ok(id));
        }
    }

    /// It has a result.
    pub(super) fn complete(self: Box<Self>, result: &[u8]) {
        let Job { caller, listener, .. } = *self;
        quietly(|| drop(listener));
        if let Caller::Foreground(completer) = caller {
            completer.complete(Ok(result.to_vec()));
        }
    }
}

/// A job's place in the table; of one that has ended it is void, though another job may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

/// An attempt of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) key: Key,
    pub(super) number: u32,
}

/// All jobs whose end is not known.
#[derive(Default)]
pub(super) struct Jobs {
    places: Vec<(u32, Option<Box<Job>>)>,
    free: Vec<u32>,
}

impl Jobs {
    #[cfg(test)]
    pub(super) fn test_key(&mut self) -> Key {
        self.places.push((0, None));
        Key { index: self.places.len() as u32 - 1, generation: 0 }
    }

    pub(super) fn insert(&mut self, job: Box<Job>) -> Key {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.1 = Some(job);
            return Key { index, generation: place.0 };
        }
        let index = u32::try_from(self.places.len()).expect("fewer than 2^32 jobs at a time");
        self.places.push((0, Some(job)));
        Key { index, generation: 0 }
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Job> {
        let place = self.places.get_mut(key.index as usize)?;
        place.1.as_deref_mut().filter(|_| place.0 == key.generation)
    }

    /// The job, if this is its attempt still.
    pub(super) fn current(&mut self, attempt: Attempt) -> Option<&mut Job> {
        self.get(attempt.key).filter(|job| job.attempt == attempt.number)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Box<Job>> {
        self.get(key)?;
        let place = &mut self.places[key.index as usize];
        place.0 = place.0.wrapping_add(1);
        self.free.push(key.index);
        place.1.take()
    }
}
