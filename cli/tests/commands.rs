//! `map INPUT... -- CMD ARG...`: a program for each input.

mod common;

use common::{assert_same, fifo, layshaft, map, open, read_line, read_to_end, run, shell, start, text, write};
use std::ffi::OsStr;
use std::io::{BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use tempfile::tempdir;

#[test]
fn the_input_stands_in_every_place_and_no_shell_sees_it() {
    let folder = tempdir().expect("a folder");
    let odd = "a  b$(x)'*\"\\;\n{}";
    let got = map(folder.path(), ["1", odd, "", "--", "printf", "%s|", "{}", "x{}y{}", "{", "}"]);
    assert_eq!(text(&got), format!("1|x1y1|{{|}}|{odd}|x{odd}y{odd}|{{|}}||xy|{{|}}|"));
    let got = map(folder.path(), ["1", odd, "--", "printf", "%s|", "last"]);
    assert_eq!(text(&got), format!("last|1|last|{odd}|"));
}

#[test]
fn bytes_that_are_no_text_arrive() {
    let folder = tempdir().expect("a folder");
    let args = [b"a\xff\n".as_slice(), b"--", b"printf", b"%s", b"\xfe{}\xfd"];
    assert_eq!(map(folder.path(), args.map(OsStr::from_bytes)), b"\xfea\xff\n\xfd");
}

/// The same as a shell would do in a loop, in order, however many run at once.
#[test]
fn results_keep_the_order_of_inputs_and_folders_are_walked() {
    let folder = tempdir().expect("a folder");
    for i in 0..200 {
        write(folder.path(), format!("in/{}/f{i}", i % 7), format!("content {i}\n"));
    }
    let want = shell(folder.path(), "find in -type f -print0 | sort -z | xargs -0 tail -v -n 1; echo");
    let want = text(&want).split("==> ").skip(1).map(|part| format!("==> {}\n", part.trim_end())).collect::<String>();
    for jobs in ["1", "4"] {
        let got = map(folder.path(), ["-j", jobs, "in", "--", "tail", "-v", "-n", "1"]);
        assert_same(&got, want.as_bytes());
    }
}

#[test]
fn a_function_in_front_makes_all_that_follows_its_inputs() {
    let folder = tempdir().expect("a folder");
    for name in ["sha256", "cat", "-j"] {
        write(folder.path(), name, name);
    }
    let got = map(folder.path(), ["sha256", "--", "cat", "-j"]);
    assert_same(&got, &shell(folder.path(), "sha256sum -- cat -j"));
    assert_eq!(text(&map(folder.path(), ["./sha256", "--", "cat"])), "sha256");
    // A word that is no function is an input of a command, in front of it or alone.
    assert_eq!(text(&map(folder.path(), ["sha265", "--", "echo"])), "sha265\n");
}

#[test]
fn without_inputs_the_lines_of_standard_input_are_taken() {
    let folder = tempdir().expect("a folder");
    for args in
        [&["--", "echo", "<{}>"][..], &["-", "--", "echo", "<{}>"], &["--files-from", "-", "--", "echo", "<{}>"]]
    {
        let mut command = layshaft(folder.path(), ["map", "--quiet"]);
        let mut child = start({
            command.args(args).stdin(Stdio::piped());
            command
        });
        let mut input = child.0.stdin.take().expect("piped");
        input.write_all(b"a b\n-\n").expect("it reads");
        // While the list is open.
        let (line, rest) = read_line(BufReader::new(child.0.stdout.take().expect("piped")));
        assert_eq!(line, "<a b>\n");
        input.write_all(b"c").expect("it reads");
        drop(input);
        assert_eq!(read_to_end(rest), "<->\n<c>\n", "{args:?}");
    }
}

#[test]
fn a_command_reads_nothing() {
    let folder = tempdir().expect("a folder");
    let mut command = layshaft(folder.path(), ["map", "-q", "--", "sh", "-c", "cat; echo $1", "sh"]);
    write(folder.path(), "list", "1\n2\n");
    command.stdin(std::fs::File::open(folder.path().join("list")).expect("written above"));
    assert_eq!(text(&run(command).stdout), "1\n2\n");
}

#[test]
fn failures_are_told_and_the_rest_goes_on() {
    let folder = tempdir().expect("a folder");
    let script = "echo out$1; echo err >&2; case $1 in 3) exit 3;; kill) kill -9 $$;; esac";
    let output =
        run(layshaft(folder.path(), ["map", "-q", "-j1", "1", "3", "kill", "4", "--", "sh", "-c", script, "sh"]));
    assert_eq!(text(&output.stdout), "out1\nout3\noutkill\nout4\n");
    let mut errors: Vec<String> = text(&output.stderr).lines().map(str::to_owned).collect();
    errors.sort_unstable();
    let want = ["err", "err", "err", "err", "layshaft: '3': `sh` exited with code 3"];
    assert_eq!(errors[..5], want);
    assert_eq!(errors[5..], ["layshaft: 'kill': `sh` was killed by signal 9 (SIGKILL)"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_command_that_is_not_there_is_told_before_anything_runs() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "not-executable", "");
    for (name, place) in [("no-such-program", " in PATH"), ("./no-such", ""), ("./not-executable", ""), ("./", "")] {
        let output = run(layshaft(folder.path(), ["map", "1", "2", "--", name]));
        let want = format!("layshaft: cannot run `{name}`: no such program{place}, or one that may not be run\n");
        assert_eq!((text(&output.stderr), output.status.code()), (want, Some(2)));
    }
}

#[test]
fn a_command_that_cannot_start_for_one_input_fails_that_input() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "list", "a\n".to_owned() + &"b".repeat(3_000_000) + "\nc\n");
    let output = run(layshaft(folder.path(), ["map", "-q", "--files-from", "list", "--", "printf", "%.1s"]));
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("ac", Some(1)));
    let errors = text(&output.stderr);
    assert!(errors.ends_with("': cannot run `printf`: Argument list too long (os error 7)\n"), "{}", errors.len());
}

