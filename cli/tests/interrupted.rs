//! Calls into the kernel that are interrupted, each third one of each kind: the server and the worker make them again, and each
//! result is right.
#![cfg(feature = "peers")]

mod common;
#[path = "../../tests/common/peer.rs"]
mod peer;
#[path = "common/serving.rs"]
mod serving;

use common::{Killed, start};
use layshaft::gearman::packet::{self, Kind, Magic};
use peer::Peer;
use serving::{Serving, listening, serve};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::{TempDir, tempdir};

/// What sockets need.
const CALLS: [&str; 4] = ["recvfrom", "sendto", "accept4", "epoll_wait"];

fn here() -> TempDir {
    tempdir().expect("a folder")
}

/// The command, with these calls interrupted; `calls` tells later which were. It stays a child of this process.
fn interrupted(folder: &Path, calls: &[&str], args: &[&str]) -> Command {
    let mut command = Command::new("strace");
    let calls = calls.join(",");
    command.args(["-D", "-f", "-qq", "-o", "calls", "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:error=EINTR:when=1+3"), env!("CARGO_BIN_EXE_layshaft")]);
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

/// How often each call was interrupted.
fn counts(folder: &Path, calls: &[&str]) -> Vec<usize> {
    let log = fs::read_to_string(folder.join("calls")).expect("it was traced");
    let injected: Vec<&str> =
        log.lines().filter(|line| line.contains("EINTR") && line.contains("(INJECTED)")).collect();
    calls.iter().map(|call| injected.iter().filter(|line| line.contains(&format!("{call}("))).count()).collect()
}

/// Submits all jobs at once: their results, in the same order.
fn results(client: &mut Peer, function: &str, payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    for payload in payloads {
        packet::encode(&mut bytes, Magic::Request, Kind::SubmitJob, &[function.as_bytes(), b"", payload]);
    }
    client.write(&bytes);
    let (mut handles, mut results) = (Vec::new(), HashMap::new());
    while results.len() < payloads.len() {
        let mut got = client.next().expect("an answer");
        match got.kind {
            Kind::JobCreated => handles.push(got.args.remove(0)),
            Kind::WorkComplete => _ = results.insert(got.args.remove(0), got.args.remove(0)),
            Kind::WorkStatus | Kind::WorkData | Kind::WorkWarning => {}
            _ => panic!("{got:?}"),
        }
    }
    handles.into_iter().map(|handle| results.remove(&handle).expect("one each")).collect()
}

fn payloads(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| format!("job {i} {}", "x".repeat(i * 97 % 5000)).into_bytes()).collect()
}

fn upper(payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
    payloads.iter().map(|payload| payload.to_ascii_uppercase()).collect()
}

/// A worker of this test's: it ends with its connection.
fn work(server: &Serving) -> std::thread::JoinHandle<()> {
    let mut worker = server.peer();
    worker.send(Kind::CanDo, &[b"upper"]);
    std::thread::spawn(move || {
        loop {
            worker.send(Kind::GrabJob, &[]);
            match worker.next() {
                None => return,
                Some(mut got) if got.kind == Kind::JobAssign => {
                    let payload = got.args.pop().expect("a payload");
                    worker.complete(&got.args[0], &payload.to_ascii_uppercase());
                }
                Some(got) if got.kind == Kind::NoJob => {
                    worker.send(Kind::PreSleep, &[]);
                    if worker.next().is_none() {
                        return;
                    }
                }
                Some(got) => panic!("{got:?}"),
            }
        }
    })
}

#[test]
fn f35_a_server_whose_calls_are_interrupted() {
    let folder = here();
    let server =
        listening(interrupted(folder.path(), &CALLS, &["serve", "--listen", "127.0.0.1:0", "--allow-shutdown"]));
    let mut workers = Vec::new();
    for round in 0..10 {
        // Connections that come and go, too.
        if round % 3 == 0 {
            workers.push(work(&server));
        }
        let (mut client, payloads) = (server.peer(), payloads(30));
        assert_eq!(results(&mut client, "upper", &payloads), upper(&payloads));
    }
    // Not by a signal: its handler writes to a pipe, without waiting, which only this test interrupts.
    assert_eq!(server.peer().ask("shutdown"), "OK");
    let (log, code) = server.end();
    assert_eq!(code, Some(0), "{log}");
    workers.into_iter().for_each(|worker| worker.join().expect("it ends with the server"));
    let counts = counts(folder.path(), &CALLS);
    println!("{counts:?} of {CALLS:?} were interrupted");
    assert!(counts.iter().all(|count| *count > 3), "{counts:?} of {CALLS:?} were interrupted");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn f35_a_worker_whose_calls_are_interrupted() {
    let (folder, payloads) = (here(), payloads(150));
    let server = serve(folder.path(), &[]);
    let address = server.address.to_string();
    let calls = [&CALLS[..2], &["epoll_wait", "wait4", "waitid", "poll"]].concat();
    for filter in [&[][..], &["--filter"]] {
        let program: &[&str] = if filter.is_empty() { &["tr", "a-z", "A-Z"] } else { &["sed", "-u", "s/.*/\\U&/"] };
        let args = [&["work", "-j2", "--server", &address, "upper"], filter, &["--"], program].concat();
        let worker: Killed = start(interrupted(folder.path(), &calls, &args));
        let mut client = server.peer();
        assert_eq!(results(&mut client, "upper", &payloads), upper(&payloads), "{filter:?}");
        let output = kill(worker);
        let counts = counts(folder.path(), &calls);
        println!("{counts:?} of {calls:?} were interrupted");
        assert!(counts[..2].iter().all(|count| *count > 3), "{counts:?} of {calls:?} were interrupted");
        assert!(!output.contains("lost") && !output.contains("rror"), "{output}");
    }
    server.terminate();
}

/// What it said, once the tracer has ended, too.
fn kill(mut worker: Killed) -> String {
    worker.0.kill().expect("it runs");
    common::read_to_end(worker.0.stderr.take().expect("piped"))
}
