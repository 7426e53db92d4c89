//! The log: a line an event, as text or JSON. Names from peers are escaped, so that no line can be forged; payloads are not logged.

use crate::args::serve::{Level, LogFormat};
use layshaft::gearman::ServerEvent;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info, trace, warn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Lines that peers cause, a second at most: what more they do is counted.
const LINES: u32 = 200;

/// The log of the process.
#[derive(Clone)]
pub(super) struct Log {
    output: Output,
    filter: reload::Handle<LevelFilter, Registry>,
}

impl Log {
    /// Starts to log.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn start(level: Option<Level>, format: LogFormat, file: Option<PathBuf>) -> Result<Log, String> {
        let output = Output { file: Arc::new(Mutex::new(open(file)?)) };
        let (filter, handle) = reload::Layer::new(filter(level));
        let lines = tracing_subscriber::fmt::layer().with_target(false).with_ansi(false).log_internal_errors(false);
        let lines = lines.with_writer(output.clone());
        let lines = match format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        let subscriber = Registry::default().with(filter).with(lines);
        // There is no other one.
        let _ = tracing::subscriber::set_global_default(subscriber);
        Ok(Log { output, filter: handle })
    }

    /// Writes to another file, or the same opened again, and changes the level.
    pub(super) fn change(&self, level: Option<Level>, file: Option<File>) {
        *self.output.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        // Fails only when there is no log any more.
        let _ = self.filter.reload(filter(level));
    }
}

/// Opens the file of a log; `None` is standard error.
///
/// # Errors
/// When it cannot be opened.
pub(super) fn open(path: Option<PathBuf>) -> Result<Option<File>, String> {
    use std::os::unix::fs::OpenOptionsExt;
    let open = |path: PathBuf| {
        let file = File::options().append(true).create(true).mode(0o640).open(&path);
        file.map_err(|error| format!("cannot write the log to {}: {error}", path.display()))
    };
    path.map(open).transpose()
}

fn filter(level: Option<Level>) -> LevelFilter {
    match level.unwrap_or(Level::Info) {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// Where lines go: a file, or standard error.
#[derive(Clone)]
struct Output {
    file: Arc<Mutex<Option<File>>>,
}

impl Write for &Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.file.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(file) => file.write(line),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = &'a Output;

    fn make_writer(&'a self) -> &'a Output {
        self
    }
}

/// Writes down what happens to a server.
#[derive(Default)]
pub(super) struct Scribe {
    /// Since when lines are counted, how many there were, and how many were left out.
    second: Mutex<Option<(Instant, u32, u64)>>,
    /// Jobs in hand had no time to end.
    pub(super) was_cut_short: AtomicBool,
}

impl Scribe {
    pub(super) fn hear(&self, event: &ServerEvent) {
        match event {
            ServerEvent::Draining { jobs } => return info!(jobs, "no more jobs are given out; jobs in hand end"),
            ServerEvent::CutShort { jobs } => {
                // Ordering: Relaxed, looked at when the server's threads have ended.
                self.was_cut_short.store(true, Ordering::Relaxed);
                return warn!(jobs, "the time for jobs in hand is over");
            }
            ServerEvent::Connected { .. } if !tracing::enabled!(tracing::Level::DEBUG) => return,
            ServerEvent::Disconnected { .. } if !tracing::enabled!(tracing::Level::TRACE) => return,
            _ if !self.may_write(Instant::now()) => return,
            _ => {}
        }
        match event {
            ServerEvent::Connected { peer } => debug!(peer, "connected"),
            ServerEvent::Disconnected { peer } => trace!(peer, "disconnected"),
            ServerEvent::TurnedAway { peer, why } => warn!(peer, why, "turned away"),
            ServerEvent::Insecure { peer, why } => info!(peer, why, "no secure connection"),
            ServerEvent::Error { peer, code, text } => {
                let (code, text) = (shown(code.as_bytes()), shown(text.as_bytes()));
                info!(peer, code, text, "error");
            }
            ServerEvent::TooSlow { peer } => info!(peer, "closed, as it was too slow"),
            ServerEvent::WorkerLost { peer, function, job } => {
                warn!(peer, function = shown(function), job = shown(job), "worker lost with a job in its hands");
            }
            ServerEvent::TimedOut { peer, function, job } => {
                warn!(peer, function = shown(function), job = shown(job), "job timed out");
            }
            ServerEvent::AcceptFailed { error } => error!(error, "cannot accept a connection"),
            event => info!(event = shown(format!("{event:?}").as_bytes()), "event"),
        }
    }

    /// Whether there is room for a line of a peer's in this second.
    fn may_write(&self, now: Instant) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        match second.as_mut().filter(|(since, ..)| now.duration_since(*since) < Duration::from_secs(1)) {
            Some((_, lines, _)) if *lines < LINES => {
                *lines += 1;
                true
            }
            Some((.., left_out)) => {
                *left_out += 1;
                false
            }
            None => {
                let before = second.replace((now, 1, 0));
                drop(second);
                if let Some((_, _, left_out @ 1..)) = before {
                    warn!(left_out, "there was more than is logged in a second");
                }
                true
            }
        }
    }
}

/// A name that is one word and cannot break a line: control characters, white space, what is not UTF-8, quotes and backslashes are
/// `\xNN`.
pub(super) fn shown(name: &[u8]) -> String {
    let mut word = String::with_capacity(name.len());
    let escape = |word: &mut String, bytes: &[u8]| {
        // Writing to a string cannot fail.
        bytes.iter().for_each(|byte| _ = write!(word, "\\x{byte:02x}"));
    };
    for part in name.utf8_chunks() {
        for c in part.valid().chars() {
            if c.is_ascii_graphic() && !matches!(c, '\\' | '"') || c.is_alphanumeric() {
                word.push(c);
            } else {
                escape(&mut word, c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        escape(&mut word, part.invalid());
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_word() {
        assert_eq!(shown("thé-1/2".as_bytes()), "thé-1/2");
        assert_eq!(shown(b"a\nb c\\\"\x1b[2J\xff"), "a\\x0ab\\x20c\\x5c\\x22\\x1b[2J\\xff");
        assert_eq!(shown("\u{202e}".as_bytes()), "\\xe2\\x80\\xae");
    }

    #[test]
    fn a_flood_is_counted() {
        let scribe = Scribe::default();
        let now = Instant::now();
        let written = |now| (0..3 * LINES).filter(|_| scribe.may_write(now)).count();
        assert_eq!(written(now), LINES as usize);
        assert_eq!(written(now + Duration::from_millis(999)), 0);
        assert_eq!(scribe.second.lock().unwrap().map(|(.., left_out)| left_out), Some(5 * u64::from(LINES)));
        assert_eq!(written(now + Duration::from_secs(1)), LINES as usize);
    }
}
