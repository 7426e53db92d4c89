//! `layshaft work`: as a Gearman server sees it, and as whoever runs it does.

mod common;
#[path = "../../tests/gearman_worker/fake.rs"]
mod fake;
#[cfg(feature = "peers")]
#[path = "work/peers.rs"]
mod peers;

use common::{Killed, PATIENCE, exit_code, fifo, layshaft, open, read_line, read_to_end, release, run, start, text};
use fake::{Fake, Peer};
use layshaft::gearman::packet::Kind;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::{TempDir, tempdir};

/// The command, taking jobs from `fake`, with what is said about connections left out.
fn work(folder: &Path, fake: &Fake, args: &[&str]) -> Command {
    let mut command = layshaft(folder, ["work", "-q", "-j1", "--server", &fake.address()]);
    command.args(args);
    command
}

fn send(child: &Killed, signal: Signal) {
    kill_process(Pid::from_child(&child.0), signal).expect("it runs");
}

fn here() -> TempDir {
    tempdir().expect("a folder")
}

/// A job's end: its kind, and what came with it. What else was said before is dropped.
fn answer<S: Read + Write>(peer: &mut Peer<S>, function: &str, payload: &[u8]) -> (Kind, String) {
    peer.assign("H:x:1", function, payload);
    let mut warning = String::new();
    loop {
        let (kind, mut args) = peer.next().expect("an answer");
        let last = args.pop().map_or(String::new(), |arg| text(&arg));
        match kind {
            Kind::WorkComplete => return (kind, last),
            Kind::WorkFail => return (kind, warning),
            Kind::WorkWarning | Kind::WorkException => warning = last,
            _ => {}
        }
    }
}

/// Ends it as a service manager would.
fn terminate(mut child: Killed) -> String {
    send(&child, Signal::TERM);
    let errors = read_to_end(child.0.stderr.take().expect("piped"));
    assert_eq!(exit_code(&mut child), Some(0), "{errors}");
    errors
}

#[test]
fn built_in_functions_work_on_payloads() {
    let (folder, fake) = (here(), Fake::new());
    let child = start(work(folder.path(), &fake, &["sha256", "crc32", "wc", "gzip-size"]));
    let mut peer = fake.accept();
    let offered: Vec<String> = (0..4).map(|_| text(&peer.expect(Kind::CanDo)[0])).collect();
    assert_eq!(offered, ["sha256", "crc32", "wc", "gzip-size"]);
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(answer(&mut peer, "sha256", b"abc"), (Kind::WorkComplete, abc.to_owned()));
    assert_eq!(answer(&mut peer, "crc32", b"123456789"), (Kind::WorkComplete, "cbf43926".to_owned()));
    assert_eq!(answer(&mut peer, "wc", b"two words\n"), (Kind::WorkComplete, "1 2 10".to_owned()));
    assert_eq!(answer(&mut peer, "gzip-size", b""), (Kind::WorkComplete, "20".to_owned()));
    peer.deny_all();
    assert_eq!(terminate(child), "");
}

#[test]
fn options_are_what_servers_hear() {
    let (folder, fake) = (here(), Fake::new());
    let args = ["wc", "--prefix", "ns", "--timeout", "2.5", "--id", "me"];
    let child = start(work(folder.path(), &fake, &args));
    let mut peer = fake.accept();
    assert_eq!(peer.expect(Kind::SetClientId), [b"me"]);
    assert_eq!(peer.expect(Kind::CanDoTimeout), [&b"ns\twc"[..], b"2500"]);
    peer.expect(Kind::GrabJobUniq);
    peer.send_to_sleep();
    assert_eq!(terminate(child), "");
}

#[test]
fn a_program_runs_for_each_job() {
    let (folder, fake) = (here(), Fake::new());
    let script =
        "read -r line; case $line in bad) echo lost; exit 3;; told) echo told >&2;; esac; printf '%s' \"<$line\"; cat";
    let child = start(work(folder.path(), &fake, &["any name", "--", "sh", "-c", script]));
    let mut peer = fake.accept();
    assert_eq!(peer.expect(Kind::CanDo), [b"any name"]);
    assert_eq!(answer(&mut peer, "any name", b"told\n1\n2"), (Kind::WorkComplete, "<told1\n2".to_owned()));
    let why = "`sh` exited with code 3".to_owned();
    assert_eq!(answer(&mut peer, "any name", b"bad\n"), (Kind::WorkFail, why.clone()));
    // More than a pipe holds, both ways; and a program that does not read it.
    let large = "x".repeat(1 << 20);
    assert_eq!(answer(&mut peer, "any name", large.as_bytes()).1.len(), large.len() + 1);
    assert_eq!(answer(&mut peer, "any name", format!("bad\n{large}").as_bytes()), (Kind::WorkFail, why));
    peer.deny_all();
    assert_eq!(
        terminate(child),
        "told\nlayshaft: job H:x:1: `sh` exited with code 3\n".to_owned()
            + "layshaft: job H:x:1: `sh` exited with code 3\n"
    );
}

