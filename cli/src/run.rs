//! Inputs through the engine to the output: in order, and never more than a window of them at once.

use crate::builtin::Output;
use crate::complain;
use crate::name::quoted;
use crate::summary::Tally;
use crate::walk::Unreadable;
use crate::window::Window;
use layshaft::{Engine, Function, JobError};
use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Jobs in flight at most: enough for the others to go on behind one large file, and a few megabytes at most.
const WINDOW: usize = 4096;

/// How long a result may stay in the output buffer.
const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// Bytes of output written at once.
const OUTPUT_BUFFER: usize = 64 * 1024;

/// One finished body.
pub(crate) struct Ran {
    output: io::Result<Output>,
    took: Duration,
}

pub(crate) type MapFunction = Function<Arc<Path>, Ran>;

/// Starts an engine with `body` as its one function.
pub(crate) fn start(
    workers: Option<u16>,
    name: &str,
    body: impl Fn(&Path) -> io::Result<Output> + Send + Sync + 'static,
) -> Result<(Engine, MapFunction), Box<dyn Error>> {
    let builder = Engine::builder();
    let builder = if let Some(workers) = workers { builder.workers(workers.into()) } else { builder };
    let engine = builder.start()?;
    let function = engine.function(name, move |path: Arc<Path>| {
        let started = Instant::now();
        let output = body(&path);
        Ran { output, took: started.elapsed() }
    })?;
    Ok((engine, function))
}

/// Inputs on their way through the engine to the output.
pub(crate) struct Run<O: Write, E: Write> {
    function: MapFunction,
    window: Window<Ran>,
    output: BufWriter<O>,
    flushed: Instant,
    errors: E,
    pub(crate) tally: Tally,
}

impl<O: Write, E: Write> Run<O, E> {
    pub(crate) fn new(function: MapFunction, output: O, errors: E) -> Run<O, E> {
        Run {
            function,
            window: Window::new(),
            output: BufWriter::with_capacity(OUTPUT_BUFFER, output),
            flushed: Instant::now(),
            errors,
            tally: Tally::new(),
        }
    }

    /// Takes every input to its end. The error is of the output; those of inputs are told and counted.
    pub(crate) fn all(&mut self, inputs: impl Iterator<Item = Result<PathBuf, Unreadable>>) -> io::Result<()> {
        for input in inputs {
            self.submit(input);
            self.deliver()?;
            while self.window.len() >= WINDOW {
                self.window.wait(FLUSH_AFTER);
                self.deliver()?;
            }
        }
        while !self.window.is_empty() {
            self.window.wait(FLUSH_AFTER);
            self.deliver()?;
        }
        self.output.flush()
    }

    fn submit(&mut self, input: Result<PathBuf, Unreadable>) {
        match input {
            Ok(path) => {
                let path: Arc<Path> = path.into();
                match self.function.submit(Arc::clone(&path)) {
                    Ok(handle) => self.window.push(path, handle),
                    Err(error) => self.window.push_ended(path, Err(JobError::Failed(error.to_string()))),
                }
            }
            Err(Unreadable { path, error }) => {
                let ran = Ran { output: Err(error), took: Duration::ZERO };
                self.window.push_ended(path.into(), Ok(ran));
            }
        }
    }

    /// Prints what has ended, in order.
    fn deliver(&mut self) -> io::Result<()> {
        while let Some((path, ended)) = self.window.pop() {
            self.tally.jobs += 1;
            match ended {
                Ok(ran) => self.print(&path, ran)?,
                Err(error) => self.fail(&path, &error),
            }
        }
        if !self.output.buffer().is_empty() && self.flushed.elapsed() >= FLUSH_AFTER {
            self.output.flush()?;
            self.flushed = Instant::now();
        }
        Ok(())
    }

    fn print(&mut self, path: &Path, ran: Ran) -> io::Result<()> {
        match ran.output {
            Ok(output) => {
                self.tally.bytes += output.bytes;
                self.tally.run_times.record(ran.took);
                self.output.write_all(&output.line)
            }
            Err(error) => {
                self.tally.failed += 1;
                complain(&mut self.errors, format_args!("cannot read {}: {error}", quoted(path.as_os_str())));
                Ok(())
            }
        }
    }

