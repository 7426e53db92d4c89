//! What happens to a server, for its log.

use super::Builder;
use super::keys::{ConnKey, RunKey};
use super::table::Table;
use std::sync::Arc;

/// Something that happened. Names and texts may come from peers: whoever writes them down should escape them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// A peer has connected.
    Connected {
        /// Where it comes from.
        peer: String,
    },
    /// A connection is over.
    Disconnected {
        /// Where it came from.
        peer: String,
    },
    /// A peer was one too many.
    TurnedAway {
        /// Where it comes from.
        peer: String,
        /// What it was told.
        why: String,
    },
    /// A peer spoke no TLS where it is needed, or there is no trust between it and the server.
    Insecure {
        /// Where it comes from.
        peer: String,
        /// What is wrong.
        why: String,
    },
    /// A peer was sent an ERROR packet.
    Error {
        /// Where it comes from.
        peer: String,
        /// The error's code.
        code: String,
        /// The error's text.
        text: String,
    },
    /// A connection was closed since its peer was too slow, or left too much unread.
    TooSlow {
        /// Where it comes from.
        peer: String,
    },
    /// A worker is gone that had a job in its hands.
    WorkerLost {
        /// Where it came from.
        peer: String,
        /// The job's function.
        function: Vec<u8>,
        /// The job's name on the wire.
        job: Vec<u8>,
    },
    /// A job was too long in a worker's hands.
    TimedOut {
        /// Where the worker comes from.
        peer: String,
        /// The job's function.
        function: Vec<u8>,
        /// The job's name on the wire.
        job: Vec<u8>,
    },
    /// A connection could not be accepted. It is tried again.
    AcceptFailed {
        /// Why not.
        error: String,
    },
    /// No connection is taken any more; the server ends when these jobs have ended.
    Draining {
        /// Jobs in the hands of workers, or in this process.
        jobs: usize,
    },
    /// The time for that is over, and these jobs have not ended.
    CutShort {
        /// Jobs in the hands of workers, or in this process.
        jobs: usize,
    },
}

/// Hears of events.
pub(super) type Hook = Arc<dyn Fn(&ServerEvent) + Send + Sync>;

impl Builder {
    /// Has a closure told of events. It is called on the server's threads, without any lock, and should be quick. A panic of it
    /// ends there.
    pub fn on_event(mut self, hear: impl Fn(&ServerEvent) + Send + Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hear));
        self
    }
}

impl Table {
    /// Notes an event, if anybody hears.
    pub(super) fn note(&mut self, event: impl FnOnce(&Table) -> ServerEvent) {
        if self.events.is_some() {
            let event = event(self);
            self.events.get_or_insert_default().push(event);
        }
    }

    /// Those since the last call.
    pub(super) fn take_events(&mut self) -> Vec<ServerEvent> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn note_error(&mut self, to: ConnKey, code: &str, text: &str) {
        self.note(|table| ServerEvent::Error { peer: table.peer(to), code: code.to_owned(), text: text.to_owned() });
    }

    /// A job in hand is lost with its worker, or was there for too long.
    pub(super) fn note_loss(&mut self, run: RunKey, is_timeout: bool) {
        self.note(|table| {
            let run = &table.runs[run];
            let (peer, job) = (table.peer(run.conn), table.handle(run.job).as_bytes().to_vec());
            let function = table.functions[table.jobs[run.job].function].name.to_vec();
            if is_timeout {
                ServerEvent::TimedOut { peer, function, job }
            } else {
                ServerEvent::WorkerLost { peer, function, job }
            }
        });
    }

    fn peer(&self, conn: ConnKey) -> String {
        self.conns.get(conn).map_or("-", |conn| &conn.peer).to_owned()
    }

    /// There will be no secure connection, or no more.
    pub(super) fn note_insecure(&mut self, conn: ConnKey, why: &dyn std::fmt::Display) {
        self.counters.tls_failed += 1;
        self.note(|table| ServerEvent::Insecure { peer: table.peer(conn), why: why.to_string() });
    }

    /// A peer speaks without TLS where it is needed.
    pub(super) fn note_plain(&mut self, conn: ConnKey) {
        self.counters.tls_missing += 1;
        self.note(|table| ServerEvent::Insecure { peer: table.peer(conn), why: "it speaks no TLS".to_owned() });
    }

    /// A peer does not read what there is for it.
    pub(super) fn note_deaf(&mut self, conn: ConnKey) {
        self.counters.slow_readers += 1;
        self.note_slow(conn);
    }

    pub(super) fn note_slow(&mut self, conn: ConnKey) {
        self.note(|table| ServerEvent::TooSlow { peer: table.peer(conn) });
    }

    /// Jobs that have started and not ended, as far as a server that ends cares.
    pub(super) fn in_hand_anywhere(&self) -> usize {
        self.runs.len() + self.locals
    }
}
