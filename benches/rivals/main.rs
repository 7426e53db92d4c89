//! The same jobs through layshaft and its rivals, alternately, in fresh processes; one Markdown table.
//!
//! `cargo bench --bench rivals -- [--rounds N] [--only PATTERN] [--quick] [--system-allocator]`. Without `--bench`, as under
//! `cargo test`, it checks in seconds that every cell gives a figure.

mod alloc;
mod contest;
mod deque;
mod floor;
mod machine;
mod ours;
mod peers;
mod rows;
#[path = "../support/system.rs"]
mod system;
mod table;
#[path = "../support/tally.rs"]
mod tally;
mod workload;

use contest::{Outcome, Plan};
use deque::CrossbeamDeque;
use ours::Layshaft;
use peers::{CrossbeamChannel, Flume, Kanal, Rayon, Tokio};
use rows::{CONTESTANTS, FUTEX, OURS, ROWS, Row};
use std::env;
use std::io;
use std::process::exit;
use workload::{Effort, Parcel, Workload, measure_parcel};

const USAGE: &str = "usage: cargo bench --bench rivals -- [--rounds N] [--only PATTERN] [--quick] [--system-allocator]

  --rounds N          fresh processes a cell, 7 unless --quick says 3; fewer than 7 are a hint, no result
  --only PATTERN      only cells whose \"workload / contestant\" contains PATTERN, and ours beside them
  --quick             fewer and shorter rounds: a hint, no result
  --system-allocator  the system's allocator on all sides instead of mimalloc";

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--child") => child(&args[1..]),
        Some("--child-group") => println!("{}", machine::leave_group()),
        _ if args.iter().any(|arg| arg == "--bench") => return bench(&args),
        _ => return check(&args),
    }
    Ok(())
}

/// Prints one figure. Threads of the contestant end with the process.
fn child(args: &[String]) {
    machine::die_with_parent();
    // Refused where the kernel has no such groups; the parent has said so.
    let _ = machine::leave_group();
    system::sharpen_timers();
    let [row, contestant, effort] = args else { fail("--child takes a row, a contestant and an effort") };
    let row = ROWS.iter().find(|known| known.name == row).unwrap_or_else(|| fail("no such row"));
    let effort = Effort::from_name(effort).unwrap_or_else(|| fail("no such effort"));
    println!("{}", figure(row, contestant, effort));
    exit(0);
}

fn figure(row: &Row, contestant: &str, effort: Effort) -> f64 {
    match (row.workload, contestant) {
        (Workload::Parcel, OURS) => measure_parcel::<Layshaft<Parcel>>(effort),
        (Workload::Parcel, "crossbeam-channel") => measure_parcel::<CrossbeamChannel<Parcel>>(effort),
        (Workload::Parcel, "kanal") => measure_parcel::<Kanal<Parcel>>(effort),
        (Workload::RoundTrip { pause, .. }, FUTEX) => floor::futex_wake(effort, pause),
        (workload, OURS) => workload.measure::<Layshaft<u64>>(effort),
        (workload, "rayon-core") => workload.measure::<Rayon>(effort),
        (workload, "tokio") => workload.measure::<Tokio>(effort),
        (workload, "crossbeam-channel") => workload.measure::<CrossbeamChannel<u64>>(effort),
        (workload, "crossbeam-deque") => workload.measure::<CrossbeamDeque>(effort),
        (workload, "kanal") => workload.measure::<Kanal<u64>>(effort),
        (workload, "flume") => workload.measure::<Flume<u64>>(effort),
        _ => fail("no such contestant"),
    }
}

fn fail(why: &str) -> ! {
    eprintln!("rivals: {why}\n\n{USAGE}");
    exit(2)
}

fn bench(args: &[String]) -> io::Result<()> {
    let plan = plan(args);
    let options: String = args.iter().filter(|arg| *arg != "--bench").map(|arg| format!(" {arg}")).collect();
    let options = if options.is_empty() { options } else { format!(" --{options}") };
    for line in machine::describe(&options, plan.is_system, contest::has_group()?) {
        println!("{line}");
    }
    println!(
        "\nMedians of {} rounds, {} effort; in brackets the median of the rounds' ratios to layshaft.",
        plan.rounds,
        plan.effort.name()
    );
    println!(
        "Callers that spin look for about 10 us before they park, on all sides. Contestants without a batch call send singly.\n"
    );
    let mut lines = Vec::new();
    let mut transfers = Vec::new();
    for row in ROWS.iter().filter(|row| plan.chooses(row, OURS)) {
        eprintln!("{} ...", row.name);
        transfers.push(floor::line_transfer());
        lines.push(table::line(row, &contest::run(&plan, row)?, plan.is_system));
    }
    if lines.is_empty() {
        fail(&format!(
            "nothing is called {:?}; try a workload such as {:?} or a contestant such as {:?}",
            plan.only, ROWS[0].name, CONTESTANTS[1]
        ));
    }
    print!("{}", table::render(&lines));
    let (met, musts) = lines.iter().fold((0, 0), |sums, line| (sums.0 + line.met, sums.1 + line.musts));
    let (least, most) = transfers.iter().fold((f64::MAX, 0.0_f64), |(a, b), &ns| (a.min(ns), b.max(ns)));
    println!(
        "\na cache line from core to core, before each row: {least:.0} to {most:.0} ns, median {:.0}",
        machine::median(transfers)
    );
    println!("musts met: {met} of {musts}");
    Ok(())
}

fn plan(args: &[String]) -> Plan {
    let mut plan = Plan { rounds: 0, effort: Effort::Full, is_system: false, only: String::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| fail(&format!("{arg} needs a value behind it")));
        match arg.as_str() {
            "--bench" => {}
            "--quick" => plan.effort = Effort::Quick,
            "--system-allocator" => plan.is_system = true,
            "--only" => plan.only = value().clone(),
            "--rounds" => {
                let text = value();
                plan.rounds = text.parse().unwrap_or(0);
                if plan.rounds == 0 {
                    fail(&format!("--rounds takes a number from 1 on, not {text:?}"));
                }
            }
            _ => fail(&format!("{arg:?} is not known")),
        }
    }
    if plan.rounds == 0 {
        plan.rounds = if plan.effort == Effort::Full { 7 } else { 3 };
    }
    plan
}

/// For `cargo test`: every cell gives a figure.
fn check(args: &[String]) -> io::Result<()> {
    let is_filtered = args.iter().any(|arg| !arg.starts_with('-') && !"rivals".contains(arg.as_str()));
    if is_filtered || args.iter().any(|arg| arg == "--list") {
        return Ok(());
    }
    let plan = Plan { rounds: 1, effort: Effort::Smoke, is_system: false, only: String::new() };
    let mut cells = 0;
    let mut broken = Vec::new();
    for row in ROWS {
        for (outcomes, contestant) in contest::run(&plan, row)?.iter().zip(CONTESTANTS) {
            cells += outcomes.len();
            if !outcomes.iter().all(|outcome| matches!(outcome, Outcome::Figure(figure) if figure.is_finite())) {
                broken.push(format!("{} / {contestant}", row.name));
            }
        }
    }
    println!("rivals: {cells} cells run, {} without a figure {broken:?}", broken.len());
    if !broken.is_empty() {
        exit(1);
    }
    Ok(())
}
