//! A program as the function: one process an input, without a shell.

use crate::args::STDIO;
use crate::children::Children;
use crate::name::spelled;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
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
        Ok(Program { path, name: name.to_owned(), args: args.to_vec(), children })
    }

    /// The same, with a place for the input among the arguments: the last one, if there is none.
    pub(crate) fn find_for_inputs(name: &OsStr, args: &[OsString], children: Arc<Children>) -> Result<Program, String> {
        let mut program = Program::find(name, args, children)?;
        if !args.iter().any(|arg| memchr::memmem::find(arg.as_bytes(), PLACE).is_some()) {
            program.args.push(OsString::from_vec(PLACE.to_vec()));
        }
        Ok(program)
    }

    /// Runs it for one input: what it printed.
    pub(crate) fn run(&self, input: &OsStr) -> Result<Vec<u8>, Failed> {
        let mut command = Command::new(&self.path);
        command.arg0(&self.name).args(self.args.iter().map(|arg| fill(arg, input)));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut printed = Vec::new();
        let mut child = match self.spawn(&mut command) {
            Ok(child) => child,
            Err(why) => return Err(Failed { why, printed }),
        };
        let read = child.stdout.take().map_or(Ok(0), |mut from| from.read_to_end(&mut printed));
        let why = match (read, self.reap(&mut child)) {
            (Ok(_), Ok(())) => return Ok(printed),
            (Err(error), _) => self.cannot("read from", &error),
            (_, Err(why)) => why,
        };
        Err(Failed { why, printed })
    }

    /// Its command line as it stands.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        // What stands there is for this process, not for those that it starts.
        command.arg0(&self.name).args(&self.args).env_remove(STDIO);
        command
    }

    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child, String> {
        self.children.spawn(command).map_err(|error| self.cannot("run", &error))
    }

    /// Waits for a process: what happened, if it did not end well.
    pub(crate) fn reap(&self, child: &mut Child) -> Result<(), String> {
        match self.children.reap(child) {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{} {}", self.quoted(), ending(status))),
            Err(error) => Err(self.cannot("wait for", &error)),
        }
    }

    /// Kills a process that was not reaped, with what it started in its group.
    pub(crate) fn kill(&self, child: &Child) {
        self.children.kill_one(child);
    }

    pub(crate) fn cannot(&self, what: &str, error: &io::Error) -> String {
        format!("cannot {what} {}: {error}", self.quoted())
    }

    /// Its name, for messages.
    pub(crate) fn quoted(&self) -> String {
        format!("`{}`", spelled(&self.name))
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
