//! The command line.

use crate::builtin::Builtin;
use clap::{Parser, Subcommand, value_parser};
use std::ffi::OsString;

/// More are a typing error rather than a wish.
const MOST_WORKERS: i64 = 1024;

/// Runs functions over many inputs on a lock-free, work-stealing engine
#[derive(Debug, Parser)]
#[command(name = "layshaft", version, after_help = "Exit codes: 0 ok, 1 a job failed, 2 usage")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Map(Map),
    Bench(Bench),
    Completions(Completions),
    Man(Man),
}

/// Print a script that completes this command in a shell
///
/// For bash: layshaft completions bash > ~/.local/share/bash-completion/completions/layshaft
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Print the manual page of this command, or of one of its subcommands
///
/// To read it: layshaft man map | man -l -
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// The subcommand [default: the command itself]
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Option<String>,
}

/// Run a built-in function on every file, and print one line a file in input order
///
/// Each INPUT is a file, `-` for standard input (once), or a folder: every regular file below it, hidden ones included, in the
/// order of the whole path's bytes. Symbolic links inside folders are not followed; one that is named is.
///
/// Results go to standard output as they become available, errors and a summary to standard error. A name with a
/// backslash, a newline or a carriage return is escaped as sha256sum does it: \\, \n, \r, and a backslash in front of
/// the line; by wc, a name with a newline is quoted as wc does it without a locale.
#[derive(Debug, clap::Args)]
pub(crate) struct Map {
    /// The function to run
    #[arg(value_enum)]
    pub(crate) function: Builtin,

    /// Files and folders
    // Parsed as text: the parser of paths refuses an empty one, and with it the whole run.
    #[arg(required = true, value_name = "INPUT", value_parser = value_parser!(OsString))]
    pub(crate) inputs: Vec<OsString>,

    /// Worker threads [default: one a core]
    #[arg(long, short, value_name = "N", value_parser = value_parser!(u16).range(1..=MOST_WORKERS))]
    pub(crate) jobs: Option<u16>,

    /// Print no summary
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Print the engine's own figures at the end, on standard error: a line a worker
    #[arg(long)]
    pub(crate) stats: bool,
}

/// Measure the engine on this machine
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) what: BenchWhat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchWhat {
    /// What a job costs in process: send, batches, submit and wait, nested jobs, many functions
    Core {
        /// Few and short repetitions: shows that it works, not how fast
        #[arg(long)]
        quick: bool,
    },
}
