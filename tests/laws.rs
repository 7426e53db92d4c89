//! The laws of CONTRIBUTING.md that a machine can check, over the tree's own sources. Each checker is also run over a snippet
//! that breaks its law.

#[path = "laws/sites.rs"]
mod sites;
#[path = "laws/sources.rs"]
mod sources;

use sources::{Source, code, root, rust_files, under};
use std::collections::BTreeMap;
use std::process::Command;

/// Fails with all findings, one a line.
fn none(law: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{law}:\n{}", findings.join("\n"));
}

/// Which modules a module may name in `use crate::`. Downwards only.
const LAYERS: &[(&str, &[&str])] = &[
    ("sync", &[]),
    ("clock", &[]),
    ("stats", &["queue"]),
    ("quiet", &[]),
    ("error", &["batch", "handle", "sync"]),
    ("job", &["error", "handle", "queue", "quiet", "sync"]),
    ("queue", &["clock", "error", "job", "quiet", "sync"]),
    ("sched", &["clock", "error", "job", "queue", "quiet", "stats", "sync"]),
    ("handle", &["error", "job", "sched"]),
    ("as_completed", &["error", "handle", "job", "quiet", "sched", "sync"]),
    ("batch", &["as_completed", "error", "handle"]),
    ("running", &["engine", "job", "queue", "sched"]),
    ("explain", &["consumer", "error", "job", "queue", "sched"]),
    ("function", &["batch", "error", "explain", "handle", "job", "queue", "sched", "consumer", "stats", "submit"]),
    ("submit", &["error", "function", "handle", "queue", "sched"]),
    ("codec", &["error", "function"]),
    ("gearman", &["consumer", "engine", "error", "explain", "function", "handle", "queue", "quiet", "running", "sync"]),
    ("lend", &["engine", "error", "queue", "quiet", "sched", "sync"]),
    ("consumer", &["clock", "error", "function", "job", "queue", "quiet", "sched", "sync"]),
    ("scope", &["error", "function", "handle", "quiet", "sched", "sync"]),
    ("builder", &["engine", "error", "sched", "sync"]),
    ("engine", &["builder", "consumer", "error", "explain", "function", "sched", "scope", "stats"]),
];

fn module(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
}

fn layer_findings(source: &Source) -> Vec<String> {
    let me = module(&source.path);
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == me) else {
        return vec![format!("{}: module {me} is not in the table of layers", source.path)];
    };
    let mut findings = Vec::new();
    for (n, line) in code(source) {
        for part in line.split("crate::").skip(1) {
            let named: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if named != me && !allowed.contains(&named.as_str()) && LAYERS.iter().any(|(name, _)| *name == named) {
                findings.push(format!("{}:{n}: {me} must not use {named}", source.path));
            }
        }
    }
    findings
}

#[test]
fn layers_depend_downwards() {
    let inner = |s: &Source| !matches!(module(&s.path), "lib" | "model");
    none("layers", rust_files("src").iter().filter(|s| inner(s)).flat_map(layer_findings).collect());
    let bad = Source::new("src/queue/lane.rs", "use crate::sched::sleep::Sleep;\n");
    assert_eq!(layer_findings(&bad).len(), 1);
}

/// What only `src/sync/` may name.
const HARDWARE: &[&str] =
    &["std::sync::atomic", "core::sync::atomic", "loom::", "shuttle::", "parking_lot::", "libc::", "std::sync::Mutex"];

fn hardware_findings(source: &Source) -> Vec<String> {
    let named = |line: &str| HARDWARE.iter().find(|name| line.contains(**name));
    code(source).filter_map(|(n, line)| named(line).map(|name| format!("{}:{n}: names {name}", source.path))).collect()
}

#[test]
fn only_sync_names_the_hardware() {
    let files = rust_files("src");
    none("only src/sync names atomics", under(&files, "src/", "src/sync/").flat_map(hardware_findings).collect());
    assert_eq!(hardware_findings(&Source::new("src/a.rs", "use std::sync::atomic::AtomicU8;\n")).len(), 1);
}

/// An ordering is argued by a comment above its statement, `// Ordering: ...`.
fn ordering_findings(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let is_site = |line: &str| {
        let code = line.split("//").next().unwrap_or("");
        ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"].iter().any(|o| code.contains(&format!("Ordering::{o}")))
    };
    let argued = |at: usize| {
        // Upwards through the statement and the comments right above it.
        for line in lines[..at].iter().rev().take(9) {
            let text = line.trim();
            if text.starts_with("// Ordering:") || text.contains(" // Ordering:") {
                return true;
            }
            let ends = text.ends_with(';') || text.ends_with('}') || text.is_empty();
            if ends && !text.starts_with("//") {
                return false;
            }
        }
        false
    };
    let sites = lines.iter().enumerate().filter(|(_, line)| is_site(line));
    sites.filter(|(i, _)| !argued(*i)).map(|(i, _)| format!("{}:{}", source.path, i + 1)).collect()
}

