//! What other threads tell the one that does the I/O.

use super::hands::Key;
use super::socket::Socket;
use crate::gearman::secured::Secured;
use crate::sync::Mutex;
use mio::Waker;
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::Wake;

/// One piece of news.
pub(super) enum Letter {
    /// A job has ended, or may have.
    Ended(Key),
    /// A packet of a running job, for the connection that it came from.
    Packet(Origin, Vec<u8>),
    /// An attempt to connect to a server has ended: which, and the how manieth.
    Connected(usize, u64, io::Result<Secured<Socket>>),
}

/// A connection: which server, and which of the connections that there were to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) server: usize,
    pub(super) epoch: u64,
}

/// How much of an end is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    /// To go on.
    Run,
    /// No more jobs; those in hand are ended and answered.
    Drain,
    /// To leave everything.
    Leave,
}

struct Inside {
    letters: Vec<Letter>,
    wish: Wish,
    is_closed: bool,
}

/// A letter box with a bell. Whoever drops the first letter in rings; the others need not.
pub(super) struct Mail {
    inside: Mutex<Inside>,
    bell: Waker,
}

impl Mail {
    pub(super) fn new(bell: Waker) -> Mail {
        Mail { inside: Mutex::new(Inside { letters: Vec::new(), wish: Wish::Run, is_closed: false }), bell }
    }

    pub(super) fn post(&self, letter: Letter) {
        let mut inside = self.inside.lock();
        if inside.is_closed {
            // Dropped without the lock.
            drop(inside);
            return;
        }
        let is_first = inside.letters.is_empty();
        inside.letters.push(letter);
        drop(inside);
        if is_first {
            self.ring();
        }
    }

    /// Nobody reads letters any more: a connection among them would stay open for as long as anybody has the box.
    pub(super) fn close(&self) {
        let mut inside = self.inside.lock();
        inside.is_closed = true;
        let letters = mem::take(&mut inside.letters);
        drop(inside);
        drop(letters);
    }

    /// Wishes for at least so much of an end.
    pub(super) fn wish(&self, wish: Wish) {
        let mut inside = self.inside.lock();
        inside.wish = wish.max(inside.wish);
        drop(inside);
        self.ring();
    }

    /// Wishes for an end; for one at once if that was wished for before.
    pub(super) fn wish_more(&self) {
        let wish = if self.inside.lock().wish == Wish::Run { Wish::Drain } else { Wish::Leave };
        self.wish(wish);
    }

    /// Swaps the letters for an empty vector, and looks at the wish.
    pub(super) fn collect(&self, letters: &mut Vec<Letter>) -> Wish {
        debug_assert!(letters.is_empty(), "letters that nobody has read");
        let mut inside = self.inside.lock();
        mem::swap(&mut inside.letters, letters);
        inside.wish
    }

    fn ring(&self) {
        // What fails here fails for want of memory in the kernel; then the next turn comes by a timer.
        let _ = self.bell.wake();
    }
}

/// The waker of one job.
pub(super) struct Bell {
    pub(super) mail: Arc<Mail>,
    pub(super) key: Key,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.mail.post(Letter::Ended(self.key));
    }
}
