//! The arguments of `work`, and what they ask for.

use super::MOST_WORKERS;
use super::tls::Tls;
use crate::builtin::Builtin;
use crate::serve::units::Size;
use clap::builder::{EnumValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Error, value_parser};
use layshaft::gearman::Address;
use std::env;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// Set to 1 by a server that starts its workers itself and is connected already.
pub(crate) const STDIO: &str = "GEARMAN_WORKER_USE_STDIO";

/// Take jobs from Gearman servers: run built-in functions or a command on their payloads
///
/// Offers each FUNCTION to the servers, and runs as many jobs at once as there are worker threads. Built-in functions are
/// sha256, crc32, wc and gzip-size; the payload is the bytes to work on, the result is what `map` prints without the name:
/// for wc, three numbers with spaces between them.
///
/// With `-- CMD`, a program runs for each job of the one FUNCTION, whatever that is called, without a shell: the payload is
/// its standard input, what it prints is the result. Its standard error is passed on. An exit code but 0 is a failure. With
/// --filter it is started once for each job that runs at the same time, and reads and prints a line a job; one that ends is
/// started again.
///
/// An interrupt (INT, TERM or HUP) takes no more jobs, lets what runs end and answers it; a second one leaves at once, and the
/// servers hand what was running to other workers.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "layshaft work [OPTIONS] <FUNCTION>...
       layshaft work [OPTIONS] <FUNCTION> -- <CMD> [ARG]...",
    after_help = "Exit codes: 0 ended as asked, 1 it cannot go on, 2 usage, 3 no server was there, 128 and more: a second signal"
)]
pub(crate) struct Work {
    /// Functions to offer
    #[arg(value_name = "FUNCTION", required = true)]
    functions: Vec<String>,

    /// The program to run for each job, and its arguments
    #[arg(last = true, value_names = ["CMD", "ARG"], value_parser = value_parser!(OsString))]
    after: Vec<OsString>,

    /// Servers, with commas between them: host:port, [v6]:port or unix:/path [default: $GEARMAN_SERVERS, or 127.0.0.1:4730]
    #[arg(long, short, value_name = "LIST")]
    server: Vec<String>,

    #[command(flatten)]
    pub(crate) tls: Tls,

    /// How many jobs run at once [default: one a core]
    #[arg(long, short, value_name = "N", value_parser = value_parser!(u16).range(1..=MOST_WORKERS))]
    pub(crate) jobs: Option<u16>,

    /// Keep the program running: a payload is a line for it to read, a result the line that it prints
    #[arg(long)]
    pub(crate) filter: bool,

    /// A namespace: offer each function as PREFIX, tab, FUNCTION
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,

    /// How long the servers let a job run
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,

    /// The unit in which the servers read that: ms for gearmand and layshaft, s for the Perl server and `serve --compat perl`
    #[arg(long, value_name = "UNIT", default_value = "ms", value_parser = ["ms", "s"])]
    pub(crate) timeout_unit: String,

    /// Bytes of a packet at most: a larger result fails its job. No less than the servers take [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_packet: Option<Size>,

    /// What the servers call this worker in their tables
    #[arg(long, value_name = "NAME")]
    pub(crate) id: Option<String>,

    /// How long to try at the beginning while no server is there; `inf`: for ever. Later the servers are tried for ever
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub(crate) give_up: Duration,

    /// Tell failures as exceptions, not as a warning before the failure
    ///
    /// With gearmand 1.1, clients that did not ask for exceptions wait for ever then.
    #[arg(long)]
    pub(crate) exceptions: bool,

    /// Tell only what goes wrong
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// What the functions are.
pub(crate) enum Offer<'a> {
    Builtins(Vec<Builtin>),
    Program { function: &'a str, name: &'a OsStr, args: &'a [OsString] },
}

/// Where the jobs come from.
pub(crate) enum From {
    Stdio,
    Servers(Vec<Address>),
}

impl Work {
    /// Reads the words: built-in functions, or a name and a command.
    pub(crate) fn offer(&self) -> Result<Offer<'_>, Error> {
        match (self.functions.as_slice(), self.after.as_slice()) {
            (functions, []) => {
                if self.filter {
                    return Err(usage(
                        ErrorKind::MissingRequiredArgument,
                        "--filter needs a command: -- <CMD> [ARG]...",
                    ));
                }
                let command = command();
                let arg = command.get_arguments().find(|arg| arg.get_id() == "functions");
                let parse = |name: &String| EnumValueParser::<Builtin>::new().parse_ref(&command, arg, name.as_ref());
                functions.iter().map(parse).collect::<Result<_, _>>().map(Offer::Builtins)
            }
            ([function], [name, args @ ..]) => Ok(Offer::Program { function, name, args }),
            _ => Err(usage(ErrorKind::TooManyValues, "a command is for one <FUNCTION>, and there are several")),
        }
    }

    /// What is said here goes before what the environment says.
    pub(crate) fn from(&self) -> Result<From, Error> {
        let list = match self.server.as_slice() {
            [] if env::var_os(STDIO).is_some_and(|value| value == "1") => return Ok(From::Stdio),
            [] => super::remote::servers(),
            lists => lists.join(","),
        };
        let servers = Address::list(&list).map_err(|error| usage(ErrorKind::ValueValidation, &error.to_string()))?;
        Ok(From::Servers(servers))
    }
}

/// Reads a time: more than the clock knows is for ever.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 => Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
        _ => Err("a number of seconds above 0 is wanted".to_owned()),
    }
}

fn usage(kind: ErrorKind, text: &str) -> Error {
    command().error(kind, text)
}

/// As the parser has it, for errors that come later.
fn command() -> Command {
    let mut whole = super::Args::command();
    whole.build();
    whole.find_subcommand("work").cloned().unwrap_or(whole)
}
