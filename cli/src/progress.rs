//! The progress bar: on a terminal only, and out of the way of what is printed there.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::thread;

/// How far a run is, while the number of inputs is not known, and afterwards.
const COUNTING: &str = "{spinner} {pos} done in {elapsed}";
const COUNTED: &str = "[{bar:30}] {pos}/{len} in {elapsed}, {eta} left";

/// The bar, or nothing.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Asked once: asking the bar takes a lock.
    is_seen: bool,
}

impl Progress {
    /// A bar on standard error, if that is a terminal and `wanted`.
    pub(crate) fn new(wanted: bool) -> Progress {
        // Hidden by the library on what is no terminal, or one that cannot move its cursor.
        let target = if wanted { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_style(style(COUNTING));
        Progress { is_seen: !bar.is_hidden(), bar }
    }

    /// Counts the inputs aside, so that the bar knows its end. Only for a bar that is seen.
    pub(crate) fn count(&self, inputs: impl Iterator + Send + 'static) {
        if !self.is_seen {
            return;
        }
        let bar = self.bar.clone();
        let count = move || {
            bar.set_length(inputs.count() as u64);
            bar.set_style(style(COUNTED));
        };
        // Without the thread the bar does not know its end.
        let _ = thread::Builder::new().name("count".to_owned()).spawn(count);
    }

    /// Shows that so many inputs are done.
    pub(crate) fn show(&self, done: u64) {
        if self.is_seen {
            self.bar.set_position(done);
            self.bar.tick();
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// A way to print to `to` without breaking the bar.
    pub(crate) fn beside<W: Write + IsTerminal>(&self, to: W) -> Beside<W> {
        let bar = (self.is_seen && to.is_terminal()).then(|| self.bar.clone());
        Beside { bar, to }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above can be read").progress_chars("=> ")
}

/// Takes the bar away while something is printed.
pub(crate) struct Beside<W> {
    bar: Option<ProgressBar>,
    to: W,
}

impl<W: Write> Write for Beside<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Beside { bar: Some(bar), to } = self else { return self.to.write(bytes) };
        bar.suspend(|| {
            to.write_all(bytes)?;
            to.flush()?;
            Ok(bytes.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
