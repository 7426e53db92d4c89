//! Connections that come and go.

use super::command::code;
use super::conn::{Conn, WorkerSide};
use super::events::ServerEvent;
use super::keys::ConnKey;
use super::table::Table;
use std::collections::hash_map::Entry::Occupied;
use std::net::IpAddr;

impl Table {
    /// Whether another connection may come from there.
    ///
    /// # Errors
    /// Why not, as a code and in words.
    pub(super) fn admit(&mut self, ip: Option<IpAddr>) -> Result<(), (&'static str, String)> {
        let settings = &self.settings;
        let is_allowed = |ip| settings.allowed.iter().any(|network| network.contains(ip));
        if !settings.allowed.is_empty() && !ip.is_none_or(is_allowed) {
            self.counters.not_allowed += 1;
            return Err((code::NOT_ALLOWED, "this address is not among those that may connect".to_owned()));
        }
        let of_peer = ip.and_then(|ip| self.peers.get(&network(ip))).copied().unwrap_or(0);
        let why = if self.conns.len() >= settings.connections {
            format!("there are {} connections already, and no more are accepted", settings.connections)
        } else if of_peer >= settings.connections_of_peer {
            format!("there are {of_peer} connections from this address already, and no more are accepted")
        } else {
            return Ok(());
        };
        self.counters.turned_away += 1;
        Err((code::TOO_MANY, why))
    }

    pub(super) fn connect(&mut self, conn: Conn) -> ConnKey {
        self.counters.connections += 1;
        if let Some(ip) = conn.ip {
            *self.peers.entry(network(ip)).or_default() += 1;
        }
        self.note(|_| ServerEvent::Connected { peer: conn.peer.clone() });
        self.conns.insert(conn)
    }

    /// A connection is a worker no longer: its jobs in hand go to others.
    pub(super) fn retire(&mut self, key: ConnKey) {
        let Some(worker) = self.conns.get_mut(key).and_then(|conn| conn.worker.take()) else { return };
        self.workers -= 1;
        let WorkerSide { set, abilities, mut in_hand, .. } = *worker;
        // The set first, or it would be woken for its own jobs.
        drop(set);
        for function in abilities.keys() {
            self.functions[*function].workers -= 1;
        }
        // The last one first: each goes before the others.
        in_hand.sort_unstable_by_key(|run| std::cmp::Reverse(self.runs[*run].turn));
        for run in in_hand {
            self.note_loss(run, false);
            let what = self.functions[self.jobs[self.runs[run].job].function].rules.on_loss;
            self.lose(run, what);
        }
    }

    /// A connection is gone: its jobs in hand go to others, and nobody waits for those that only it waited for.
    pub(super) fn disconnect(&mut self, key: ConnKey) {
        self.retire(key);
        let Some(mut conn) = self.conns.remove(key) else { return };
        self.outbox.forget(&mut conn);
        self.places -= conn.listening.capacity();
        self.note(|_| ServerEvent::Disconnected { peer: conn.peer.clone() });
        if let Some(Occupied(mut count)) = conn.ip.map(|ip| self.peers.entry(network(ip))) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        for job in conn.listening {
            self.stop_listening(job, key);
        }
        self.settle();
    }
}

/// What counts as one peer: of version 6 everybody has a whole network.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}
