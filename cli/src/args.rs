//! The command line.

mod map;
mod remote;

use clap::{Parser, Subcommand};
pub(crate) use map::{Asked, Map, Request};
pub(crate) use remote::{Admin, Servers, Submit};

/// More are a typing error rather than a wish.
const MOST_WORKERS: i64 = 1024;

/// Runs functions over many inputs on a lock-free, work-stealing engine, and jobs on Gearman servers
#[derive(Debug, Parser)]
#[command(
    name = "layshaft",
    version,
    after_help = "Exit codes: 0 ok, 1 a job failed, 2 usage, 3 cannot connect, 4 timed out, 5 refused, 128 and more: interrupted by a signal"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Map(Map),
    Submit(Submit),
    Admin(Admin),
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
