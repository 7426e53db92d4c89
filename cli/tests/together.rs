//! `serve`, `work`, `submit` and `map --server` with each other.

mod common;

use common::{Killed, layshaft, run, text, write};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Starts a command, and waits until it says a line with `ready`: what follows that.
fn start(mut command: Command, ready: &str) -> (Killed, String) {
    let mut child = Killed(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts"));
    let lines = BufReader::new(child.0.stderr.take().expect("piped")).lines();
    let mut lines = lines.map(|line| line.expect("text"));
    let line = lines.find(|line| line.contains(ready)).expect("it gets ready");
    let rest = line.split(ready).nth(1).unwrap_or_default().to_owned();
    // What else it says is read, so that it does not wait for that.
    std::thread::spawn(move || lines.for_each(drop));
    (child, rest)
}

fn command(args: &[&str]) -> Command {
    layshaft(Path::new("."), args)
}

#[test]
fn what_is_mapped_elsewhere_looks_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    for n in 0..30 {
        write(folder.path(), format!("file {n}"), "line of words\n".repeat(n * n).as_bytes());
    }
    write(folder.path(), "odd\nname", b"\0\xff");
    let (_server, address) = start(command(&["serve", "--listen", "127.0.0.1:0"]), "listening on ");
    let functions = ["sha256", "crc32", "wc", "gzip-size"];
    let mut work = command(&["work", "--server", &address]);
    work.args(functions);
    let (_worker, _) = start(work, "connected to");
    let folder = folder.path().to_str().expect("text");
    for function in functions {
        for how in [&["map"][..], &["map", "--json"]] {
            let here = run(command(&[how, &[function, folder]].concat()));
            let there = run(command(&[how, &["--server", &address, function, folder]].concat()));
            assert_eq!((here.status.code(), there.status.code()), (Some(0), Some(0)));
            assert_eq!(text(&there.stdout), text(&here.stdout), "{function}, {how:?}");
        }
    }
}

#[test]
fn a_payload_can_be_piped() {
    let (_server, address) = start(command(&["serve", "--listen", "127.0.0.1:0"]), "listening on ");
    let mut work = command(&["work", "--server", &address, "count"]);
    work.args(["--", "wc", "-c"]);
    let (_worker, _) = start(work, "connected to");
    let mut submit = command(&["submit", "--server", &address, "count"]);
    let mut child = submit.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(b"twelve bytes").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((text(&output.stdout).trim(), output.status.code()), ("12", Some(0)));
}