/// Each waits for the other: neither ends alone.
#[test]
fn as_many_run_at_once_as_there_are_workers() {
    let folder = tempdir().expect("a folder");
    fifo(folder.path(), "one");
    fifo(folder.path(), "two");
    let script = "case $1 in 1) echo >one; read x <two;; 2) read x <one; echo >two;; esac; echo $1";
    let got = map(folder.path(), ["--jobs", "2", "1", "2", "--", "sh", "-c", script, "sh"]);
    assert_eq!(text(&got), "1\n2\n");
}

#[test]
fn a_slow_one_holds_up_none_when_the_order_does_not_matter() {
    let folder = tempdir().expect("a folder");
    let gate = fifo(folder.path(), "gate");
    let script = "case $1 in slow) read x <gate;; esac; echo $1";
    let args = ["map", "-q", "--unordered", "-j2", "slow", "a", "b", "c", "--", "sh", "-c", script, "sh"];
    let mut child = start(layshaft(folder.path(), args));
    let mut from = BufReader::new(child.0.stdout.take().expect("piped"));
    // Of which the worker may have claimed some together with the slow one: any order.
    let mut lines = Vec::new();
    for _ in 0..3 {
        let (line, rest) = read_line(from);
        lines.push(line);
        from = rest;
    }
    lines.sort_unstable();
    assert_eq!(lines, ["a\n", "b\n", "c\n"]);
    common::release(&gate);
    assert_eq!(read_to_end(from), "slow\n");
    assert_eq!(common::exit_code(&mut child), Some(0));
}

/// What runs for a reader that has left is ended, not left behind.
#[test]
fn a_reader_that_leaves_ends_what_runs() {
    let folder = tempdir().expect("a folder");
    let (gate, held) = (fifo(folder.path(), "gate"), fifo(folder.path(), "held"));
    fifo(folder.path(), "never");
    let script = "case $1 in held) exec 3>held; read x <never;; gated) read x <gate;; esac; echo $1";
    let args = ["map", "--unordered", "-j3", "held", "a", "gated", "--", "sh", "-c", script, "sh"];
    let mut child = start(layshaft(folder.path(), args));
    let held = open(&held);
    let (line, rest) = read_line(BufReader::new(child.0.stdout.take().expect("piped")));
    assert_eq!(line, "a\n");
    drop(rest);
    common::release(&gate);
    assert_eq!(read_to_end(held), "");
    assert_eq!(read_to_end(child.0.stderr.take().expect("piped")), "");
    assert_eq!(common::exit_code(&mut child), Some(0));
}
