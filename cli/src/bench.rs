//! `layshaft bench`: the engine's own figures, printed with what they were measured on.

mod machine;
mod net;
mod pin;
mod repeat;
mod tally;
mod workloads;

use crate::{EXIT_JOB_FAILED, args, complain};
use repeat::{Effort, Figure};
use std::io::{self, ErrorKind, Write};

/// Runs the command; its exit code.
pub(crate) fn run(options: &args::Bench) -> u8 {
    let quick = match &options.what {
        args::BenchWhat::Core { quick } => *quick,
        args::BenchWhat::Net(options) => return net(options),
    };
    match core(&mut io::stdout(), if quick { Effort::QUICK } else { Effort::FULL }) {
        Ok(()) => 0,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => 0,
        Err(error) => {
            complain(io::stderr(), format_args!("bench ended early: {error}"));
            EXIT_JOB_FAILED
        }
    }
}

fn net(options: &args::NetBench) -> u8 {
    match net::run(&mut io::stdout(), options) {
        Ok(()) => 0,
        Err(message) => {
            complain(io::stderr(), message);
            EXIT_JOB_FAILED
        }
    }
}

fn core(out: &mut impl Write, effort: Effort) -> io::Result<()> {
    machine::print(out)?;
    writeln!(
        out,
        "nanoseconds a job, median of {} repetitions after a warm-up, with the lowest and the highest\n",
        effort.repetitions
    )?;
    writeln!(out, "{:40} {:>8} {:>9} {:>9} {:>9} {:>9}", "", "workers", "jobs", "median", "lowest", "highest")?;
    for workload in workloads::all(machine::cores()) {
        let Figure { jobs, median, lowest, highest } = (workload.measure)(effort).map_err(io::Error::other)?;
        let (name, workers) = (workload.name, workload.workers);
        writeln!(out, "{name:40} {workers:>8} {jobs:>9} {median:>9.1} {lowest:>9.1} {highest:>9.1}")?;
        out.flush()?;
    }
    Ok(())
}
