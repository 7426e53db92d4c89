//! What the threads of a server share.

use super::events::{Hook, ServerEvent};
use super::keys::ConnKey;
use super::notices::HasTable;
use super::stream::Calls;
use super::table::Table;
use crate::quiet::quietly;
use crate::sync::{AtomicU8, Mutex, Ordering};
use mio::Waker;
use std::sync::Arc;

/// The server serves.
pub(super) const SERVING: u8 = 0;
/// It takes no connections, and gives out no jobs, and goes on when no job is in a worker's hands.
pub(super) const DRAINING: u8 = 1;
/// Nothing is read any more; each thread ends when all that it has to send is sent.
pub(super) const SENDING: u8 = 2;
/// Its threads end.
pub(super) const ENDED: u8 = 3;

pub(super) struct Hub {
    table: Mutex<Table>,
    shards: Vec<Link>,
    phase: AtomicU8,
    hook: Option<Hook>,
}

/// How to reach a shard.
pub(super) struct Link {
    pub(super) waker: Arc<Waker>,
    /// Sockets that it is to serve.
    pub(super) sockets: Mutex<Vec<super::shard::NewSocket>>,
}

impl Hub {
    pub(super) fn new(table: Table, shards: Vec<Link>, hook: Option<Hook>) -> Hub {
        Hub { table: Mutex::new(table), shards, phase: AtomicU8::new(SERVING), hook }
    }

    /// Does something with the table, and what follows from it; others are told of what they have to send.
    pub(super) fn with<T>(&self, shard: usize, act: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table.lock();
        let has_table = HasTable::new();
        let result = act(&mut table);
        table.settle();
        drop(has_table);
        if table.timers.take_has_earlier() && shard != 0 {
            self.wake(0);
        }
        for (other, dirty) in table.outbox.dirty.iter().enumerate() {
            if other != shard && !dirty.is_empty() {
                self.wake(other);
            }
        }
        let events = table.take_events();
        drop(table);
        events.iter().for_each(|event| self.tell(event));
        result
    }

    /// Connections of a shard with something to send.
    pub(super) fn take_dirty(
        &self,
        shard: usize,
        calls: Calls,
        sent: &mut Vec<(ConnKey, usize)>,
        into: &mut Vec<ConnKey>,
        mut each: impl FnMut(&mut Table, ConnKey),
    ) {
        self.with(shard, |table| {
            table.counters.waits += calls.waits;
            table.counters.reads += calls.reads;
            table.counters.writes += calls.writes;
            table.was_sent(sent);
            // What is dealt with only now may make others dirty.
            table.settle();
            std::mem::swap(&mut table.outbox.dirty[shard], into);
            for key in into.drain(..) {
                if let Some(conn) = table.conns.get_mut(key) {
                    conn.is_dirty = false;
                    each(table, key);
                }
            }
        });
    }

    /// Tells whoever hears; a panic there concerns nobody here. Not to be called with the table.
    pub(super) fn tell(&self, event: &ServerEvent) {
        if let Some(hook) = &self.hook {
            quietly(|| hook(event));
        }
    }

    pub(super) fn wake(&self, shard: usize) {
        // It fails when the counter is full: then the shard has not looked yet, and will.
        let _ = self.shards[shard].waker.wake();
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(super) fn link(&self, shard: usize) -> &Link {
        &self.shards[shard]
    }

    pub(super) fn phase(&self) -> u8 {
        // Ordering: Relaxed, it is all that is told.
        self.phase.load(Ordering::Relaxed)
    }

    /// Moves on; not back.
    pub(super) fn set_phase(&self, phase: u8) {
        // Ordering: Relaxed, as above; those who wait are woken.
        self.phase.fetch_max(phase, Ordering::Relaxed);
        (0..self.shards.len()).for_each(|shard| self.wake(shard));
    }
}
