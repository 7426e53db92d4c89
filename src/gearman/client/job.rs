//! A job on the client's side.

use super::error::ClientError;
use super::reply::Completer;
use super::spec::Spec;
use super::update::{Listener, RemoteId, RemoteUpdate};
use crate::quiet::quietly;
use std::sync::Arc;
use std::time::Instant;

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
    /// Since when there has been no server that would take it.
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
