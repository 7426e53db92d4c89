//! What the figures were measured on, and a place in the scheduler of their own.

use crate::alloc;
use std::env;
use std::fs;
use std::process::Command;

const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"));
const CRATES: [&str; 7] = ["rayon-core", "tokio", "crossbeam-channel", "crossbeam-deque", "kanal", "flume", "mimalloc"];

/// The kernel's highest weight for a group of processes, as a nice value.
const WEIGHT: &str = "-19";

/// The upper one of two middle figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Ends this child with its parent, however that ends.
pub(crate) fn die_with_parent() {
    // SAFETY: this option takes a signal number and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) };
}

/// Leaves the session for a scheduler group of this process alone, and gives that the highest weight: whether both could
/// be done. On a shared machine others' load then disturbs less.
pub(crate) fn leave_group() -> bool {
    // SAFETY: takes and gives plain numbers. It fails for a group leader, which a child of ours is not.
    let is_leader = unsafe { libc::setsid() } >= 0;
    is_leader && fs::write("/proc/self/autogroup", WEIGHT).is_ok()
}

/// Lines about machine, versions and command.
pub(crate) fn describe(options: &str, is_system: bool, has_group: bool) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let versions: Vec<String> = CRATES.iter().map(|name| format!("{name} {}", version(name))).collect();
    let load = first_word("/proc/loadavg");
    let mut lines = vec![
        format!("machine: {}, {cores} cores, {} {}", cpu(), env::consts::OS, read("/proc/sys/kernel/osrelease").trim()),
        format!("compiler: {}", compiler()),
        format!("crates: layshaft {}, {}", env!("CARGO_PKG_VERSION"), versions.join(", ")),
        format!("allocator, on all sides: {}", alloc::setting(is_system, false)),
        format!("scheduler group of its own: {}; load before: {load}", if has_group { "yes" } else { "no" }),
        format!("command: cargo bench --bench rivals{options}"),
    ];
    if cfg!(debug_assertions) {
        lines.push("this build is not optimised: its figures mean nothing".to_owned());
    }
    lines
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn first_word(path: &str) -> String {
    read(path).split(' ').next().unwrap_or_default().to_owned()
}

fn cpu() -> String {
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn compiler() -> String {
    let program = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).arg("-V").current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|error| format!("unknown ({error})"))
}

/// A crate's version in the lock file.
fn version(name: &str) -> &'static str {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let found = LOCK.split_once(&entry).and_then(|(_, rest)| rest.split_once('"'));
    found.map_or("?", |(version, _)| version)
}
