//! The first interrupt stops what has not started, the second ends what runs.

mod common;

use common::{Killed, exit_code, fifo, layshaft, open, read_line, read_to_end, release, start, write};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::{TempDir, tempdir};

/// Tells that it runs by opening `started`, which it keeps open, and ends when `gate` is opened.
const SCRIPT: &str = "exec 3>started; read x <gate; echo $1";

/// The command with the signals as they are by default, whatever whoever runs the tests has set.
fn map(folder: &Path, env: &str, args: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args([env, env!("CARGO_BIN_EXE_layshaft"), "map"]).args(args).current_dir(folder).stdin(Stdio::null());
    command
}

fn send(child: &Killed, signal: Signal) {
    kill_process(Pid::from_child(&child.0), signal).expect("it runs");
}

/// A folder with the two pipes.
fn pipes() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempdir().expect("a folder");
    let (started, gate) = (fifo(folder.path(), "started"), fifo(folder.path(), "gate"));
    (folder, started, gate)
}

#[test]
fn what_runs_may_end_and_the_rest_is_counted() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let (folder, started, gate) = pipes();
        let args = ["-q", "-j1", "a", "b", "c", "d", "e", "--", "sh", "-c", SCRIPT, "sh"];
        let mut child = start(map(folder.path(), "--default-signal", &args));
        let _started = open(&started);
        send(&child, signal);
        let (line, rest) = read_line(BufReader::new(child.0.stderr.take().expect("piped")));
        assert_eq!(line, "layshaft: interrupted: waiting for 1 running job; a second interrupt leaves at once\n");
        release(&gate);
        assert_eq!(read_to_end(rest), "layshaft: interrupted: 1 of 5 done, 4 not started\n");
        assert_eq!(read_to_end(child.0.stdout.take().expect("piped")), "a\n");
        assert_eq!(exit_code(&mut child), Some(code));
    }
}

#[test]
fn results_that_are_complete_are_printed_in_order() {
    let (folder, started, gate) = pipes();
    let script = format!("case $1 in done) echo done;; *) {SCRIPT};; esac");
    let args = ["-q", "-j1", "done", "running", "left", "--", "sh", "-c", &script, "sh"];
    let mut child = start(map(folder.path(), "--default-signal", &args));
    let _started = open(&started);
    send(&child, Signal::INT);
    let (_, rest) = read_line(BufReader::new(child.0.stderr.take().expect("piped")));
    release(&gate);
    assert_eq!(read_to_end(rest), "layshaft: interrupted: 2 of 3 done, 1 not started\n");
    assert_eq!(read_to_end(child.0.stdout.take().expect("piped")), "done\nrunning\n");
    assert_eq!(exit_code(&mut child), Some(130));
}

/// With what they have started: a child of the child keeps the pipe open.
#[test]
fn a_second_interrupt_ends_the_children() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (folder, started, _gate) = pipes();
        let script = "exec 3>started; (read x <gate); echo $1";
        let args = ["-q", "-j1", "a", "b", "--", "sh", "-c", script, "sh"];
        let mut child = start(map(folder.path(), "--default-signal", &args));
        let started = open(&started);
        send(&child, Signal::INT);
        let (_, rest) = read_line(BufReader::new(child.0.stderr.take().expect("piped")));
        send(&child, signal);
        assert_eq!(exit_code(&mut child), Some(code));
        assert_eq!(read_to_end(started), "");
        assert_eq!(read_to_end(rest), "");
        assert_eq!(read_to_end(child.0.stdout.take().expect("piped")), "");
    }
}

#[test]
fn a_quit_does_not_wait() {
    let (folder, started, _gate) = pipes();
    let mut child = start(map(folder.path(), "--default-signal", &["a", "--", "sh", "-c", SCRIPT, "sh"]));
    let started = open(&started);
    send(&child, Signal::QUIT);
    assert_eq!(exit_code(&mut child), Some(131));
    assert_eq!(read_to_end(started), "");
}

