//! A list of inputs that is read while the inputs before it are worked on.

use super::{Input, Unreadable};
use crate::bell::Bell;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::task::Poll;
use std::thread;

/// Entries read ahead, so that a long list is not held in memory.
const READ_AHEAD: usize = 1024;

/// A list that has not been opened to readers yet.
pub(crate) struct List {
    pub(crate) name: PathBuf,
    pub(crate) from: Box<dyn Read + Send>,
    /// What ends an entry: a newline, or NUL.
    pub(crate) end: u8,
}

/// The entries of a list, as they come.
pub(super) struct Entries {
    received: Receiver<Input>,
}

impl List {
    /// Starts the thread that reads the list: a read from a pipe may take for ever, and signals and results do not wait
    /// for it. It ends with the list, or with the process.
    pub(super) fn start(self, bell: Arc<Bell>) -> Entries {
        let (send, received) = mpsc::sync_channel(READ_AHEAD);
        let (name, failed) = (self.name.clone(), send.clone());
        let thread = thread::Builder::new().name("list".to_owned()).spawn(move || {
            self.read(&send, &bell);
            drop(send);
            // The end is an event, too.
            bell.ring();
        });
        if let Err(error) = thread {
            // Nobody receives yet, and there is room.
            let _ = failed.try_send(Err(Unreadable { path: name, error }));
        }
        Entries { received }
    }

    fn read(self, send: &SyncSender<Input>, bell: &Bell) {
        let mut from = BufReader::new(self.from);
        loop {
            let entry = match read_entry(&mut from, self.end) {
                Ok(Some(entry)) => Ok(entry),
                Ok(None) => return,
                Err(error) => Err(Unreadable { path: self.name.clone(), error }),
            };
            let is_over = entry.is_err();
            if send.send(entry).is_err() || is_over {
                return;
            }
            bell.ring();
        }
    }
}

fn read_entry(from: &mut impl BufRead, end: u8) -> io::Result<Option<PathBuf>> {
    let mut entry = Vec::new();
    if from.read_until(end, &mut entry)? == 0 {
        return Ok(None);
    }
    if entry.last() == Some(&end) {
        entry.pop();
    }
    Ok(Some(OsString::from_vec(entry).into()))
}

impl Entries {
    pub(super) fn next(&self) -> Poll<Option<Input>> {
        match self.received.try_recv() {
            Ok(entry) => Poll::Ready(Some(entry)),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &[u8], end: u8) -> Vec<String> {
        let mut from = text;
        let mut next = || read_entry(&mut from, end).expect("memory can be read");
        std::iter::from_fn(|| next().map(|entry| entry.to_string_lossy().into_owned())).collect()
    }

    #[test]
    fn entries_end_with_their_byte_or_with_the_list() {
        assert_eq!(entries(b"", b'\n'), [""; 0]);
        assert_eq!(entries(b"a\n b \n\nc", b'\n'), ["a", " b ", "", "c"]);
        assert_eq!(entries(b"a\nb\0c\0", 0), ["a\nb", "c"]);
    }
}
