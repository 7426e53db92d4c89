//! `--json`: an object a line for each input, and one for the run.

mod common;

use common::{layshaft, run, text, write};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Output;
use tempfile::tempdir;

/// What it printed, an object a line; the whole run's object; the exit code.
fn objects(output: &Output) -> (Vec<Value>, Value, Option<i32>) {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let lines = text(&output.stdout).lines().map(parse).collect();
    (lines, parse(text(&output.stderr).trim_end()), output.status.code())
}

#[test]
fn results_and_errors_are_objects_in_order() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "12345");
    write(folder.path(), "new\nline\\", "678");
    let output = run(layshaft(folder.path(), ["map", "--json", "crc32", "a", "missing", "new\nline\\"]));
    let (lines, summary, code) = objects(&output);
    let want = [
        json!({"input": "a", "result": "cbf53a1c"}),
        json!({"input": "missing", "error": "cannot read 'missing': No such file or directory (os error 2)"}),
        json!({"input": "new\nline\\", "result": "67a2589a"}),
    ];
    assert_eq!((lines.as_slice(), code), (want.as_slice(), Some(1)));
    for (key, want) in [("jobs", json!(3)), ("failed", json!(1)), ("bytes", json!(8)), ("interrupted", json!(false))] {
        assert_eq!(summary[key], want, "{key} in {summary}");
    }
    assert!(summary["seconds"].is_f64() && summary["run_seconds"]["p99"].is_f64(), "{summary}");
}

#[test]
fn results_have_the_kind_of_their_function() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "two words\n");
    for (function, want) in [("wc", json!({"lines": 1, "words": 2, "bytes": 10})), ("gzip-size", json!(30))] {
        let (lines, ..) = objects(&run(layshaft(folder.path(), ["map", "--json", function, "a"])));
        assert_eq!(lines, [json!({"input": "a", "result": want})]);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_not_lost() {
    let folder = tempdir().expect("a folder");
    let mut command = layshaft(folder.path(), ["map", "--json"]);
    command.arg(OsStr::from_bytes(b"n\xff")).args(["text", "--", "printf", "%s\\n"]);
    let (lines, ..) = objects(&run(command));
    let want =
        [json!({"input": {"hex": "6eff"}, "result": {"hex": "6eff0a"}}), json!({"input": "text", "result": "text\n"})];
    assert_eq!(lines, want);
}

#[test]
fn a_command_that_fails_has_an_error_and_what_it_printed() {
    let folder = tempdir().expect("a folder");
    let script = "test $1 = quiet || echo $1; exit 3";
    let output = run(layshaft(folder.path(), ["map", "--json", "a", "quiet", "--", "sh", "-c", script, "sh"]));
    let (lines, summary, code) = objects(&output);
    let want = [
        json!({"input": "a", "error": "`sh` exited with code 3", "output": "a\n"}),
        json!({"input": "quiet", "error": "`sh` exited with code 3"}),
    ];
    assert_eq!((lines.as_slice(), &summary["failed"], code), (want.as_slice(), &json!(2), Some(1)));
}

#[test]
fn quiet_prints_results_only_and_stats_go_into_the_summary() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "12345");
    let output = run(layshaft(folder.path(), ["map", "--json", "--quiet", "crc32", "a", "missing"]));
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(1)));
    let (_, summary, _) =
        objects(&run(layshaft(folder.path(), ["map", "--json", "--stats", "-j2", "crc32", "a", "a"])));
    let workers = summary["workers"].as_array().expect("a list");
    assert_eq!(workers.len(), 2);
    assert_eq!(workers.iter().filter_map(|worker| worker["jobs"].as_u64()).sum::<u64>(), 2);
}