#[test]
fn a_list_that_stays_open_does_not_hold_up_an_interrupt() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "12345");
    let mut command = map(folder.path(), "--default-signal", &["-q", "crc32", "--files-from", "-"]);
    command.stdin(Stdio::piped());
    let mut child = start(command);
    let mut list = child.0.stdin.take().expect("piped");
    list.write_all(b"a\n").expect("it reads");
    let (line, rest) = read_line(BufReader::new(child.0.stdout.take().expect("piped")));
    assert_eq!(line, "cbf53a1c  a\n");
    send(&child, Signal::INT);
    let want = "layshaft: interrupted: 1 of at least 1 done, at least 0 not started\n";
    assert_eq!(read_to_end(child.0.stderr.take().expect("piped")), want);
    assert_eq!((read_to_end(rest).as_str(), exit_code(&mut child)), ("", Some(130)));
    drop(list);
}

#[test]
fn a_body_that_reads_may_end_too() {
    let folder = tempdir().expect("a folder");
    let fifo = fifo(folder.path(), "fifo");
    let mut child = start(map(folder.path(), "--default-signal", &["-q", "-j1", "wc", "fifo", "fifo"]));
    let mut writer = common::within("a body", move || std::fs::File::options().write(true).open(fifo).expect("a pipe"));
    send(&child, Signal::TERM);
    let (_, rest) = read_line(BufReader::new(child.0.stderr.take().expect("piped")));
    writer.write_all(b"two words\n").expect("the body reads it");
    drop(writer);
    assert_eq!(read_to_end(rest), "layshaft: interrupted: 1 of 2 done, 1 not started\n");
    assert_eq!(read_to_end(child.0.stdout.take().expect("piped")), " 1  2 10 fifo\n");
    assert_eq!(exit_code(&mut child), Some(143));
}

#[test]
fn the_summary_in_json_says_it() {
    let folder = tempdir().expect("a folder");
    let mut command = map(folder.path(), "--default-signal", &["--json", "--", "echo"]);
    command.stdin(Stdio::piped());
    let mut child = start(command);
    let mut list = child.0.stdin.take().expect("piped");
    list.write_all(b"a\n").expect("it reads");
    let (line, _rest) = read_line(BufReader::new(child.0.stdout.take().expect("piped")));
    assert_eq!(line, "{\"input\":\"a\",\"result\":\"a\\n\"}\n");
    send(&child, Signal::INT);
    let errors = read_to_end(child.0.stderr.take().expect("piped"));
    let summary: Value = serde_json::from_str(&errors).expect("one object");
    for (key, want) in [("interrupted", json!(true)), ("jobs", json!(1)), ("are_more_left", json!(true))] {
        assert_eq!(summary[key], want, "{key} in {summary}");
    }
    assert_eq!(exit_code(&mut child), Some(130));
    drop(list);
}

/// As under `nohup`.
#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let (folder, started, gate) = pipes();
    let mut child = start(map(folder.path(), "--ignore-signal=HUP", &["-q", "a", "--", "sh", "-c", SCRIPT, "sh"]));
    let _started = open(&started);
    send(&child, Signal::HUP);
    release(&gate);
    assert_eq!(read_to_end(child.0.stdout.take().expect("piped")), "a\n");
    assert_eq!((read_to_end(child.0.stderr.take().expect("piped")).as_str(), exit_code(&mut child)), ("", Some(0)));
}

/// Only the command itself gets the terminal's signals: its children are in groups of their own.
#[test]
fn children_are_in_groups_of_their_own() {
    let folder = tempdir().expect("a folder");
    let script = "read -r _ _ _ _ group _ </proc/$$/stat; echo $group; echo $$";
    let output = common::run(layshaft(folder.path(), ["map", "-q", "a", "--", "sh", "-c", script]));
    let printed = common::text(&output.stdout);
    let numbers: Vec<&str> = printed.lines().collect();
    assert_eq!(numbers[0], numbers[1]);
}