#[test]
fn a_filter_stays_and_is_started_again() {
    let (folder, fake) = (here(), Fake::new());
    let script = "while read -r line; do case $line in die) exit 7;; last) echo \"$$ $line\"; exit;; esac; echo \"$$ $line\"; done";
    let child = start(work(folder.path(), &fake, &["f", "--filter", "--", "sh", "-c", script]));
    let mut peer = fake.accept();
    let mut ask = |line: &str| {
        let (kind, answer) = answer(&mut peer, "f", line.as_bytes());
        (kind == Kind::WorkComplete).then_some(()).ok_or(answer.clone())?;
        let (pid, line) = answer.split_once(' ').expect("two words");
        Ok::<_, String>((pid.to_owned(), line.to_owned()))
    };
    let (first, line) = ask("a").expect("an answer");
    assert_eq!(line, "a");
    assert_eq!(ask("b\n"), Ok((first.clone(), "b".to_owned())), "the same process");
    assert_eq!(ask(""), Ok((first.clone(), String::new())));
    assert_eq!(ask("die"), Err("`sh` exited with code 7".to_owned()));
    let (second, _) = ask("c").expect("another one");
    assert_ne!(first, second);
    // It ends between two jobs: that is no job's fault.
    assert_eq!(ask("last"), Ok((second.clone(), "last".to_owned())));
    assert_ne!(ask("d").expect("a third one").0, second);
    assert_eq!(ask("a\nb"), Err("the payload has several lines, and a filter reads one".to_owned()));
    peer.deny_all();
    let errors = terminate(child);
    assert_eq!(errors.lines().count(), 2, "{errors}");
}

#[test]
fn a_filter_takes_lines_that_are_longer_than_a_pipe() {
    let (folder, fake) = (here(), Fake::new());
    let child = start(work(folder.path(), &fake, &["f", "--filter", "--", "cat"]));
    let mut peer = fake.accept();
    for _ in 0..2 {
        let large = "x".repeat(1 << 20);
        assert_eq!(answer(&mut peer, "f", large.as_bytes()), (Kind::WorkComplete, large));
    }
    peer.deny_all();
    assert_eq!(terminate(child), "");
}

#[test]
fn a_filter_gets_a_line_once() {
    let (folder, fake) = (here(), Fake::new());
    let script = "while read -r line; do echo $line >>lines; case $line in die) exit 7;; esac; echo $line; done";
    let child = start(work(folder.path(), &fake, &["f", "--filter", "--", "sh", "-c", script]));
    let mut peer = fake.accept();
    assert_eq!(answer(&mut peer, "f", b"a"), (Kind::WorkComplete, "a".to_owned()));
    assert_eq!(answer(&mut peer, "f", b"die"), (Kind::WorkFail, "`sh` exited with code 7".to_owned()));
    assert_eq!(answer(&mut peer, "f", b"b"), (Kind::WorkComplete, "b".to_owned()));
    assert_eq!(fs::read_to_string(folder.path().join("lines")).expect("written"), "a\ndie\nb\n");
    peer.deny_all();
    terminate(child);
}

#[test]
fn a_filter_that_prints_too_much_answers_no_other_job() {
    let (folder, fake) = (here(), Fake::new());
    // At once; and when the first line was taken: the second is there when `late` is opened.
    let script = r#"while read -r line; do case $line in two) printf '1\n2\n';; late) echo l; read -r x <gate; echo l2; (exec 3>late);;
        *) echo "<$line"; esac; done"#;
    let child = start(work(folder.path(), &fake, &["f", "--filter", "--", "sh", "-c", script]));
    let (gate, late) = (fifo(folder.path(), "gate"), fifo(folder.path(), "late"));
    let mut peer = fake.accept();
    let why = "`sh` printed more than a line for a line, and was ended";
    assert_eq!(answer(&mut peer, "f", b"two"), (Kind::WorkFail, why.to_owned()));
    assert_eq!(answer(&mut peer, "f", b"a"), (Kind::WorkComplete, "<a".to_owned()));
    assert_eq!(answer(&mut peer, "f", b"late"), (Kind::WorkComplete, "l".to_owned()));
    release(&gate);
    drop(open(&late));
    assert_eq!(answer(&mut peer, "f", b"b"), (Kind::WorkComplete, "<b".to_owned()));
    peer.deny_all();
    terminate(child);
}

