//! A process a job: the payload goes in, what it prints is the result.

use crate::program::Program;
use std::io::{ErrorKind, Read, Write};
use std::process::{ChildStdin, Stdio};
use std::thread;

/// What goes into the emptiest pipe without waiting for a reader: a page.
const PAGE: usize = 4096;

/// Runs the program on a payload: what it printed, or why there is nothing.
pub(super) fn run(program: &Program, payload: &[u8]) -> Result<Vec<u8>, String> {
    let mut command = program.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = program.spawn(&mut command)?;
    let (to, from) = (child.stdin.take(), child.stdout.take());
    let mut printed = Vec::new();
    let read = thread::scope(|scope| {
        if payload.len() <= PAGE {
            feed(to, payload);
        } else {
            // It may print before it has read everything.
            scope.spawn(|| feed(to, payload));
        }
        from.map_or(Ok(0), |mut from| from.read_to_end(&mut printed))
    });
    program.reap(&mut child)?;
    match read {
        Ok(_) => Ok(printed),
        Err(error) => Err(program.cannot("read from", &error)),
    }
}

/// Writes all, to whoever reads it: a program need not.
fn feed(to: Option<ChildStdin>, payload: &[u8]) {
    if let Some(mut to) = to
        && let Err(error) = to.write_all(payload)
    {
        debug_assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
