//! The `layshaft` command: arguments, printing and wiring around the engine.
#![forbid(unsafe_code)]

mod about;
mod admin;
mod args;
mod bell;
mod bench;
mod builtin;
mod children;
mod config;
mod found;
mod histogram;
mod inputs;
mod interrupt;
mod map;
mod name;
mod printer;
mod program;
mod progress;
mod remote;
mod run;
mod serve;
mod stdout;
mod submit;
mod summary;
mod window;
mod work;
mod worker;

use clap::Parser;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code: a job failed, or an input could not be read.
const EXIT_JOB_FAILED: u8 = 1;
/// Exit code: the command line cannot be obeyed. `clap` uses the same.
const EXIT_USAGE: u8 = 2;
/// Exit code: no server could be reached.
const EXIT_NO_SERVER: u8 = 3;

fn main() -> ExitCode {
    let args = args::Args::parse();
    if stdout::is_closed() {
        complain(std::io::stderr(), "cannot write to standard output: it is closed");
        return ExitCode::from(EXIT_JOB_FAILED);
    }
    ExitCode::from(match &args.command {
        args::Command::Map(options) => map::run(options),
        args::Command::Serve(options) => serve::run(options),
        args::Command::Explain(options) => admin::run(&options.admin()),
        args::Command::Config(options) => config::run(options),
        args::Command::Work(options) => worker::run(options),
        args::Command::Submit(options) => submit::run(options),
        args::Command::Admin(options) => admin::run(options),
        args::Command::Bench(options) => bench::run(options),
        args::Command::Completions(options) => about::completions(options),
        args::Command::Man(options) => about::man(options),
    })
}

/// A message to the user, in one write. One that cannot be shown has nowhere else to go.
fn complain(mut errors: impl Write, message: impl Display) {
    let _ = errors.write_all(format!("layshaft: {message}\n").as_bytes());
}