#[test]
fn a_filter_that_answers_too_early_is_ended() {
    let (folder, fake) = (here(), Fake::new());
    let script = "echo early; exec sleep 1000";
    let child = start(work(folder.path(), &fake, &["f", "--filter", "--", "sh", "-c", script]));
    let mut peer = fake.accept();
    let why = "`sh` answered before it had read the line, and was ended";
    assert_eq!(answer(&mut peer, "f", &b"x".repeat(1 << 20)), (Kind::WorkFail, why.to_owned()));
    peer.deny_all();
    terminate(child);
}

/// Tells that it runs by opening `started`, which it keeps open, and ends when `gate` is opened.
const SCRIPT: &str = "exec 3>started; read x <gate; cat";

#[test]
fn a_signal_lets_jobs_end_and_a_second_does_not() {
    for (signals, code) in [(&[Signal::TERM][..], 0), (&[Signal::INT, Signal::TERM], 143)] {
        let (folder, fake) = (here(), Fake::new());
        let (started, gate) = (fifo(folder.path(), "started"), fifo(folder.path(), "gate"));
        let args = ["work", "-j1", "-s", &fake.address(), "f", "--", "sh", "-c", SCRIPT];
        let mut command = Command::new("env");
        command.arg("--default-signal").arg(env!("CARGO_BIN_EXE_layshaft")).args(args);
        command.current_dir(folder.path()).stdin(Stdio::null());
        let mut child = start(command);
        let mut peer = fake.accept_asking();
        peer.assign("H:x:1", "f", b"x");
        let running = open(&started);
        let (line, errors) = read_line(BufReader::new(child.0.stderr.take().expect("piped")));
        assert_eq!(line, format!("layshaft: connected to {}\n", fake.address()));
        send(&child, signals[0]);
        let (line, errors) = read_line(errors);
        assert_eq!(line, "layshaft: no more jobs are taken; a second interrupt leaves at once\n");
        assert_eq!(peer.so_far(), [], "no job is asked for");
        if let Some(second) = signals.get(1) {
            send(&child, *second);
            peer.expect_end();
            assert_eq!(read_to_end(running), "", "its child is killed");
            assert_eq!(read_to_end(errors), "");
        } else {
            release(&gate);
            assert_eq!(peer.expect(Kind::WorkComplete), [b"H:x:1", &b"x"[..]]);
            peer.expect_end();
            drop(peer);
            assert_eq!(read_to_end(errors), "layshaft: 1 job, 0 failed\n");
        }
        assert_eq!(exit_code(&mut child), Some(code));
    }
}

#[test]
fn usage_errors_exit_with_2() {
    let folder = here();
    let cases: [(&[&str], &[&str]); 8] = [
        (&[], &["<FUNCTION>"]),
        (&["sha265"], &["'sha265'", "similar value exists: 'sha256'"]),
        (&["a", "b", "--", "cat"], &["one <FUNCTION>"]),
        (&["sha256", "--filter"], &["--filter", "-- <CMD>"]),
        (&["f", "--", "no-such-program"], &["layshaft: cannot run `no-such-program`: no such program in PATH"]),
        (&["wc", "-s", "a:b"], &["\"a:b\" is no address of a server"]),
        (&["wc", "wc"], &["already registered"]),
        (&["wc", "--timeout", "0"], &["--timeout", "seconds"]),
    ];
    for (args, words) in cases {
        let mut command = layshaft(folder.path(), ["work"]);
        command.args(args).env("GEARMAN_SERVERS", "127.0.0.1:1");
        let output = run(command);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {errors}");
        words.iter().for_each(|word| assert!(errors.contains(word), "{args:?}: {word:?} is missing in {errors}"));
    }
}

