//! The arguments of what talks to Gearman servers.

use super::tls::Tls;
use crate::remote::time::{self, When};
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Where the servers are, unless it is said.
const HERE: &str = "127.0.0.1:4730";
/// The environment's list of servers.
const SERVERS: &str = "GEARMAN_SERVERS";

/// Which servers.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Servers {
    /// Gearman servers, with commas between them: HOST[:PORT], [::1]:PORT or unix:PATH [default: $GEARMAN_SERVERS, or
    /// 127.0.0.1:4730]
    #[arg(long = "server", short = 'S', value_name = "LIST")]
    list: Option<String>,

    #[command(flatten)]
    pub(crate) tls: Tls,
}

impl Servers {
    /// What is said here goes before what the environment says.
    pub(crate) fn list(&self) -> String {
        self.list.clone().unwrap_or_else(servers)
    }
}

/// The servers of the environment; where it names none, that of this machine.
pub(super) fn servers() -> String {
    let list = env::var_os(SERVERS).filter(|list| !list.is_empty());
    list.map_or_else(|| HERE.to_owned(), |list| list.to_string_lossy().into_owned())
}

/// Submit one job to Gearman servers, and print its result
///
/// The payload is DATA, or a file's bytes, or what is piped to standard input. Data that the worker sends before the job's end are printed as they
/// come, warnings go to standard error. With --background only the job's name at the server is printed.
///
/// Exit codes: 0 the job has ended well (or was accepted, with --background), 1 it failed, 2 usage, 3 no server can be
/// reached, or the connection was lost, 4 it took too long, 5 the server refused it.
#[derive(Debug, clap::Args)]
pub(crate) struct Submit {
    /// The function's name
    pub(crate) function: OsString,

    /// The payload
    #[arg(conflicts_with = "file")]
    pub(crate) data: Option<OsString>,

    /// Take the payload from FILE; `-` for standard input
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) servers: Servers,

    /// Do not wait for the result: the job runs though nobody hears of it
    #[arg(long, short)]
    pub(crate) background: bool,

    /// With --background or --at: stay until the job has ended. How, the server does not tell
    #[arg(long)]
    pub(crate) wait: bool,

    /// Before jobs of normal priority
    #[arg(long, conflicts_with_all = ["low", "at"])]
    pub(crate) high: bool,

    /// After jobs of normal priority
    #[arg(long, conflicts_with = "at")]
    pub(crate) low: bool,

    /// Not before TIME: seconds since 1970, +90s, +2h or 2030-12-31T23:59:59Z. Implies --background
    #[arg(long, value_name = "TIME", value_parser = time::when)]
    pub(crate) at: Option<When>,

    /// The unique key: of jobs with the same function and key one runs, and all get its result. `-`: the payload is the key
    #[arg(long, short, value_name = "KEY", allow_hyphen_values = true)]
    pub(crate) unique: Option<String>,

    /// Give up after DURATION, such as 90s or 500ms
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    pub(crate) timeout: Option<Duration>,

    /// Submit again, up to N times, when the job fails
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: u32,

    /// The namespace that stands before the function's name
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// Show how far the job is, on standard error
    #[arg(long)]
    pub(crate) progress: bool,

    /// Print one object: {"job":...,"result":...} or {"job":...,"error":...}
    ///
    /// What is not UTF-8 is {"hex":"..."} instead of a string. Data that came before the end is in `data`.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Say why a job, or a function's jobs, do not run: of Gearman servers of this kind
///
/// Exit codes: 0 it is explained, 2 usage, 3 a server cannot be reached, 4 one does not answer, 5 one does not know it.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// A job's name at its server, or a function
    #[arg(value_name = "JOB|FUNCTION")]
    pub(crate) what: String,

    #[command(flatten)]
    pub(crate) servers: Servers,

    /// How long a server may take, such as 90s or 500ms
    #[arg(long, value_name = "DURATION", value_parser = time::duration, default_value = "10s")]
    pub(crate) timeout: Duration,

    /// Print an object a line, as `admin` does
    #[arg(long)]
    pub(crate) json: bool,
}

impl Explain {
    /// The text command that asks for it.
    pub(crate) fn admin(&self) -> Admin {
        // A name with a space is one word.
        let what = layshaft::gearman::text::escape_word(self.what.as_bytes());
        let words = vec!["explain".to_owned(), String::from_utf8_lossy(&what).into_owned()];
        Admin { words, servers: self.servers.clone(), timeout: self.timeout, json: self.json }
    }
}

/// Send a text command to Gearman servers, and print the answer as a table
///
/// Commands: status, prioritystatus, workers, clients, jobs, show jobs, show unique jobs, maxqueue FUNCTION [MOST | HIGH
/// NORMAL LOW], cancel job NAME, create function NAME, drop function NAME, pause FUNCTION, resume FUNCTION, explain NAME,
/// getpid, verbose, version, shutdown [graceful]. Not every server knows all of them; what it does not know it refuses.
///
/// With several servers each line begins with the server's address. A name that begins with `-` comes behind `--`.
///
/// Exit codes: 0 all servers have answered, 2 usage, 3 one cannot be reached, 4 one does not answer, 5 one refused.
#[derive(Debug, clap::Args)]
pub(crate) struct Admin {
    /// The command
    #[arg(required = true, value_name = "COMMAND", allow_negative_numbers = true)]
    pub(crate) words: Vec<String>,

    #[command(flatten)]
    pub(crate) servers: Servers,

    /// How long a server may take, such as 90s or 500ms
    #[arg(long, value_name = "DURATION", value_parser = time::duration, default_value = "10s")]
    pub(crate) timeout: Duration,

    /// Print an object a line: {"server":...,"rows":[...]}, {"server":...,"answer":...} or {"server":...,"error":...}
    #[arg(long)]
    pub(crate) json: bool,
}
