//! One connection: what is to be written, what was read, and who waits for which answer. No I/O.

use super::ask::Question;
use super::jobs::Attempt;
use crate::gearman::packet::{self, Frame, Limits, Message, PacketError};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Written bytes are dropped from the buffer when they are at least so many, and half of it.
const COMPACT: usize = 256 * 1024;

/// What an answer is owed to. Answers come in the order of what they answer.
pub(super) enum Owed {
    Submit(Attempt),
    Question(Question),
    /// The wish for exceptions.
    Option,
    /// Asks whether anybody is there.
    Ping,
}

/// What an answer is owed to, as it was queued.
pub(super) struct Asked {
    pub(super) at: Instant,
    /// Where its last byte is.
    end: u64,
}

/// One connection.
pub(super) struct Link {
    pub(super) out: Vec<u8>,
    /// Bytes of `out` that are written.
    written: usize,
    /// Bytes queued and written since the beginning.
    queued_in_all: u64,
    written_in_all: u64,
    /// Submits that are not written to their last byte, with where that is.
    unwritten: VecDeque<(u64, Attempt)>,
    /// The answers that are owed.
    pub(super) owed: VecDeque<(Asked, Owed)>,
    /// Jobs the server has accepted, by its names for them.
    pub(super) accepted: HashMap<Arc<[u8]>, Vec<Attempt>>,
    /// The beginning of a message.
    partial: Vec<u8>,
    /// Bytes that it has at least.
    needed: usize,
    pub(super) heard_at: Instant,
    /// When a part was written last of what the next answer is owed to.
    pub(super) wrote_at: Instant,
    /// Packets have come: it speaks the protocol.
    pub(super) is_known: bool,
}

impl Link {
    pub(super) fn new(now: Instant) -> Link {
        Link {
            out: Vec::new(),
            written: 0,
            queued_in_all: 0,
            written_in_all: 0,
            unwritten: VecDeque::new(),
            owed: VecDeque::new(),
            accepted: HashMap::new(),
            partial: Vec::new(),
            needed: 0,
            heard_at: now,
            wrote_at: now,
            is_known: false,
        }
    }

    /// Queues what `encode` appends; an answer is owed from now on.
    pub(super) fn push(&mut self, owed: Owed, now: Instant, encode: impl FnOnce(&mut Vec<u8>)) {
        let before = self.out.len();
        encode(&mut self.out);
        self.queued_in_all += (self.out.len() - before) as u64;
        if let Owed::Submit(attempt) = owed {
            self.unwritten.push_back((self.queued_in_all, attempt));
        }
        self.owed.push_back((Asked { at: now, end: self.queued_in_all }, owed));
    }

    /// What is to be written.
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// So many bytes were written; `sent` hears of each submit of which that was the last.
    pub(super) fn wrote(&mut self, bytes: usize, now: Instant, mut sent: impl FnMut(Attempt)) {
        // What is written behind that says nothing of it: a server that has stopped takes small packets for long.
        if self.owed.front().is_some_and(|(asked, _)| asked.end > self.written_in_all) {
            self.wrote_at = now;
        }
        self.written += bytes;
        self.written_in_all += bytes as u64;
        if self.written == self.out.len() {
            self.written = 0;
            self.out.clear();
            // One large payload does not hold its memory for ever.
            self.out.shrink_to(COMPACT);
        } else if self.written >= COMPACT && self.written * 2 >= self.out.len() {
            self.out.drain(..self.written);
            self.written = 0;
        }
        while let Some((end, attempt)) = self.unwritten.front().copied() {
            if end > self.written_in_all {
                break;
            }
            self.unwritten.pop_front();
            sent(attempt);
        }
    }

    /// Removes and returns the oldest that waits for such an answer.
    pub(super) fn settle(&mut self, is_answered: impl Fn(&Owed) -> bool) -> Option<Owed> {
        let at = self.owed.iter().position(|(_, owed)| is_answered(owed))?;
        let settled = self.owed.remove(at).map(|(_, owed)| owed);
        // Some servers do not answer a wish that they do not know.
        while at > 0 && matches!(self.owed.front(), Some((_, Owed::Option))) {
            self.owed.pop_front();
        }
        settled
    }

