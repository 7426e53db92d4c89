//! What the figures were measured on.

use std::fs;
use std::process::Command;

const LOCK: &str = include_str!("../../Cargo.lock");

/// The version of a crate in the lock file.
fn version(name: &str) -> String {
    let mut lines = LOCK.lines().skip_while(|l| *l != format!("name = \"{name}\"")).skip(1);
    lines.next().and_then(|l| l.split('"').nth(1)).unwrap_or("unknown").to_owned()
}

fn first_line(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(key)).unwrap_or_default().to_owned();
    line.split_once(':').map_or(line.clone(), |(_, value)| value.trim().to_owned())
}

pub(crate) fn print(contestants: &[&str]) {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let rustc = Command::new("rustc").arg("--version").output().ok();
    let rustc = rustc.map_or_else(|| "rustc unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    println!(
        "Machine: {}, {cores} cores, Linux {}",
        first_line("/proc/cpuinfo", "model name"),
        first_line("/proc/sys/kernel/osrelease", "")
    );
    println!("{rustc}; allocator on all sides: {}", if crate::alloc::is_system() { "system" } else { "mimalloc" });
    let versions: Vec<String> = contestants.iter().map(|c| format!("{c} {}", version(c))).collect();
    println!("{}", versions.join(", "));
    println!(
        "Command: cargo bench --bench rivals -- {}\n",
        std::env::args().skip(1).filter(|a| a != "--bench").collect::<Vec<_>>().join(" ")
    );
}
