//! Results to standard output, messages to standard error.

use crate::complain;
use crate::found::{self, Format};
use crate::name::quoted;
use crate::work::Failure;
use layshaft::JobError;
use std::fmt::Display;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a result may stay in the output buffer.
pub(crate) const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// Bytes of output written at once.
const OUTPUT_BUFFER: usize = 64 * 1024;

pub(crate) struct Printer<O: Write, E: Write> {
    format: Format,
    output: BufWriter<O>,
    flushed: Instant,
    errors: E,
}

impl<O: Write, E: Write> Printer<O, E> {
    pub(crate) fn new(format: Format, output: O, errors: E) -> Printer<O, E> {
        let output = BufWriter::with_capacity(OUTPUT_BUFFER, output);
        Printer { format, output, flushed: Instant::now(), errors }
    }

    pub(crate) fn result(&mut self, line: &[u8]) -> io::Result<()> {
        self.output.write_all(line)
    }

    /// An input without a result. What a program had printed before it failed is not lost.
    pub(crate) fn failure(&mut self, input: &Path, failure: &Failure) -> io::Result<()> {
        let name = quoted(input.as_os_str());
        match (self.format, failure) {
            (Format::Text, Failure::Unreadable(error)) => self.message(format_args!("cannot read {name}: {error}")),
            (Format::Text, Failure::Program(failed)) => {
                self.output.write_all(&failed.printed)?;
                self.message(format_args!("{name}: {}", failed.why));
            }
            (Format::Json, Failure::Unreadable(error)) => {
                self.error(input, &format!("cannot read {name}: {error}"), &[])?;
            }
            (Format::Json, Failure::Program(failed)) => self.error(input, &failed.why, &failed.printed)?,
        }
        Ok(())
    }

    /// A job that ended in another way than by its function's return.
    pub(crate) fn lost(&mut self, function: &str, input: &Path, error: &JobError) -> io::Result<()> {
        let why = match error {
            JobError::Panicked(panic) => format!(" panicked: {}", panic.message()),
            error => format!(": {error}"),
        };
        let text = format!("{function} of {}{why}", quoted(input.as_os_str()));
        match self.format {
            Format::Text => self.message(text),
            Format::Json => self.error(input, &text, &[])?,
        }
        Ok(())
    }

    /// A message that is of no one input. Not among JSON, where the summary says it.
    pub(crate) fn remark(&mut self, text: impl Display) {
        if self.format == Format::Text {
            self.message(text);
        }
    }

    fn message(&mut self, text: impl Display) {
        complain(&mut self.errors, text);
    }

    fn error(&mut self, input: &Path, error: &str, output: &[u8]) -> io::Result<()> {
        self.output.write_all(&found::error(input.as_os_str(), error, output))
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.output.buffer().is_empty()
    }

    /// Writes what has waited long enough.
    pub(crate) fn flush_if_due(&mut self) -> io::Result<()> {
        if !self.is_flushed() && self.flushed.elapsed() >= FLUSH_AFTER {
            self.flush()?;
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.flushed = Instant::now();
        self.output.flush()
    }

    /// Both ends, for tests to look at. The output must have been flushed.
    #[cfg(test)]
    pub(crate) fn into_parts(self) -> (O, E) {
        let output = self.output.into_inner().unwrap_or_else(|_| panic!("flushed before"));
        (output, self.errors)
    }
}