    /// Forgets that the server's `id` is this job.
    pub(super) fn forget(&mut self, id: &[u8], attempt: Attempt) {
        if let Some(joined) = self.accepted.get_mut(id) {
            joined.retain(|other| *other != attempt);
            if joined.is_empty() {
                self.accepted.remove(id);
            }
        }
    }

    /// Takes bytes that were read, and gives each message to `take`, until that says that the connection is over.
    pub(super) fn read<E: From<PacketError>>(
        bytes: &[u8],
        mut partial: Partial,
        limits: &Limits,
        mut take: impl FnMut(Read<'_>) -> Result<(), E>,
    ) -> Result<Partial, E> {
        let is_begun = !partial.bytes.is_empty();
        if is_begun {
            partial.bytes.extend_from_slice(bytes);
            if partial.bytes.len() < partial.needed {
                return Ok(partial);
            }
        }
        let all = if is_begun { &partial.bytes } else { bytes };
        let mut taken = 0;
        let needed = loop {
            taken += match packet::decode(&all[taken..], limits)? {
                Message::Incomplete { needed } => break needed,
                Message::Frame { frame, length } => take(Read::Frame(frame)).map(|()| length)?,
                Message::Line { line, length } => take(Read::Line(line)).map(|()| length)?,
            };
        };
        if !is_begun {
            partial.bytes.extend_from_slice(&bytes[taken..]);
        } else if taken == partial.bytes.len() {
            // One large message does not hold its memory for ever.
            partial.bytes = Vec::new();
        } else {
            partial.bytes.drain(..taken);
        }
        partial.needed = needed;
        Ok(partial)
    }

    /// Lends the beginning of a message to [`Link::read`], which hands it back.
    pub(super) fn lend(&mut self) -> Partial {
        Partial { bytes: std::mem::take(&mut self.partial), needed: self.needed }
    }

    /// Takes it back.
    pub(super) fn restore(&mut self, partial: Partial) {
        (self.partial, self.needed) = (partial.bytes, partial.needed);
    }
}

/// The beginning of a message.
pub(super) struct Partial {
    bytes: Vec<u8>,
    needed: usize,
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read<'a> {
    Frame(Frame<'a>),
    Line(&'a [u8]),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gearman::packet::{Kind, Magic};

    #[test]
    fn messages_are_the_same_in_any_pieces() {
        let mut bytes = Vec::new();
        packet::encode(&mut bytes, Magic::Response, Kind::JobCreated, &[b"H:a:1"]);
        bytes.extend_from_slice(b"a line\n");
        packet::encode(&mut bytes, Magic::Response, Kind::WorkComplete, &[b"H:a:1", &[0; 300]]);
        for size in 1..bytes.len() {
            let mut link = Link::new(Instant::now());
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                let partial = link.lend();
                let take = |read: Read<'_>| {
                    seen.push(match read {
                        Read::Frame(frame) => (frame.code, frame.body.len()),
                        Read::Line(line) => (0, line.len()),
                    });
                    Ok::<(), PacketError>(())
                };
                link.restore(Link::read(piece, partial, &Limits::default(), take).unwrap());
            }
            assert_eq!(seen, [(8, 5), (0, 6), (13, 306)], "{size}");
            assert!(link.partial.is_empty());
        }
    }

    #[test]
    fn a_submit_is_sent_with_its_last_byte() {
        let mut jobs = super::super::jobs::Jobs::default();
        let mut link = Link::new(Instant::now());
        let mut attempts = Vec::new();
        for _ in 0..3 {
            let attempt = Attempt { key: jobs.test_key(), number: 0 };
            attempts.push(attempt);
            link.push(Owed::Submit(attempt), Instant::now(), |out| out.extend_from_slice(b"0123456789"));
        }
        let mut sent = Vec::new();
        for (bytes, so_far) in [(9, 0), (1, 1), (19, 2), (1, 3)] {
            link.wrote(bytes, Instant::now(), |attempt| sent.push(attempt));
            assert_eq!(sent, attempts[..so_far]);
        }
        assert!(link.unwritten().is_empty());
    }
}
