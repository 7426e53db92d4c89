//! The `layshaft` command: arguments, printing and wiring around the engine.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod builtin;
mod histogram;
mod map;
mod name;
mod summary;
mod walk;
mod window;

use clap::Parser;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code: a job failed, or an input could not be read.
const EXIT_JOB_FAILED: u8 = 1;
/// Exit code: the command line cannot be obeyed. `clap` uses the same.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = args::Args::parse();
    ExitCode::from(match &args.command {
        args::Command::Map(options) => map::run(options),
        args::Command::Bench(options) => bench::run(options),
    })
}
