//! A program as the function: one process an input, without a shell.

use crate::children::Children;
use crate::name::spelled;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

/// Stands for the input.
const PLACE: &[u8] = b"{}";

/// A program with its arguments.
pub(crate) struct Program {
    path: PathBuf,
    name: OsString,
    args: Vec<OsString>,
    children: Arc<Children>,
}

/// Why a process gave no result.
#[derive(Debug)]
pub(crate) struct Failed {
    /// What happened, to be said after the input.
    pub(crate) why: String,
    /// What it had printed until then.
    pub(crate) printed: Vec<u8>,
}

impl Program {
    /// Looks the program up, so that a name that is wrong is told once and before anything runs.
    pub(crate) fn find(name: &OsStr, args: &[OsString], children: Arc<Children>) -> Result<Program, String> {
        let Ok(path) = which::which(name) else {
            let place = if name.as_bytes().contains(&b'/') { "" } else { " in PATH" };
            return Err(format!("cannot run `{}`: no such program{place}, or one that may not be run", spelled(name)));
        };
        let mut args = args.to_vec();
        if !args.iter().any(|arg| memchr::memmem::find(arg.as_bytes(), PLACE).is_some()) {
            args.push(OsString::from_vec(PLACE.to_vec()));
        }
        Ok(Program { path, name: name.to_owned(), args, children })
    }

    /// Runs it for one input: what it printed.
    pub(crate) fn run(&self, input: &OsStr) -> Result<Vec<u8>, Failed> {
        let mut command = Command::new(&self.path);
        command.arg0(&self.name).args(self.args.iter().map(|arg| fill(arg, input)));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let name = format!("`{}`", spelled(&self.name));
        let fail = |what: &str, error| format!("cannot {what} {name}: {error}");
        let started = self.children.spawn(&mut command);
        let mut child = started.map_err(|error| Failed { why: fail("run", error), printed: Vec::new() })?;
        let mut printed = Vec::new();
        let read = child.stdout.take().map_or(Ok(0), |mut from| from.read_to_end(&mut printed));
        let why = match (read, self.children.reap(&mut child)) {
            (Ok(_), Ok(status)) if status.success() => return Ok(printed),
            (Ok(_), Ok(status)) => format!("{name} {}", ending(status)),
            (Err(error), _) => fail("read from", error),
            (_, Err(error)) => fail("wait for", error),
        };
        Err(Failed { why, printed })
    }
}

/// Puts the input in every place of an argument.
fn fill(arg: &OsStr, input: &OsStr) -> OsString {
    let mut filled = Vec::with_capacity(arg.len() + input.len());
    let mut rest = arg.as_bytes();
    while let Some(at) = memchr::memmem::find(rest, PLACE) {
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(input.as_bytes());
        rest = &rest[at + PLACE.len()..];
    }
    filled.extend_from_slice(rest);
    OsString::from_vec(filled)
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => match signal_hook::low_level::signal_name(signal) {
            Some(name) => format!("was killed by signal {signal} ({name})"),
            None => format!("was killed by signal {signal}"),
        },
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled() {
        let text = |arg: &str| fill(OsStr::new(arg), OsStr::new("{}x")).into_string().expect("text");
        assert_eq!(["", "{", "}{", "{}", "a{}b{{}}", "{}{}"].map(text), ["", "{", "}{", "{}x", "a{}xb{{}x}", "{}x{}x"]);
    }
}
