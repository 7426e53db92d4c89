//! Inputs through the engine to the output, and never more than a window of them at once.

#[cfg(test)]
mod tests;

use crate::bell::Bell;
use crate::inputs::{Input, Unreadable};
use crate::interrupt::Interrupt;
use crate::printer::{FLUSH_AFTER, Printer};
use crate::progress::Progress;
use crate::summary::Tally;
use crate::window::Window;
use crate::work::{Failure, Output};
use layshaft::{Engine, Function, JobError};
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Jobs in flight at most: enough for the others to go on behind one large file, and a few megabytes at most (with a
/// program: as much as it prints for so many inputs).
const WINDOW: usize = 4096;

/// Inputs that an interrupted run counts at most, to tell how many it leaves.
const MOST_COUNTED: usize = 65_536;

/// One finished body.
pub(crate) struct Ran {
    result: Result<Output, Failure>,
    took: Duration,
}

pub(crate) type MapFunction = Function<Arc<Path>, Ran>;

/// Starts an engine with `body` as its one function.
pub(crate) fn start(
    workers: Option<u16>,
    name: &str,
    body: impl Fn(&Path) -> Result<Output, Failure> + Send + Sync + 'static,
) -> Result<(Engine, MapFunction), Box<dyn Error>> {
    let builder = Engine::builder();
    let builder = if let Some(workers) = workers { builder.workers(workers.into()) } else { builder };
    let engine = builder.start()?;
    let function = engine.function(name, move |path: Arc<Path>| {
        let started = Instant::now();
        let result = body(&path);
        Ran { result, took: started.elapsed() }
    })?;
    Ok((engine, function))
}

/// Inputs on their way through the engine to the output.
pub(crate) struct Run<O: Write, E: Write> {
    pub(crate) function: MapFunction,
    pub(crate) window: Window<Ran>,
    pub(crate) printer: Printer<O, E>,
    pub(crate) progress: Progress,
    /// Rings for the thread that the run is on.
    pub(crate) bell: Arc<Bell>,
    pub(crate) interrupt: Arc<Interrupt>,
    pub(crate) tally: Tally,
}

impl<O: Write, E: Write> Run<O, E> {
    /// Takes every input to its end, or stops when it is interrupted. The error is of the output; those of inputs are
    /// told and counted.
    pub(crate) fn all(&mut self, inputs: impl Iterator<Item = Poll<Input>>) -> io::Result<()> {
        let mut inputs = inputs.fuse();
        while !self.interrupt.is_wanted() {
            let has_room = self.window.len() < WINDOW;
            match has_room.then(|| inputs.next()) {
                Some(Some(Poll::Ready(input))) => self.submit(input),
                Some(None) if self.window.is_empty() => return self.printer.flush(),
                // No room, no input yet, or no more.
                _ => self.wait(),
            }
            self.deliver()?;
        }
        self.stop(inputs)
    }

    fn submit(&mut self, input: Input) {
        match input {
            Ok(path) => {
                let path: Arc<Path> = path.into();
                match self.function.submit(Arc::clone(&path)) {
                    Ok(handle) => self.window.push(path, handle),
                    Err(error) => self.window.push_ended(path, Err(JobError::Failed(error.to_string()))),
                }
            }
            Err(Unreadable { path, error }) => {
                let ran = Ran { result: Err(Failure::Unreadable(error)), took: Duration::ZERO };
                self.window.push_ended(path.into(), Ok(ran));
            }
        }
    }

    /// Sleeps until there may be something to do.
    fn wait(&mut self) {
        // Nothing is due while nothing runs: an input that comes rings, and so does a signal.
        let is_idle = self.window.is_empty() && self.printer.is_flushed();
        if !self.window.watch(&self.bell) {
            self.bell.wait((!is_idle).then_some(FLUSH_AFTER));
        }
    }

    /// Prints what has ended.
    fn deliver(&mut self) -> io::Result<()> {
        while let Some((path, ended)) = self.window.pop() {
            match ended {
                Err(JobError::Cancelled) => self.tally.not_started += 1,
                ended => self.print(&path, ended)?,
            }
        }
        self.progress.show(self.tally.jobs);
        self.printer.flush_if_due()
    }

    fn print(&mut self, path: &Path, ended: Result<Ran, JobError>) -> io::Result<()> {
        self.tally.jobs += 1;
        match ended {
            Ok(Ran { result: Ok(output), took }) => {
                self.tally.bytes += output.bytes;
                self.tally.run_times.record(took);
                self.printer.result(&output.line)
            }
            Ok(Ran { result: Err(failure), .. }) => {
                self.tally.failed += 1;
                self.printer.failure(path, &failure)
            }
            Err(error) => {
                self.tally.failed += 1;
                self.printer.lost(self.function.name(), path, &error)
            }
        }
    }

    /// Ends early: what has not started never will, what runs may end.
    fn stop(&mut self, inputs: impl Iterator<Item = Poll<Input>>) -> io::Result<()> {
        let running = self.window.cancel();
        if running > 0 {
            let jobs = if running == 1 { "job" } else { "jobs" };
            self.printer.remark(format_args!(
                "interrupted: waiting for {running} running {jobs}; a second interrupt leaves at once"
            ));
        }
        self.count_left(inputs);
        while !self.window.is_empty() {
            self.wait();
            self.deliver()?;
        }
        self.printer.flush()
    }

    fn count_left(&mut self, mut inputs: impl Iterator<Item = Poll<Input>>) {
        for _ in 0..MOST_COUNTED {
            match inputs.next() {
                Some(Poll::Ready(_)) => self.tally.not_started += 1,
                Some(Poll::Pending) => break,
                None => return,
            }
        }
        self.tally.are_more_left = true;
    }
}
