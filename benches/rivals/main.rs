//! Layshaft beside its rivals, on the same jobs: `cargo bench --bench rivals -- [--rounds N] [--only WORD] [--quick]`.
//!
//! Each figure is the median over rounds; in a round every contestant runs once, in a fresh process, which reports the median
//! of its own repetitions after a warm-up. Brackets hold the median of the per-round ratios to layshaft.
//! `RIVALS_ALLOCATOR=system` takes the system's allocator instead of mimalloc, on all sides.

mod alloc;
mod machine;
mod peers;
mod table;
mod workload;

use std::process::Command;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: alloc::Chosen = alloc::Chosen;

/// What the command line asks for.
struct Options {
    rounds: usize,
    only: String,
    quick: bool,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [word, contestant, workload, quick] = args.as_slice()
        && word == "--child"
    {
        println!("{:.3}", peers::run(contestant, workload::find(workload), quick == "quick"));
        // Contestants' threads are not waited for: some of them never end.
        std::process::exit(0);
    }
    if args.iter().any(|a| a == "--test") {
        // `cargo test --benches`: one quick pass of the first workload, to see that everything starts.
        return table::print(&measure(&Options { rounds: 1, only: "send, 1".into(), quick: true }));
    }
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)).cloned();
    let rounds = value("--rounds").map_or(7, |n| n.parse().expect("--rounds takes a number"));
    let quick = args.iter().any(|a| a == "--quick");
    table::print(&measure(&Options { rounds, only: value("--only").unwrap_or_default(), quick }));
}

/// Figures of one workload: a list a contestant, a value a round; NaN for a run that failed.
pub(crate) struct Row {
    workload: &'static workload::Workload,
    figures: Vec<(&'static str, Vec<f64>)>,
}

fn measure(options: &Options) -> Vec<Row> {
    let chosen = workload::ALL.iter().filter(|w| w.name.contains(&options.only));
    chosen
        .map(|workload| {
            let mut figures: Vec<(&str, Vec<f64>)> =
                peers::NAMES.iter().filter(|n| peers::takes(n, workload)).map(|n| (*n, Vec::new())).collect();
            for round in 0..options.rounds {
                for (name, values) in &mut figures {
                    values.push(child(name, workload.name, options.quick));
                }
                eprintln!("{}: round {} of {}", workload.name, round + 1, options.rounds);
            }
            Row { workload, figures }
        })
        .collect()
}

/// Runs one contestant in a process of its own, for a minute at most.
fn child(contestant: &str, workload: &str, quick: bool) -> f64 {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["--child", contestant, workload, if quick { "quick" } else { "full" }]);
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("this program can be started again");
    let end = Instant::now() + Duration::from_secs(60);
    while child.try_wait().expect("a child can be waited for").is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return f64::NAN;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("a child's output can be read");
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(f64::NAN)
}
