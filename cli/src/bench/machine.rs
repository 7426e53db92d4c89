//! What the figures were measured on.

use std::env;
use std::fs;
use std::io::{self, Write};

/// Cores this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Prints versions, machine and command line.
pub(super) fn print(out: &mut impl Write) -> io::Result<()> {
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    writeln!(out, "layshaft {} ({build} build, {})", env!("CARGO_PKG_VERSION"), env!("LAYSHAFT_RUSTC"))?;
    writeln!(out, "machine: {}, {} cores, {} {}", cpu(), cores(), env::consts::OS, kernel())?;
    let command: Vec<String> = env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    writeln!(out, "command: {}", command.join(" "))?;
    if cfg!(debug_assertions) {
        writeln!(out, "this build is not optimised, so its figures mean nothing: build with --release")?;
    }
    Ok(())
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
