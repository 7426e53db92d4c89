//! What `serve` is asked.

use std::path::PathBuf;
use std::time::Duration;

/// Serve the Gearman protocol: clients submit jobs, workers grab them
///
/// Clients and workers of any Gearman library can use it unchanged.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Signals: TERM and INT end the server when jobs in hand have ended, a second one at once; USR1 the same as TERM"
)]
pub(crate) struct Serve {
    /// Address to listen on: HOST:PORT, or the path of a Unix socket; may be repeated [default: 127.0.0.1:4730]
    #[arg(long, short = 'l', value_name = "ADDRESS")]
    pub(crate) listen: Vec<String>,

    /// Port, on the addresses of --listen that have none
    #[arg(long, short = 'p', value_name = "PORT")]
    pub(crate) port: Option<u16>,

    /// Address to listen on, as gearmand names it; the port is that of --port
    #[arg(short = 'L', value_name = "HOST")]
    pub(crate) host: Option<String>,

    /// Functions that the server itself does: built-ins of `map`; may be repeated
    #[arg(long, value_name = "FUNCTION")]
    pub(crate) function: Vec<String>,

    /// Defaults of an older server where they differ
    #[arg(long, value_enum)]
    pub(crate) compat: Option<Compat>,

    /// How often a job is handed out at most before it fails; 0 is no limit
    #[arg(long, short = 'j', value_name = "N", default_value_t = 0)]
    pub(crate) job_retries: u32,

    /// Threads for sockets
    #[arg(long, short = 't', value_name = "N", default_value_t = 1)]
    pub(crate) threads: u16,

    /// Queued jobs of each function at most; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) max_queue: usize,

    /// Let the text command `shutdown` end the server
    #[arg(long)]
    pub(crate) allow_shutdown: bool,

    /// Listen on other addresses than those of this machine itself, for anyone who reaches them
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Write the process id to a file, which is removed at the end
    #[arg(long, short = 'P', value_name = "FILE", alias = "pid-file")]
    pub(crate) pidfile: Option<PathBuf>,

    /// How long jobs in hand have at the end
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) drain: Duration,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Compat {
    /// C gearmand
    Gearmand,
    /// Perl's Gearman::Server
    Perl,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
