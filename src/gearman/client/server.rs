//! One server, as the client knows it.

use super::cause::Cause;
use super::link::Link;
use crate::gearman::address::Address;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whether there is a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    Connecting,
    Up,
}

/// One server, as the client knows it.
pub(super) struct Server {
    pub(super) address: Arc<Address>,
    pub(super) state: State,
    /// Since when it has been connected to.
    pub(super) connecting_since: Instant,
    /// Counted up with each connection, made or not: what is heard of earlier ones is void.
    pub(super) attempt: u64,
    pub(super) link: Link,
    /// Jobs of this client that it has.
    pub(super) jobs: usize,
    pub(super) trouble: Trouble,
}

/// What went wrong since the server was last heard.
#[derive(Default)]
pub(super) struct Trouble {
    failures: u32,
    since: Option<Instant>,
    last: Option<Cause>,
    /// Until when others are asked first.
    left_out_until: Option<Instant>,
}

impl Server {
    pub(super) fn new(address: Address, now: Instant) -> Server {
        Server {
            address: Arc::new(address),
            state: State::Idle,
            connecting_since: now,
            attempt: 0,
            link: Link::new(now),
            jobs: 0,
            trouble: Trouble::default(),
        }
    }

    /// Whether jobs should go there.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.state == State::Up || self.trouble.left_out_until.is_none_or(|until| until <= now)
    }

    /// Whether there is a connection.
    #[cfg(test)]
    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// When the attempt to connect has taken too long: a resolver, or a full socket in the file system, may take for ever.
    pub(super) fn connect_due(&self, limit: Duration) -> Option<Instant> {
        if self.state == State::Connecting { self.connecting_since.checked_add(limit) } else { None }
    }

    /// What it owes is due at that time, if it owes anything: silence counts from the last that was heard, or that it took of
    /// what it is to answer.
    pub(super) fn answer_due(&self, patience: Option<Duration>) -> Option<Instant> {
        let (asked, _) = self.link.owed.front()?;
        let since = asked.at.max(self.link.heard_at).max(self.link.wrote_at);
        (self.state == State::Up).then(|| since.checked_add(patience?))?
    }

    /// When to ask whether it is still there, because jobs run and nothing is heard of them.
    pub(super) fn ping_due(&self, patience: Option<Duration>) -> Option<Instant> {
        let is_waiting = self.state == State::Up && self.link.owed.is_empty() && !self.link.accepted.is_empty();
        if is_waiting { self.link.heard_at.checked_add(patience?) } else { None }
    }
}

impl Trouble {
    /// Something went wrong: it is left out for the square of the times, in seconds.
    pub(super) fn add(&mut self, cause: Cause, most: Duration, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.since.get_or_insert(now);
        self.last = Some(cause);
        let seconds = u64::from(self.failures).saturating_mul(u64::from(self.failures));
        self.left_out_until = now.checked_add(Duration::from_secs(seconds).min(most));
    }

    /// It can be reached.
    pub(super) fn end_leave(&mut self) {
        self.left_out_until = None;
    }

    pub(super) fn last(&self) -> Option<&Cause> {
        self.last.as_ref()
    }

    pub(super) fn is_hopeless(&self) -> bool {
        self.last.as_ref().is_some_and(Cause::is_hopeless)
    }
}

/// `10.0.0.7:4730 (refused, tried 3 times in 2.1 s)`.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        let Trouble { failures, since: Some(since), last: Some(last), .. } = &self.trouble else { return Ok(()) };
        match failures {
            0 | 1 => write!(f, " ({last})"),
            _ => write!(f, " ({last}, tried {failures} times in {:.1} s)", since.elapsed().as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::link::Owed;
    use super::*;

    #[test]
    fn an_answer_is_due_when_what_asks_for_it_is_written() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut server = Server::new("a:1".parse().unwrap(), start);
        server.state = State::Up;
        let due = |server: &Server| server.answer_due(Some(Duration::from_secs(30)));
        server.link.push(Owed::Ping, at(1), |out| out.resize(1000, 0));
        server.link.push(Owed::Ping, at(2), |out| out.resize(2000, 0));
        assert_eq!(due(&server), Some(at(31)));
        server.link.wrote(999, at(20), |_| {});
        assert_eq!(due(&server), Some(at(50)));
        server.link.wrote(1, at(40), |_| {});
        assert_eq!(due(&server), Some(at(70)));
        server.link.wrote(500, at(60), |_| {});
        assert_eq!(due(&server), Some(at(70)), "it has had all of the first one");
    }

    #[test]
    fn gw_04_failures_are_squared_up_to_the_most() {
        let now = Instant::now();
        let mut server = Server::new("a:1".parse().unwrap(), now);
        let mut left_out = Vec::new();
        for _ in 0..11 {
            server.trouble.add(Cause::Closed, Duration::from_secs(90), now);
            left_out.push((server.trouble.left_out_until.unwrap() - now).as_secs());
        }
        assert_eq!(left_out, [1, 4, 9, 16, 25, 36, 49, 64, 81, 90, 90]);
        assert!(!server.is_usable(now) && server.is_usable(now + Duration::from_secs(90)));
        assert!(server.to_string().starts_with("a:1 (it closed the connection, tried 11 times in 0."), "{server}");
    }
}