#[test]
fn every_ordering_is_argued() {
    let files = rust_files("src");
    none("an ordering without `// Ordering:`", files.iter().flat_map(ordering_findings).collect());
    let bad = "fn f() {\n    // Ordering: Relaxed, counter only.\n    a.load(Ordering::Relaxed);\n    b.load(Ordering::Relaxed);\n}\n";
    assert_eq!(ordering_findings(&Source::new("src/a.rs", bad)), ["src/a.rs:4"]);
}

/// The places that `scripts/weaken` weakens.
fn weakened(source: &Source) -> Vec<String> {
    sites::ordering_sites(&source.path, &source.text).into_iter().map(|site| site.key).collect()
}

#[test]
fn what_survives_weakening_is_there() {
    let files = rust_files("src");
    let keys: Vec<String> = under(&files, "src/", "src/sync/").flat_map(weakened).collect();
    let path = root().join("loom-tests/weaken-allow.txt");
    let allowed = std::fs::read_to_string(path).expect("the list of sites that no model can catch");
    let entries: Vec<(&str, &str)> = allowed.lines().map(|line| line.split_once(' ').unwrap_or((line, ""))).collect();
    let stale = entries.iter().filter(|(key, why)| why.is_empty() || !keys.iter().any(|k| k == key));
    none("a place that is not there, or no reason", stale.map(|(key, _)| (*key).to_owned()).collect());
    let unsorted = entries.windows(2).filter(|pair| pair[0].0 >= pair[1].0);
    none("out of order, or twice", unsorted.map(|pair| pair[1].0.to_owned()).collect());
    println!("{} sites that order memory, of which {} may survive weakening", keys.len(), entries.len());

    let text = "fn f() {\n    self.a // fence_full()\n        .b.swap(g(1), Ordering::AcqRel);\n    a.load(Ordering::Relaxed);\n    \
                fence_heavy();\n    fence_heavy();\n    load_after_rmw(&*self.c);\n}\nfn fence_light() {}\n";
    let sites = sites::ordering_sites("x.rs", text);
    let keys = ["x.rs:f:b.swap", "x.rs:f:fence_heavy", "x.rs:f:fence_heavy#2", "x.rs:f:c.load_after_rmw"];
    assert_eq!(sites.iter().map(|site| &*site.key).collect::<Vec<_>>(), keys);
    assert_eq!((sites[0].line, sites[0].column), (3, 12));
}

/// Files that may hold unsafe code, so that it does not spread unnoticed.
const UNSAFE: &[&str] = &[
    "src/consumer.rs",
    "src/consumer/",
    "src/function.rs",
    "src/function/",
    "src/handle.rs",
    "src/running.rs",
    "src/scope.rs",
    "src/job/",
    "src/queue/block.rs",
    "src/queue/lane.rs",
    "src/queue/managed.rs",
    "src/queue/record.rs",
    "src/queue/pool.rs",
    "src/sched/core.rs",
    "src/sched/current.rs",
    "src/sched/deque.rs",
    "src/sched/idle.rs",
    "src/sched/look.rs",
    "src/sched/managed.rs",
    "src/sched/nested.rs",
    "src/sched/ready.rs",
    "src/sched/registry.rs",
    "src/sched/report.rs",
    "src/sched/run.rs",
    "src/sched/shutdown.rs",
    "src/sched/tally.rs",
    "src/sched/timer.rs",
    "src/sched/worker.rs",
    "src/sync/native.rs",
    "src/sync/sockets.rs",
    "src/model/",
];

#[test]
fn unsafe_code_stays_where_it_is() {
    let mut findings = Vec::new();
    for source in rust_files("src").iter().chain(&rust_files("cli/src")) {
        let allowed = UNSAFE.iter().any(|prefix| source.path.starts_with(prefix));
        let words = code(source).filter(|(_, line)| line.contains("unsafe ") && !line.contains("unsafe_"));
        findings.extend(words.filter(|_| !allowed).map(|(n, _)| format!("{}:{n}", source.path)));
        let lines: Vec<&str> = source.text.lines().collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("unsafe impl")) {
            if !lines[..i].iter().rev().take(3).any(|above| above.contains("// SAFETY:")) {
                findings.push(format!("{}:{}: {line} without a reason", source.path, i + 1));
            }
        }
    }
    none("unsafe code in a file that is not listed", findings);
}

#[test]
fn files_are_short() {
    let folders = ["src", "cli/src", "cli/tests", "loom-tests", "shuttle-tests", "tests", "benches", "examples"];
    let long = folders.iter().flat_map(|f| rust_files(f)).filter(|s| s.text.lines().count() > 700);
    none("files over 700 lines do two jobs", long.map(|s| s.path).collect());
    let mut sizes: Vec<usize> = rust_files("src").iter().map(|s| s.text.lines().count()).collect();
    sizes.sort_unstable();
    let (median, p90) = (sizes[sizes.len() / 2], sizes[sizes.len() * 9 / 10]);
    println!(
        "{} files in src: median {median}, 90th percentile {p90}, longest {}",
        sizes.len(),
        sizes[sizes.len() - 1]
    );
    assert!(median <= 180 && p90 <= 450, "median {median}, 90th percentile {p90}");
    let examples = rust_files("examples").into_iter().filter(|s| s.text.lines().count() >= 60);
    none("examples are under 60 lines", examples.map(|s| s.path).collect());
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the code map");
    assert!(map.lines().count() <= 150, "ARCHITECTURE.md has {} lines, 150 at most", map.lines().count());
}

