//! How a thread waits for its sockets: it looks for a while before it blocks, for as long as that has paid lately.
//!
//! Blocking and being woken takes a core longer than most answers. The time to look grows and shrinks as in the Linux kernel's
//! halt polling (Documentation/virt/kvm/halt-polling.rst): what came while it looked, or would have with a longer look, makes it
//! longer; a wait longer than the longest look makes it shorter, at last none. So who waits for long looks for nothing, and an
//! idle thread costs nothing.

use mio::{Events, Poll};
use std::io;
use std::time::{Duration, Instant};

/// The shortest look.
const FIRST: Duration = Duration::from_micros(10);

pub(super) struct Waiting {
    /// The longest look.
    most: Duration,
    look: Duration,
}

impl Waiting {
    pub(super) fn new(most: Duration) -> Waiting {
        Waiting { most, look: Duration::ZERO }
    }

    /// Waits for events, as [`Poll::poll`] does.
    pub(super) fn wait(&mut self, poll: &mut Poll, events: &mut Events, limit: Option<Duration>) -> io::Result<()> {
        if self.most.is_zero() || limit == Some(Duration::ZERO) {
            return poll.poll(events, limit);
        }
        let began = Instant::now();
        let look = limit.map_or(self.look, |limit| limit.min(self.look));
        let mut passed = Duration::ZERO;
        while passed < look {
            poll.poll(events, Some(Duration::ZERO))?;
            passed = began.elapsed();
            if !events.is_empty() {
                return Ok(());
            }
            // Whoever else is to run here, perhaps who will answer, goes first.
            std::thread::yield_now();
        }
        let polled = poll.poll(events, limit.map(|limit| limit.saturating_sub(passed)));
        self.adapt(began.elapsed());
        polled
    }

    /// After a wait in which looking was in vain.
    fn adapt(&mut self, waited: Duration) {
        if waited > self.most {
            self.look = if self.look > FIRST { self.look / 2 } else { Duration::ZERO };
        } else {
            self.look = (self.look * 2).clamp(FIRST, self.most.max(FIRST));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_micros(100);

    #[test]
    fn a_look_grows_while_waits_are_short_and_shrinks_when_they_are_long() {
        let mut waiting = Waiting::new(MOST);
        let mut after = |micros| {
            waiting.adapt(Duration::from_micros(micros));
            waiting.look.as_micros()
        };
        assert_eq!([50, 50, 90, 100, 100].map(&mut after), [10, 20, 40, 80, 100]);
        assert_eq!([101, 1000, 60, 101, 101, 101, 101].map(&mut after), [50, 25, 50, 25, 12, 6, 0]);
    }

    #[test]
    fn an_idle_thread_looks_for_nothing() {
        let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(1));
        let mut waiting = Waiting::new(MOST);
        waiting.look = MOST;
        for _ in 0..8 {
            waiting.wait(&mut poll, &mut events, Some(2 * MOST)).unwrap();
        }
        assert_eq!(waiting.look, Duration::ZERO);
    }

    #[test]
    fn what_is_there_is_found_at_once() {
        let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(1));
        let waker = mio::Waker::new(poll.registry(), mio::Token(7)).unwrap();
        let mut waiting = Waiting::new(Duration::from_secs(3600));
        waiting.look = Duration::from_secs(3600);
        waker.wake().unwrap();
        waiting.wait(&mut poll, &mut events, None).unwrap();
        assert_eq!(events.iter().next().unwrap().token(), mio::Token(7));
        assert_eq!(waiting.look, Duration::from_secs(3600));
    }
}
