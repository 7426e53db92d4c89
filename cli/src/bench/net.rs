//! `layshaft bench net`: a Gearman server under load, beside another one. Server on one core, load on another.

mod load;
mod scenario;
mod target;

use super::machine;
use crate::args::NetBench;
use scenario::{Measured, SCENARIOS, Scenario};
use std::io::{self, Write};
use target::Target;

/// Runs the scenarios, alternating between the servers; prints medians and ratios.
pub(super) fn run(out: &mut impl Write, options: &NetBench) -> Result<(), String> {
    let wanted: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| options.only.is_empty() || options.only.iter().any(|part| scenario.name.contains(&**part)))
        .collect();
    if wanted.is_empty() {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        return Err(format!("no scenario is called like that; there are: {}", names.join(", ")));
    }
    let targets = Target::all(options)?;
    let told = |error: io::Error| format!("cannot write: {error}");
    machine::print(out).map_err(told)?;
    for target in &targets {
        writeln!(out, "server: {}", target.describe()).map_err(told)?;
    }
    let rounds = if options.quick { 1 } else { options.rounds };
    let counted = if options.syscalls { ", system calls are of one more" } else { "" };
    writeln!(out, "medians of {rounds} rounds{counted}; every result, and that no job is done twice, is checked; bytes are those of a queued job\nor an idle connection\n").map_err(told)?;
    writeln!(
        out,
        "| scenario | server | jobs/s | p50 us | p99 us | server CPU us/job | bytes | syscalls/job | ratio |"
    )
    .map_err(told)?;
    writeln!(out, "|---|---|---:|---:|---:|---:|---:|---:|---:|").map_err(told)?;
    for scenario in wanted {
        let mut all: Vec<Vec<Measured>> = vec![Vec::new(); targets.len()];
        for _ in 0..rounds {
            for (target, measured) in targets.iter().zip(&mut all) {
                measured.push(target.measure(scenario, options.quick)?);
            }
        }
        let mut medians: Vec<Measured> = all.into_iter().map(Measured::median).collect();
        if options.syscalls {
            for (target, median) in targets.iter().zip(&mut medians) {
                *median = median.with_syscalls(target.count_syscalls(scenario, options.quick)?);
            }
        }
        for (target, median) in targets.iter().zip(&medians) {
            // Against the last one, which is the rival.
            let ratio = medians.last().filter(|_| targets.len() > 1).map(|rival| median.ratio(rival));
            writeln!(out, "| {} | {} | {} |", scenario.name, target.name, median.cells(ratio)).map_err(told)?;
        }
        out.flush().map_err(told)?;
    }
    Ok(())
}
