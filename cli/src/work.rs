//! What is done with one input: a built-in function, a program, or a function of Gearman servers.

use crate::builtin::Builtin;
use crate::found::{Bytes, Format, Found};
use crate::program::{Failed, Program};
use crate::remote::function::Remote;
use std::io;
use std::path::Path;

/// The function of a run.
pub(crate) enum Work {
    Builtin(Builtin),
    Program(Program),
    Remote(Remote),
}

/// What it made of one input.
#[derive(Debug)]
pub(crate) struct Output {
    /// What is to be printed.
    pub(crate) line: Vec<u8>,
    /// Bytes read: of the input by a built-in function, of what it prints from a program; sent, to a remote function.
    pub(crate) bytes: u64,
}

/// Why it made nothing of one input.
#[derive(Debug)]
pub(crate) enum Failure {
    Unreadable(io::Error),
    Program(Failed),
}

impl Work {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Work::Builtin(builtin) => builtin.name(),
            Work::Program(_) => "command",
            Work::Remote(_) => "remote",
        }
    }

    pub(crate) fn run(&self, input: &Path, format: Format) -> Result<Output, Failure> {
        let (found, bytes) = match self {
            Work::Builtin(builtin) => builtin.run(input).map_err(Failure::Unreadable)?,
            Work::Program(program) => {
                let printed = program.run(input.as_os_str()).map_err(Failure::Program)?;
                let bytes = printed.len() as u64;
                (Found::Printed(Bytes(printed)), bytes)
            }
            Work::Remote(remote) => {
                let (came, sent) = remote.run(input)?;
                // A function of the same name says the same as here, if it can be read so.
                let same = remote.builtin().and_then(|builtin| builtin.read(&came));
                (same.unwrap_or(Found::Printed(Bytes(came))), sent)
            }
        };
        Ok(Output { line: found.format(format, input.as_os_str()), bytes })
    }
}
