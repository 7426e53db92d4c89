//! The arguments of `map`, and what they ask for.

use super::MOST_WORKERS;
use crate::builtin::Builtin;
use crate::inputs::STDIN;
use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory, Error, value_parser};
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

/// Run a built-in function or a command on every input, and print the results in input order
///
/// Each INPUT is a file, `-` for standard input (once), or a folder: every regular file below it, hidden ones included,
/// in the order of the whole path's bytes. Symbolic links inside folders are not followed; one that is named is.
///
/// With `-- CMD`, a program runs for each input, without a shell: `{}` in any ARG stands for the input, which comes last
/// if there is none. What it prints is the result, held in memory until its turn; it reads nothing, and its standard error
/// is passed on. An exit code but 0 is a failure. An INPUT need not be a file then, `-` stands for the lines of standard
/// input, as with `--files-from -`, and so does no INPUT at all. When the first word is a FUNCTION, what follows `--` are
/// INPUTs of it; name a file like that `./sha256`.
///
/// Results go to standard output as they become available, errors and a summary to standard error. A name with a
/// backslash, a newline or a carriage return is escaped as sha256sum does it: \\, \n, \r, and a backslash in front of
/// the line; by wc, a name with a newline is quoted as wc does it without a locale.
///
/// An interrupt (INT, TERM or HUP) starts nothing more, lets what runs end and prints it; a second one kills it. The
/// exit code is then 128 and the signal's number: 130, 143, 129.
#[derive(Debug, clap::Args)]
#[command(override_usage = "layshaft map [OPTIONS] <FUNCTION> <INPUT>...
       layshaft map [OPTIONS] [INPUT]... -- <CMD> [ARG]...
       layshaft map [OPTIONS] --server <LIST> <FUNCTION> <INPUT>...")]
pub(crate) struct Map {
    /// The function to run; anything else is the first INPUT of a command
    #[arg(value_name = "FUNCTION", value_parser = FirstParser)]
    first: Option<First>,

    /// Files and folders
    // Parsed as text: the parser of paths refuses an empty one, and with it the whole run.
    #[arg(value_name = "INPUT", value_parser = value_parser!(OsString))]
    inputs: Vec<OsString>,

    /// The program to run for each input, and its arguments
    #[arg(last = true, value_names = ["CMD", "ARG"], value_parser = value_parser!(OsString))]
    after: Vec<OsString>,

    /// Worker threads: how many jobs run at once [default: one a core]
    #[arg(long, short, value_name = "N", value_parser = value_parser!(u16).range(1..=MOST_WORKERS))]
    pub(crate) jobs: Option<u16>,

    /// Take more inputs from the lines of FILE, as they come; `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) files_from: Option<PathBuf>,

    /// The entries of lists end with NUL, not with a newline
    #[arg(long, short = '0')]
    pub(crate) null: bool,

    /// Print results as they come
    #[arg(long)]
    pub(crate) unordered: bool,

    /// Print an object a line for each input: {"input":...,"result":...} or {"input":...,"error":...}, and the summary as
    /// one
    ///
    /// What is not UTF-8 is {"hex":"..."} instead of a string. `result` is a string, with gzip-size a number, with wc an
    /// object. What a command had printed before it failed is in `output`.
    #[arg(long)]
    pub(crate) json: bool,

    /// Show no progress bar. There is none either when standard error is no terminal
    #[arg(long)]
    pub(crate) no_progress: bool,

    /// Print no summary, and show no progress bar
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Run FUNCTION, any name, on these Gearman servers: the bytes of each file are the payload of a job, which is submitted
    /// once; its data and its result are printed. --jobs says how many are on their way [default then: 64]
    #[arg(long, value_name = "LIST")]
    pub(crate) server: Option<String>,

    #[command(flatten)]
    pub(crate) tls: super::Tls,

    /// With --server: how long a job may take, such as 90s or 500ms
    #[arg(long, value_name = "DURATION", value_parser = crate::remote::time::duration, requires = "server")]
    pub(crate) timeout: Option<Duration>,

    /// Print the engine's own figures at the end, on standard error: a line a worker
    #[arg(long)]
    pub(crate) stats: bool,
}

/// The first word.
#[derive(Debug, Clone)]
enum First {
    Function(Builtin),
    Input(OsString),
}

