//! Processes that stay: a line in, a line out.

use crate::program::Program;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{ioctl_fionread, retry_on_intr};
use std::io::{self, ErrorKind, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

/// What is read at once.
const PART: usize = 16 << 10;

/// A program, and those of its processes that wait for a line. There are as many as jobs ever ran at once.
pub(crate) struct Filter {
    program: Program,
    idle: Mutex<Vec<Process>>,
}

struct Process {
    child: Child,
    /// Does not block: the process may want to print before it has read a line to its end.
    to: ChildStdin,
    from: ChildStdout,
}

/// What became of a line.
enum Asked {
    Answered(Vec<u8>),
    /// The process has ended, and has read nothing of it.
    Unread,
    /// The process has ended, or will print no more.
    Ended,
    /// The process does not print a line a line.
    Odd(&'static str),
}

impl Filter {
    pub(super) fn new(program: Program) -> Filter {
        Filter { program, idle: Mutex::default() }
    }

    /// Gives a line to one of the processes: the line that it prints, or why there is none.
    pub(super) fn run(&self, payload: &[u8]) -> Result<Vec<u8>, String> {
        let line = payload.strip_suffix(b"\n").unwrap_or(payload);
        if memchr::memchr(b'\n', line).is_some() {
            return Err("the payload has several lines, and a filter reads one".to_owned());
        }
        let line = [line, b"\n"].concat();
        while let Some(mut process) = self.idle() {
            if !process.is_quiet() {
                // It has ended, or prints what would pass for the answer to this line.
                self.stop(process);
                continue;
            }
            match process.ask(&line) {
                // It ended between two jobs.
                Ok(Asked::Unread) => _ = self.end_of(process),
                asked => return self.answer(process, asked),
            }
        }
        let mut process = self.start()?;
        let asked = process.ask(&line);
        self.answer(process, asked)
    }

    fn idle(&self) -> Option<Process> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn answer(&self, process: Process, asked: io::Result<Asked>) -> Result<Vec<u8>, String> {
        match asked {
            Ok(Asked::Answered(answer)) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(process);
                Ok(answer)
            }
            Ok(Asked::Unread | Asked::Ended) => Err(self.end_of(process)),
            Ok(Asked::Odd(what)) => {
                self.stop(process);
                Err(format!("{} {what}, and was ended", self.program.quoted()))
            }
            Err(error) => {
                self.stop(process);
                Err(self.program.cannot("talk to", &error))
            }
        }
    }

    fn start(&self) -> Result<Process, String> {
        let mut command = self.program.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = self.program.spawn(&mut command)?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a pipe is missing".to_owned());
        };
        let process = Process { child, to, from };
        match fcntl_getfl(&process.to).and_then(|flags| fcntl_setfl(&process.to, flags | OFlags::NONBLOCK)) {
            Ok(()) => Ok(process),
            Err(error) => {
                self.stop(process);
                Err(self.program.cannot("talk to", &error.into()))
            }
        }
    }

    /// Waits for the end of a process that gave no line: what happened.
    fn end_of(&self, process: Process) -> String {
        let Process { mut child, to, from } = process;
        drop((to, from));
        match self.program.reap(&mut child) {
            Ok(()) => format!("{} ended without an answer", self.program.quoted()),
            Err(why) => why,
        }
    }

    /// Ends a process, whatever it does.
    fn stop(&self, mut process: Process) {
        self.program.kill(&process.child);
        // How it ends is known.
        let _ = self.program.reap(&mut process.child);
    }

    /// Lets all processes end: they read no more.
    pub(super) fn end(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for Process { mut child, to, from } in idle {
            drop((to, from));
            // How it ends concerns no job.
            let _ = self.program.reap(&mut child);
        }
    }
}

impl Process {
    /// Whether it has printed nothing since its last answer, and may print more.
    fn is_quiet(&self) -> bool {
        let mut files = [PollFd::new(&self.from, PollFlags::IN)];
        matches!(retry_on_intr(|| poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))), Ok(0))
    }

    /// Writes the line, and reads until there is one, both as far as it goes.
    fn ask(&mut self, line: &[u8]) -> io::Result<Asked> {
        let (mut left, mut answer, mut part) = (line, Vec::new(), [0; PART]);
        loop {
            let (may_read, may_write) = self.wait(!left.is_empty())?;
            if may_write {
                match self.to.write(left) {
                    Ok(written) => left = &left[written..],
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
                    Err(_) if left.len() == line.len() => return Ok(Asked::Unread),
                    // It reads no more; it may still answer.
                    Err(_) => left = &[],
                }
            }
            if !may_read {
                continue;
            }
            let read = retry_on_intr(|| rustix::io::read(&self.from, &mut part))?;
            let new = &part[..read];
            let end = memchr::memchr(b'\n', new);
            answer.extend_from_slice(&new[..end.unwrap_or(new.len())]);
            match end {
                None if new.is_empty() && self.has_read_none_of(line) => return Ok(Asked::Unread),
                None if new.is_empty() => return Ok(Asked::Ended),
                None => {}
                Some(at) if at + 1 < new.len() => return Ok(Asked::Odd("printed more than a line for a line")),
                Some(_) if !left.is_empty() => return Ok(Asked::Odd("answered before it had read the line")),
                Some(_) => return Ok(Asked::Answered(answer)),
            }
        }
    }

    /// Waits until it can be read from, or written to if that is wanted: which of them.
    fn wait(&self, writes: bool) -> io::Result<(bool, bool)> {
        let wanted = if writes { PollFlags::OUT } else { PollFlags::empty() };
        let mut files = [PollFd::new(&self.from, PollFlags::IN), PollFd::new(&self.to, wanted)];
        // Without a wish for it, the end of reading there is told again and again.
        let files = if writes { &mut files[..] } else { &mut files[..1] };
        retry_on_intr(|| poll(files, None))?;
        let is_ready = |at: usize| files.get(at).is_some_and(|file| !file.revents().is_empty());
        Ok((is_ready(0), is_ready(1)))
    }

    /// Whether all of the line is in the pipe still. Where the kernel does not tell, it may have been read.
    fn has_read_none_of(&self, line: &[u8]) -> bool {
        ioctl_fionread(&self.to).is_ok_and(|bytes| bytes == line.len() as u64)
    }
}