#[test]
fn no_server_exits_with_3() {
    let folder = here();
    let missing = folder.path().join("socket");
    let mut command = layshaft(folder.path(), ["work", "wc", "--give-up", "0.2"]);
    command.env("GEARMAN_SERVERS", &missing);
    let output = run(command);
    let errors = text(&output.stderr);
    let begin = format!("layshaft: no server at unix:{} (the connection failed: No such file", missing.display());
    assert!(errors.starts_with(&begin) && errors.contains("; tried once in 0."), "{errors}");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn another_protocol_is_named() {
    let (folder, listener) = (here(), TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let address = listener.local_addr().expect("it is bound").to_string();
    let mut child = start(layshaft(folder.path(), ["work", "wc", "--give-up", "0.1", "-s", &address]));
    let (mut stream, _) = listener.accept().expect("it comes");
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("it reads");
    drop((stream, listener));
    let errors = read_to_end(child.0.stderr.take().expect("piped"));
    assert!(errors.starts_with(&format!("layshaft: no server at {address} (")), "{errors}");
    assert!(errors.contains("the peer speaks HTTP, not Gearman"), "{errors}");
    assert_eq!(exit_code(&mut child), Some(3));
}

#[test]
fn settings_reach_the_server() {
    let (folder, fake) = (here(), Fake::new());
    let args =
        ["f", "--timeout", "2.5", "--timeout-unit", "s", "--max-packet", "1KiB", "--", "head", "-c2000", "/dev/zero"];
    let child = start(work(folder.path(), &fake, &args));
    let mut peer = fake.accept();
    assert_eq!(peer.expect(Kind::CanDoTimeout), [b"f", b"3"]);
    let why = "the result has 2000 bytes, and a packet holds 1018 of it at most".to_owned();
    assert_eq!(answer(&mut peer, "f", b""), (Kind::WorkFail, why));
    drop(peer);
    terminate(child);
}

#[test]
fn gs_15_the_connection_can_be_standard_input_and_output() {
    let folder = here();
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let mut command =
        layshaft(folder.path(), ["work", "-q", "f", "--", "sh", "-c", "echo \"<$GEARMAN_WORKER_USE_STDIO>\"; cat"]);
    let input = OwnedFd::from(theirs);
    command.env("GEARMAN_WORKER_USE_STDIO", "1").stdout(input.try_clone().expect("another descriptor")).stdin(input);
    let mut child = Killed(command.stderr(Stdio::piped()).spawn().expect("it starts"));
    // The command has the other end's descriptors.
    drop(command);
    let mut peer = Peer::on(ours);
    assert_eq!(answer(&mut peer, "f", b"x"), (Kind::WorkComplete, "<>\nx".to_owned()));
    drop(peer);
    let errors = read_to_end(child.0.stderr.take().expect("piped"));
    assert_eq!(errors, "");
    assert_eq!(exit_code(&mut child), Some(0));
}

#[test]
fn gs_15_something_else_there_is_told() {
    let folder = here();
    fs::write(folder.path().join("file"), "").expect("a file");
    let mut command = layshaft(folder.path(), ["work", "wc"]);
    command.env("GEARMAN_WORKER_USE_STDIO", "1").stdin(fs::File::open(folder.path().join("file")).expect("a file"));
    let output = run(command);
    let errors = text(&output.stderr);
    assert!(errors.starts_with("layshaft: no server at standard input (the connection failed: "), "{errors}");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn gs_15_a_server_can_start_its_own_workers() {
    let engine = layshaft::Engine::builder().workers(1).start().expect("an engine");
    let server = layshaft::gearman::Server::builder(&engine).listen("127.0.0.1:0").start().expect("a server");
    let folder = here();
    let child =
        server.spawn_worker(layshaft(folder.path(), ["work", "-q", "--id", "mine", "crc32"])).expect("it starts");
    let mut child = Killed(child);
    let address = server.addresses()[0].to_string();
    let client = layshaft::gearman::Client::connect(&address).expect("a client");
    assert_eq!(client.call("crc32", "123456789").expect("a result"), b"cbf43926");
    let workers = client.admin(0, "workers").wait().expect("a table");
    let shown = format!("{workers:?}");
    let rows = match workers {
        layshaft::gearman::TextAnswer::Rows(rows) => rows,
        other => panic!("{other:?}"),
    };
    assert!(rows.iter().any(|row| text(row).contains("[gearman_child] mine : crc32")), "{shown}");
    server.end();
    server.wait();
    assert_eq!(exit_code(&mut child), Some(0));
}
