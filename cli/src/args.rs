//! The command line.

mod map;
mod remote;
pub(crate) mod serve;
mod tls;
mod work;

use clap::{Parser, Subcommand};
pub(crate) use map::{Asked, Map, Request};
pub(crate) use remote::{Admin, Explain, Submit};
pub(crate) use tls::Tls;
pub(crate) use work::{From, Offer, STDIO, Work};

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
    Serve(Box<serve::Serve>),
    Work(Work),
    Submit(Submit),
    Admin(Admin),
    Explain(Explain),
    Config(Config),
    Bench(Bench),
    Completions(Completions),
    Man(Man),
}

/// Look at configuration files
#[derive(Debug, clap::Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) what: ConfigWhat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigWhat {
    /// Say what is wrong with a file of `serve`, or that nothing is
    ///
    /// It is looked at as `serve --config FILE` does, with what the environment sets: addresses, certificates and all, but nothing is
    /// listened on.
    Check {
        /// The file
        file: std::path::PathBuf,
    },
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
    /// What a Gearman server does under load: latency, throughput, CPU time and memory a job
    Net(NetBench),
}

#[derive(Debug, clap::Args)]
pub(crate) struct NetBench {
    /// Measure a server that runs already
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "beside")]
    pub(crate) server: Option<String>,

    /// A command that starts another server, to compare with; {port} stands for its port: "gearmand -t 1 -L 127.0.0.1 -p {port}"
    #[arg(long, value_name = "COMMAND")]
    pub(crate) beside: Option<String>,

    /// Only scenarios with this in their name; may be repeated
    #[arg(long, value_name = "PART")]
    pub(crate) only: Vec<String>,

    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,

    /// Count system calls a job, too: with perf(1), in a run of its own
    #[arg(long, conflicts_with = "server")]
    pub(crate) syscalls: bool,

    /// Few jobs, once: shows that it works, not how fast
    #[arg(long)]
    pub(crate) quick: bool,
}
