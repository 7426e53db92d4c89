//! `layshaft completions` and `layshaft man`: the command line describes itself.

use crate::args::{Args, Completions, Man};
use crate::{EXIT_JOB_FAILED, EXIT_USAGE, complain};
use clap::CommandFactory;
use std::io::{self, ErrorKind, Write};

/// Prints the script; the exit code.
pub(crate) fn completions(options: &Completions) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Args::command(), "layshaft", &mut script);
    print(&script)
}

/// Prints the page; the exit code.
pub(crate) fn man(options: &Man) -> u8 {
    let mut whole = Args::command();
    // Gives subcommands the options and the name that they have below the command.
    whole.build();
    let page = match &options.command {
        None => Some(&whole),
        Some(name) => whole.find_subcommand(name),
    };
    let Some(page) = page else {
        let known: Vec<&str> = whole.get_subcommands().map(clap::Command::get_name).collect();
        let name = options.command.as_deref().unwrap_or_default();
        complain(io::stderr(), format_args!("no command {name:?}; there are {}", known.join(", ")));
        return EXIT_USAGE;
    };
    let mut text = Vec::new();
    match clap_mangen::Man::new(page.clone()).render(&mut text) {
        Ok(()) => print(&text),
        Err(error) => {
            complain(io::stderr(), format_args!("cannot make the manual page: {error}"));
            EXIT_JOB_FAILED
        }
    }
}

/// Writes to standard output. A reader that leaves early has what it wanted.
fn print(text: &[u8]) -> u8 {
    let mut output = io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(io::stderr(), format_args!("cannot write to standard output: {error}"));
            EXIT_JOB_FAILED
        }
        _ => 0,
    }
}