/// Offers the functions, and takes everything.
#[derive(Debug, Clone)]
struct FirstParser;

impl TypedValueParser for FirstParser {
    type Value = First;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<First, Error> {
        let function = EnumValueParser::<Builtin>::new().parse_ref(command, arg, value);
        Ok(function.map_or_else(|_| First::Input(value.to_owned()), First::Function))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values: Vec<_> = EnumValueParser::<Builtin>::new().possible_values()?.collect();
        Some(Box::new(values.into_iter()))
    }
}

/// What the function is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked<'a> {
    Builtin(Builtin),
    Program { name: &'a OsStr, args: &'a [OsString] },
    Remote { servers: &'a str, name: &'a OsStr },
}

impl Asked<'_> {
    /// Whether inputs are files to be read, and not words for a program.
    pub(crate) fn reads_inputs(&self) -> bool {
        !matches!(self, Asked::Program { .. })
    }
}

/// What is asked for.
pub(crate) struct Request<'a> {
    pub(crate) function: Asked<'a>,
    pub(crate) inputs: Vec<&'a OsStr>,
}

impl Map {
    /// Reads the words: a function and inputs, or inputs and a command.
    pub(crate) fn request(&self) -> Result<Request<'_>, Error> {
        let inputs = self.inputs.iter();
        let (function, mut inputs): (_, Vec<&OsStr>) = match (&self.first, self.after.as_slice()) {
            (Some(first), after) if self.server.is_some() => {
                let name = match first {
                    First::Function(builtin) => OsStr::new(builtin.name()),
                    First::Input(word) => word,
                };
                let servers = self.server.as_deref().unwrap_or_default();
                (Asked::Remote { servers, name }, inputs.chain(after).map(OsString::as_os_str).collect())
            }
            (Some(First::Function(builtin)), after) => {
                (Asked::Builtin(*builtin), inputs.chain(after).map(OsString::as_os_str).collect())
            }
            (first, [name, args @ ..]) => {
                let first = first.iter().filter_map(|first| match first {
                    First::Input(input) => Some(input),
                    First::Function(_) => None,
                });
                (Asked::Program { name, args }, first.chain(inputs).map(OsString::as_os_str).collect())
            }
            (Some(First::Input(word)), []) => return Err(no_function(word)),
            (None, []) => {
                return Err(usage(ErrorKind::MissingRequiredArgument, "there is neither a <FUNCTION> nor a command"));
            }
        };
        if inputs.is_empty() && self.files_from.is_none() {
            if function.reads_inputs() || io::stdin().is_terminal() {
                let text = "there is no <INPUT>..., and no --files-from for a list of them";
                return Err(usage(ErrorKind::MissingRequiredArgument, text));
            }
            inputs.push(OsStr::new(STDIN));
        }
        let dashes = inputs.iter().filter(|input| **input == STDIN).count();
        if dashes + usize::from(self.is_list_stdin()) > 1 {
            let text = "'-' stands twice, but standard input can be read only once";
            return Err(usage(ErrorKind::ArgumentConflict, text));
        }
        Ok(Request { function, inputs })
    }

    /// Whether a list of inputs comes from standard input, apart from the inputs named.
    pub(crate) fn is_list_stdin(&self) -> bool {
        self.files_from.as_ref().is_some_and(|from| from.as_os_str() == STDIN)
    }

    /// What ends an entry of a list.
    pub(crate) fn end(&self) -> u8 {
        if self.null { 0 } else { b'\n' }
    }
}

/// The error that the parser of functions has for a word.
fn no_function(word: &OsStr) -> Error {
    let command = command();
    let arg = command.get_arguments().find(|arg| arg.get_id() == "first");
    match EnumValueParser::<Builtin>::new().parse_ref(&command, arg, word) {
        Err(error) => error,
        Ok(_) => usage(ErrorKind::InvalidValue, "this function takes no inputs"),
    }
}

fn usage(kind: ErrorKind, text: &str) -> Error {
    command().error(kind, text)
}

/// As the parser has it, for errors that come later.
fn command() -> Command {
    let mut whole = super::Args::command();
    whole.build();
    whole.find_subcommand("map").cloned().unwrap_or(whole)
}
