//! What time brings: attempts to connect, servers that are asked again, servers that do not answer.

use super::{Turns, connect};
use crate::gearman::error::Error;
use crate::gearman::secured::Secured;
use crate::gearman::worker::link::Link;
use crate::gearman::worker::mail::Wish;
use crate::gearman::worker::server::{Place, State};
use crate::gearman::worker::socket::Socket;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The longest that the thread sleeps, whatever is due.
const LONGEST: Duration = Duration::from_secs(60);
/// How often somebody who asks is told whether there is nothing to do.
const TICK: Duration = Duration::from_millis(100);
/// How soon the engine is asked again for room.
const STALLED: Duration = Duration::from_millis(10);
/// A grab that was not answered by then keeps no other server from being asked.
const SLOW: Duration = Duration::from_millis(500);

/// A server may read nothing for so many times as long as it may owe an answer.
const STUCK: u32 = 2;

fn reads_nothing(limit: Duration) -> Error {
    let text = format!("the server reads nothing of what it is sent, for {:.1} s", limit.as_secs_f64());
    io::Error::new(io::ErrorKind::TimedOut, text).into()
}

impl Turns {
    /// Does what is due. An error when no server was ever met within the time that was given for that.
    pub(super) fn keep_time(&mut self, now: Instant) -> Result<(), Error> {
        for number in 0..self.servers.len() {
            match &mut self.servers[number].state {
                State::Down(until) if *until <= now => self.try_to_connect(number, now),
                State::Parting(_, until) if *until <= now => self.servers[number].state = State::Gone,
                State::Up(up) => {
                    let limit = self.settings.answer_timeout;
                    let is_over = |since: Option<Instant>, limit| {
                        since.is_some_and(|since| now.saturating_duration_since(since) >= limit)
                    };
                    if is_over(up.link.silent_since(), limit) {
                        self.lose(number, Error::Silent(limit), now);
                    } else if is_over(up.link.stuck_since, limit.saturating_mul(STUCK)) {
                        self.lose(number, reads_nothing(limit.saturating_mul(STUCK)), now);
                    } else if up.link.is_asleep() && now.saturating_duration_since(up.link.heard) >= up.patience {
                        // As if it had been heard: the next time is counted from here.
                        up.link.wake();
                        up.patience = between(&self.settings.repoll, &mut self.random);
                    }
                }
                _ => {}
            }
        }
        self.check_for_any(now)
    }

    fn try_to_connect(&mut self, number: usize, now: Instant) {
        self.servers[number].state = State::Connecting;
        let outcome = match &self.servers[number].place {
            Place::Stdio => Socket::stdio().map(|socket| self.connected(number, Ok(Secured::new(socket, None)))),
            Place::At(address) => {
                let tls = self.settings.tls.of(address);
                connect(&self.mail, number, address.clone(), tls, self.settings.connect_timeout)
            }
        };
        if let Err(error) = outcome {
            self.lose(number, error.into(), now);
        }
    }

    /// Gives up when no server was ever there.
    fn check_for_any(&mut self, now: Instant) -> Result<(), Error> {
        if self.has_met || self.wish != Wish::Run {
            return Ok(());
        }
        // However short the time, each is tried once.
        let are_tried = self.servers.iter().all(|server| server.error.is_some());
        let is_late = self.settings.give_up.is_some_and(|limit| now.saturating_duration_since(self.started) >= limit);
        let are_gone = self.servers.iter().all(|server| matches!(server.state, State::Gone));
        if !(is_late && are_tried || are_gone) {
            return Ok(());
        }
        Err(self.servers.iter_mut().find_map(|server| server.error.take()).unwrap_or(Error::Closed))
    }

    /// When something is due next.
    pub(super) fn next_time(&mut self, is_asked: bool) -> Instant {
        let now = Instant::now();
        let mut next = now + LONGEST;
        let mut due = |time: Option<Instant>| next = time.map_or(next, |time| time.min(next));
        for server in &self.servers {
            match &server.state {
                State::Down(until) | State::Parting(_, until) => due(Some(*until)),
                State::Up(up) => {
                    let limit = self.settings.answer_timeout;
                    due(up.link.silent_since().and_then(|since| since.checked_add(limit)));
                    due(up.link.stuck_since.and_then(|since| since.checked_add(limit.saturating_mul(STUCK))));
                    due(up.link.owed_since.map(|since| since + SLOW).filter(|slow| *slow > now));
                    due(up.link.is_asleep().then(|| up.link.heard.checked_add(up.patience)).flatten());
                }
                State::Connecting | State::Gone => {}
            }
        }
        due(is_asked.then(|| now + TICK));
        due((!self.stalled.is_empty()).then(|| now + STALLED));
        let end = self.settings.give_up.and_then(|limit| self.started.checked_add(limit));
        // When it is past, the end of an attempt is waited for.
        due(end.filter(|end| !self.has_met && *end > now));
        next
    }
}

impl Link {
    /// Grabs whose answers can be expected to come soon.
    pub(super) fn owed(&self, now: Instant) -> usize {
        if self.is_slow(now) { 0 } else { self.grabs }
    }

    /// Whether an answer is owed for long.
    pub(super) fn is_slow(&self, now: Instant) -> bool {
        self.owed_since.is_some_and(|since| now.saturating_duration_since(since) >= SLOW)
    }
}

/// A random time within a range.
pub(super) fn between(range: &Range<Duration>, random: &mut u64) -> Duration {
    // Xorshift: good enough for workers not to act at the same moment.
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let part = (*random >> 11) as f64 / (1_u64 << 53) as f64;
    range.start + range.end.saturating_sub(range.start).mul_f64(part)
}
