//! Processes that stay: a line in, a line out.

use crate::program::Program;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

/// A program, and those of its processes that wait for a line. There are as many as jobs ever ran at once.
pub(crate) struct Filter {
    program: Program,
    idle: Mutex<Vec<Process>>,
}

struct Process {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
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
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut process = match idle {
            Some(mut process) => match process.ask(line) {
                Some(answer) => return self.keep(process, answer),
                // It may have ended long before.
                None => {
                    let _ = self.end_of(process);
                    self.start()?
                }
            },
            None => self.start()?,
        };
        match process.ask(line) {
            Some(answer) => self.keep(process, answer),
            None => Err(self.end_of(process)),
        }
    }

    fn keep(&self, process: Process, answer: Vec<u8>) -> Result<Vec<u8>, String> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(process);
        Ok(answer)
    }

    fn start(&self) -> Result<Process, String> {
        let mut command = self.program.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = self.program.spawn(&mut command)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(to), Some(from)) => Ok(Process { child, to, from: BufReader::new(from) }),
            _ => Err("a pipe is missing".to_owned()),
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
    /// `None` when it has ended, or prints no line's end before it does.
    fn ask(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        self.to.write_all(&[line, b"\n"].concat()).ok()?;
        let mut answer = Vec::new();
        self.from.read_until(b'\n', &mut answer).ok()?;
        (answer.pop() == Some(b'\n')).then_some(answer)
    }
}