    /// A job that ended without a result.
    fn fail(&mut self, path: &Path, error: &JobError) {
        self.tally.failed += 1;
        let (function, path) = (self.function.name(), quoted(path.as_os_str()));
        match error {
            JobError::Panicked(panic) => {
                complain(&mut self.errors, format_args!("{function} of {path} panicked: {}", panic.message()));
            }
            error => complain(&mut self.errors, format_args!("{function} of {path}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use layshaft::Shutdown;
    use std::io::ErrorKind;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, mpsc};

    /// Longer than anything here takes, short enough to learn of a hang.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Runs `body` over inputs named by numbers: output, messages, tally.
    fn map(
        inputs: impl Iterator<Item = Result<PathBuf, Unreadable>>,
        body: impl Fn(&str) -> io::Result<String> + Send + Sync + 'static,
    ) -> (String, String, Tally) {
        let body = move |path: &Path| {
            let line = body(path.to_str().expect("a number"))?;
            Ok(Output { bytes: line.len() as u64, line: line.into_bytes() })
        };
        let (engine, function) = start(Some(3), "echo", body).expect("starts");
        let mut run = Run::new(function, Vec::new(), Vec::new());
        run.all(inputs).expect("a vector takes everything");
        let Run { output, errors, tally, .. } = run;
        let output = output.into_inner().expect("flushed");
        assert!(engine.shutdown(Shutdown::Drain).complete);
        (String::from_utf8(output).expect("text"), String::from_utf8(errors).expect("text"), tally)
    }

    fn numbers(n: usize) -> impl Iterator<Item = Result<PathBuf, Unreadable>> {
        (0..n).map(|i| Ok(PathBuf::from(i.to_string())))
    }

    fn lines(numbers: impl Iterator<Item = usize>) -> String {
        numbers.map(|i| format!("{i}\n")).collect()
    }

    #[test]
    fn more_jobs_than_the_window_come_out_in_order() {
        let n = WINDOW * 2 + 3;
        let (output, errors, tally) = map(numbers(n), |name| Ok(format!("{name}\n")));
        assert_eq!(output, lines(0..n));
        assert_eq!((errors.as_str(), tally.jobs, tally.failed), ("", n as u64, 0));
        assert_eq!(tally.bytes, output.len() as u64);
    }

    #[test]
    fn inputs_behind_a_full_window_are_not_asked_for() {
        let (open, opened) = mpsc::channel();
        let opened = Mutex::new(opened);
        let first_has_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&first_has_ended);
        // The first job waits for the last one that fits beside it.
        let body = move |name: &str| {
            if name == "0" {
                opened.lock().expect("not poisoned").recv_timeout(PATIENCE).expect("the other job runs");
                // Ordering: Release, pairs with the Acquire below.
                ended.store(true, Ordering::Release);
            } else if name == (WINDOW - 1).to_string() {
                open.send(()).expect("the first job waits");
            }
            Ok(String::new())
        };
        let inputs = numbers(WINDOW * 2).enumerate().map(|(i, input)| {
            // Ordering: Acquire, pairs with the Release above.
            assert!(i < WINDOW || first_has_ended.load(Ordering::Acquire), "input {i} came too early");
            input
        });
        let (_, errors, tally) = map(inputs, body);
        assert_eq!((errors.as_str(), tally.jobs, tally.failed), ("", WINDOW as u64 * 2, 0));
    }

    #[test]
    fn a_body_that_panics_is_told_and_the_others_go_on() {
        let (output, errors, tally) = map(numbers(500), |name| match name {
            "7" | "400" => panic!("no {name} here"),
            name => Ok(format!("{name}\n")),
        });
        assert_eq!(output, lines((0..500).filter(|i| ![7, 400].contains(i))));
        assert_eq!(
            errors,
            "layshaft: echo of '7' panicked: no 7 here\nlayshaft: echo of '400' panicked: no 400 here\n"
        );
        assert_eq!((tally.jobs, tally.failed), (500, 2));
    }

    #[test]
    fn a_place_that_cannot_be_walked_is_told_at_its_turn() {
        let lost = Err(Unreadable { path: "lost".into(), error: ErrorKind::PermissionDenied.into() });
        let (output, errors, tally) = map(numbers(2).chain([lost]).chain(numbers(1)), |name| Ok(format!("{name}\n")));
        assert_eq!(output, "0\n1\n0\n");
        assert_eq!(errors, "layshaft: cannot read 'lost': permission denied\n");
        assert_eq!((tally.jobs, tally.failed), (4, 1));
    }

    #[test]
    fn a_result_is_shown_while_later_jobs_run() {
        /// Tells that something was written.
        struct Tells(mpsc::Sender<()>);
        impl Write for Tells {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                // Later writes find nobody waiting.
                let _ = self.0.send(());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (tell, told) = mpsc::channel();
        let told = Mutex::new(told);
        let body = move |path: &Path| {
            if path == Path::new("1") {
                let told = told.lock().expect("not poisoned").recv_timeout(PATIENCE);
                told.expect("the line of job 0 is written while job 1 runs");
            }
            Ok(Output { line: b"line\n".to_vec(), bytes: 0 })
        };
        let (engine, function) = start(Some(2), "gated", body).expect("starts");
        let mut run = Run::new(function, Tells(tell), Vec::new());
        run.all(numbers(2)).expect("written");
        assert_eq!((run.tally.jobs, run.tally.failed), (2, 0));
        assert!(engine.shutdown(Shutdown::Drain).complete);
    }
}
