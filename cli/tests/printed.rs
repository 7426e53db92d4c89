//! The summary, the help and the figures.

mod common;

use common::{layshaft, run, text, write};
use std::process::Stdio;
use tempfile::tempdir;

#[test]
fn the_summary_counts_the_run() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "12345");
    write(folder.path(), "b", "678");
    let output = run(layshaft(folder.path(), ["map", "crc32", "a", "missing", "b"]));
    let errors = text(&output.stderr);
    let summary = errors.lines().last().expect("a summary");
    assert!(summary.starts_with("layshaft: 3 jobs, 1 failed, 8 bytes, "), "{summary}");
    for part in [" s, ", " jobs/s, ", "run time p50 ", " p99 ", " steals"] {
        assert!(summary.contains(part), "{part:?} is missing in {summary}");
    }
    assert_eq!(errors.lines().count(), 2, "{errors}");
}

#[test]
fn stats_are_a_line_a_worker() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    (0..5).for_each(|n| common::write(folder.path(), format!("{n}"), "x"));
    let output = run(layshaft(folder.path(), ["map", "--quiet", "--stats", "--jobs", "2", "crc32", "."]));
    let printed = text(&output.stderr);
    let first_words: Vec<&str> = printed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(first_words, ["worker", "0", "1", "total"]);
    let total: Vec<&str> = printed.lines().last().unwrap_or_default().split_whitespace().collect();
    assert_eq!(total[1], "5", "{printed}");
}

#[test]
fn quiet_prints_errors_only() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "12345");
    let output = run(layshaft(folder.path(), ["map", "-q", "crc32", "a", "missing"]));
    assert_eq!(text(&output.stderr), "layshaft: cannot read 'missing': No such file or directory (os error 2)\n");
    assert_eq!(text(&output.stdout), "cbf53a1c  a\n");
}

#[test]
fn a_closed_standard_error_does_no_harm() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "12345");
    let mut command = layshaft(folder.path(), ["map", "crc32", "a", "missing"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = run({
        command.stderr(writer).stdout(Stdio::piped());
        command
    });
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("cbf53a1c  a\n", Some(1)));
}

#[test]
fn help_tells_functions_and_exit_codes() {
    let folder = tempdir().expect("a folder");
    let help = |args: &[&str]| {
        let output = run(layshaft(folder.path(), args));
        assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(0)));
        text(&output.stdout)
    };
    let main = help(&["--help"]);
    assert!(
        ["map", "bench", "Exit codes: 0 ok, 1 a job failed, 2 usage"].iter().all(|word| main.contains(word)),
        "{main}"
    );
    let map = help(&["map", "--help"]);
    assert!(["sha256", "crc32", "wc", "--jobs", "--quiet"].iter().all(|word| map.contains(word)), "{map}");
    assert_eq!(help(&["--version"]), format!("layshaft {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn bench_prints_machine_versions_and_a_figure_for_every_line() {
    let folder = tempdir().expect("a folder");
    let output = run(layshaft(folder.path(), ["bench", "core", "--quick"]));
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(0)));
    let printed = text(&output.stdout);
    let (head, table) = printed.split_once("\n\n").expect("a head and a table");
    for part in [env!("CARGO_PKG_VERSION"), "rustc 1.", "machine: ", " cores, ", "command: ", "bench core --quick"] {
        assert!(head.contains(part), "{part:?} is missing in {head}");
    }
    let lines: Vec<&str> = table.lines().skip(1).collect();
    let names =
        ["send ", "send_batch of 64 ", "submit and wait, 1024 ", "submit and wait, 64 ", "one outstanding", "tree: "];
    let functions = [1, 64, 1024, 16_384].map(|n| format!("send to {n} functions"));
    for name in names.iter().copied().chain(functions.iter().map(String::as_str)) {
        assert!(lines.iter().any(|line| line.contains(name)), "{name:?} is missing in {table}");
    }
    for line in lines {
        let figures: Vec<f64> = line.split_whitespace().rev().take(3).filter_map(|word| word.parse().ok()).collect();
        let [highest, lowest, median] = figures[..] else { panic!("three figures are missing in {line}") };
        assert!(0.0 < lowest && lowest <= median && median <= highest, "{line}");
    }
}