/// Functions with their lengths. A `match` table is excepted: arms of one line do not count.
fn function_lengths(source: &Source) -> Vec<(usize, String)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let is_function = |line: &str| {
        let code = line.split("//").next().unwrap_or("");
        let name = code.split_whitespace().skip_while(|word| *word != "fn").nth(1);
        name.is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic() || c == '_')) && !code.ends_with(';')
    };
    let length = |start: usize| {
        let indent = lines[start].len() - lines[start].trim_start().len();
        let is_end =
            |line: &&str| line.starts_with('}') && indent == 0 || line.get(..=indent).is_some_and(|l| l.trim() == "}");
        if lines[start].trim_end().ends_with('}') {
            return 1;
        }
        let body = lines[start..].iter().take_while(|line| !is_end(line));
        body.filter(|line| !(line.contains(" => ") && line.ends_with(','))).count() + 1
    };
    let starts = (0..lines.len()).filter(|&i| is_function(lines[i]));
    starts.map(|i| (length(i), format!("{}:{}", source.path, i + 1))).collect()
}

#[test]
fn functions_are_short() {
    let folders = ["src", "cli", "loom-tests", "shuttle-tests", "tests", "benches", "examples", "fuzz/fuzz_targets"];
    let all: Vec<_> = folders.iter().flat_map(|f| rust_files(f)).flat_map(|s| function_lengths(&s)).collect();
    println!("{} functions, the longest {:?}", all.len(), all.iter().max());
    let long = all.into_iter().filter(|(length, _)| *length > 70);
    none("functions over 70 lines", long.map(|(length, place)| format!("{place}: {length}")).collect());

    let body = "        step();\n".repeat(69);
    let bad = format!("impl A {{\n    fn f(\n    ) {{\n{body}        1 => a,\n    }}\n    fn g() {{}}\n}}\n");
    assert_eq!(function_lengths(&Source::new("a.rs", &bad)), [(72, "a.rs:2".to_owned()), (1, "a.rs:75".to_owned())]);
}

/// What reads as unfinished, or waits for time. Split, so that this file does not find itself.
const LEFTOVERS: &[&str] =
    &[concat!("todo", "!("), concat!("unimpl", "emented!("), concat!("db", "g!("), concat!("#[ig", "nore")];

#[test]
fn nothing_is_left_unfinished() {
    let mut findings = Vec::new();
    for folder in ["src", "cli", "loom-tests", "shuttle-tests", "tests", "benches", "examples", "fuzz/fuzz_targets"] {
        for source in rust_files(folder) {
            for (n, line) in code(&source) {
                let sleeps = line.contains(concat!("thread::sl", "eep("))
                    && !folder.starts_with("benches")
                    && !source.path.contains("/bench");
                if sleeps || LEFTOVERS.iter().any(|word| line.contains(word)) {
                    findings.push(format!("{}:{n}: {}", source.path, line.trim()));
                }
            }
        }
    }
    none("left-overs, or sleeps", findings);
}

#[test]
fn features_gate_modules() {
    let sites = rust_files("src")
        .iter()
        .flat_map(|s| code(s).map(|l| l.1.to_owned()).collect::<Vec<_>>())
        .filter(|l| l.contains("cfg(feature"))
        .count();
    assert!(sites <= 30, "{sites} `cfg(feature` sites in src, 30 at most");
}

#[test]
fn the_dependency_tree_is_small() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-e", "normal", "-p", "layshaft", "--no-default-features", "--prefix", "none"])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let crates: BTreeMap<&str, ()> =
        text.lines().filter_map(|l| l.split(' ').next()).filter(|n| !n.is_empty()).map(|n| (n, ())).collect();
    println!("{} crates: {:?}", crates.len(), crates.keys());
    assert!((2..=12).contains(&crates.len()), "{} crates in the tree, 12 at most:\n{text}", crates.len());
}

#[test]
fn models_run_through_explore() {
    for source in rust_files("loom-tests/tests").iter().chain(&rust_files("shuttle-tests/tests")) {
        let tests = source.text.matches("#[test]").count();
        let explored = source.text.matches("explore(\"").count();
        assert_eq!(tests, explored, "{}: each model goes through `explore`", source.path);
        let bare = ["loom::model(", "shuttle::check"].iter().any(|call| source.text.contains(call));
        assert!(!bare, "{}: a bare model checks no number of schedules", source.path);
    }
}

#[test]
fn one_script_runs_everything() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert!(read("README.md").contains("scripts/test"));
    let ci: Vec<String> =
        read(".ci/run").lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(str::to_owned).collect();
    assert!(ci.len() == 1 && ci[0].contains("scripts/test"), ".ci/run calls scripts/test and nothing else: {ci:?}");
}
