//! The configuration file: TOML, in which every key has to be known; and `layshaft config`.

use crate::args::serve::{JobOptions, ServerOptions};
use crate::args::{Args, Command, Config as Asked, ConfigWhat};
use crate::{EXIT_USAGE, complain};
use clap::Parser;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The section of functions that have none of their own.
const ALL: &str = "*";
/// A file that is larger is something else.
const MOST_BYTES: u64 = 16 << 20;

/// What a file says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) server: ServerOptions,
    #[serde(default)]
    function: BTreeMap<String, JobOptions>,
}

impl Config {
    /// Reads a file; `named` is how it was called.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub(crate) fn read(path: &Path, named: &Path) -> Result<Config, String> {
        let shown = crate::name::spelled(named.as_os_str());
        let cannot = |error: io::Error| format!("cannot read {shown}: {error}");
        let file = File::open(path).map_err(cannot)?;
        let about = file.metadata().map_err(cannot)?;
        if about.is_file() && about.mode() & 0o002 != 0 {
            return Err(format!("{shown} can be written by anybody, and is not trusted: chmod o-w {shown}"));
        }
        let mut text = String::new();
        file.take(MOST_BYTES).read_to_string(&mut text).map_err(cannot)?;
        toml::from_str(&text).map_err(|error| told(&shown, &text, error.message(), error.span()))
    }

    /// Of all functions.
    pub(crate) fn jobs(&self) -> JobOptions {
        self.function.get(ALL).cloned().unwrap_or_default()
    }

    /// Of single functions.
    pub(crate) fn functions(&self) -> impl Iterator<Item = (&str, &JobOptions)> {
        self.function.iter().map(|(name, jobs)| (name.as_str(), jobs)).filter(|(name, _)| *name != ALL)
    }
}

/// An error with its place: the line, and what is meant there.
fn told(path: &str, text: &str, message: &str, span: Option<Range<usize>>) -> String {
    let message = plain(message);
    let Some(span) = span else { return format!("{path}: {message}") };
    let start = span.start.min(text.len());
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let number = text[..line_start].matches('\n').count() + 1;
    let before = text[line_start..start].chars().count();
    let rest = line.chars().count().saturating_sub(before).max(1);
    let meant = text.get(span).map_or(1, |meant| meant.chars().count()).clamp(1, rest);
    let (gutter, line) = (" ".repeat(number.to_string().len()), line.replace(char::is_control, " "));
    format!(
        "{path}:{number}:{}: {message}\n{gutter} |\n{number} | {line}\n{gutter} | {}{}",
        before + 1,
        " ".repeat(before),
        "^".repeat(meant)
    )
}

/// The parser's message in our words: for a name that is not known, the one that was probably meant.
fn plain(message: &str) -> String {
    let message = message.trim();
    let mut names = message.split('`').skip(1).step_by(2);
    let kind = match message {
        _ if message.starts_with("unknown field") => "key",
        _ if message.starts_with("unknown variant") => "value",
        _ => return message.replace('\n', " "),
    };
    let wrong = names.next().unwrap_or_default();
    let known: Vec<&str> = names.collect();
    let close = known.iter().map(|name| (strsim::osa_distance(wrong, name), *name)).min();
    let hint = match close {
        Some((distance, name)) if distance <= 1 + name.len() / 3 => format!("; did you mean {name:?}?"),
        _ => format!("; there are {}", known.join(", ")),
    };
    format!("unknown {kind} {wrong:?}{hint}")
}

/// Runs the command `config`; its exit code.
pub(crate) fn run(options: &Asked) -> u8 {
    let ConfigWhat::Check { file } = &options.what;
    match check(file) {
        Ok(()) => {
            // Who does not listen has the exit code.
            let _ = writeln!(io::stdout(), "{}: nothing is wrong", crate::name::spelled(file.as_os_str()));
            0
        }
        Err(message) => {
            complain(io::stderr(), message);
            EXIT_USAGE
        }
    }
}

/// Looks at a file as `serve --config` does, with what the environment says.
fn check(file: &Path) -> Result<(), String> {
    let words = [OsStr::new("layshaft"), OsStr::new("serve"), OsStr::new("--config"), file.as_os_str()];
    match Args::try_parse_from(words).map_err(|error| error.to_string())?.command {
        Command::Serve(options) => crate::serve::check(&options),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let error = toml::from_str::<Config>(text).expect_err("it is wrong");
        told("f.toml", text, error.message(), error.span())
    }

    #[test]
    fn errors_show_the_place() {
        assert_eq!(
            error("[server]\nthreads = 2\nlisen = []\n"),
            "f.toml:3:1: unknown key \"lisen\"; did you mean \"listen\"?\n  |\n3 | lisen = []\n  | ^^^^^"
        );
        assert_eq!(
            error("[sever]\n"),
            "f.toml:1:2: unknown key \"sever\"; did you mean \"server\"?\n  |\n1 | [sever]\n  |  ^^^^^"
        );
        let text = error("[function.\"*\"]\n  overflow = \"evict-newst\"");
        assert!(
            text.starts_with("f.toml:2:14: unknown value \"evict-newst\"; did you mean \"evict-newest\"?"),
            "{text}"
        );
        let text = error("[function.f]\nfoo = 1");
        assert!(text.starts_with("f.toml:2:1: unknown key \"foo\"; there are wakeup, "), "{text}");
        let text = error("[server]\nmax_packet = \"64 parsecs\"");
        assert!(text.starts_with("f.toml:2:14: \"64 parsecs\" is no size such as"), "{text}");
        let text = error("[server]\n\nthreads = ");
        assert!(text.starts_with("f.toml:3:1"), "{text}");
    }

    #[test]
    fn functions_have_sections() {
        let text = "[server]\nlisten = [\"::1\", \"/run/x\"]\nport = 1\n[function.\"*\"]\nwakeup = \"all\"\n[function.\"a::b\"]\nmax_queue = 3\nwakeup_delay = 0.5";
        let config: Config = toml::from_str(text).expect("nothing is wrong");
        assert_eq!(config.server.listen.as_ref().map(Vec::len), Some(2));
        assert_eq!(config.jobs().wakeup.map(|count| count.0), Some(usize::MAX));
        let functions: Vec<_> = config.functions().map(|(name, jobs)| (name, jobs.max_queue)).collect();
        assert_eq!(functions, [("a::b", Some(3))]);
    }
}
