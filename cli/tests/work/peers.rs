//! With gearmand: no job is lost, whatever becomes of the process.

use super::*;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

/// A gearmand on a port of its own.
struct Daemon {
    port: u16,
    _process: Killed,
}

impl Daemon {
    fn start() -> Daemon {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let mut command = Command::new("/usr/sbin/gearmand");
        command.args(["-p", &port.to_string(), "-L", "127.0.0.1", "-l", "/dev/null", "-t", "1"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Killed(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "gearmand does not listen");
            thread::yield_now();
        }
        Daemon { port, _process: process }
    }

    /// A worker of it.
    fn work(&self, folder: &Path, args: &[&str]) -> Killed {
        let mut command = layshaft(folder, ["work", "-q"]);
        command.args(args).env("GEARMAN_SERVERS", format!("127.0.0.1:{}", self.port));
        start(command)
    }

    /// A job of a client that waits for it.
    fn submit(&self, function: &str, payload: &str) -> Killed {
        let mut command = Command::new("gearman");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-f", function, payload]);
        command.stdin(Stdio::null());
        start(command)
    }
}

fn result(mut client: Killed) -> String {
    let printed = read_to_end(client.0.stdout.take().expect("piped"));
    assert_eq!(exit_code(&mut client), Some(0), "{printed}");
    printed
}

#[test]
fn gearman_submits_and_a_program_answers() {
    let (folder, server) = (here(), Daemon::start());
    let _worker = server.work(folder.path(), &["upper", "--", "tr", "a-z", "A-Z"]);
    assert_eq!(result(server.submit("upper", "layshaft")), "LAYSHAFT");
    let _filter = server.work(folder.path(), &["rev", "--filter", "--", "sed", "-u", "s/\\(.\\)\\(.\\)/\\2\\1/"]);
    assert_eq!(result(server.submit("rev", "ab")), "ba");
    let _builtins = server.work(folder.path(), &["crc32", "wc"]);
    assert_eq!(result(server.submit("crc32", "123456789")), "cbf43926");
}

/// The number of the process that runs the job comes first, so that it can be ended with its test.
const SCRIPT: &str = "exec 3>started; echo $$ >&3; read x <gate; cat";

#[test]
fn a_job_of_a_worker_that_is_killed_runs_elsewhere() {
    let (folder, server) = (here(), Daemon::start());
    let started = fifo(folder.path(), "started");
    fifo(folder.path(), "gate");
    let mut worker = server.work(folder.path(), &["f", "--", "sh", "-c", SCRIPT]);
    let clients = ["one", "two", "three"].map(|payload| (payload, server.submit("f", payload)));
    let (line, _running) = read_line(open(&started));
    worker.0.kill().expect("it runs");
    worker.0.wait().expect("it ends");
    let orphan = line.trim().parse().ok().and_then(Pid::from_raw).expect("a process id");
    let _other = server.work(folder.path(), &["f", "--", "cat"]);
    for (payload, client) in clients {
        assert_eq!(result(client), payload);
    }
    // Only what was started for it is left of the first one.
    kill_process(orphan, Signal::KILL).expect("it waits");
}

#[test]
fn a_worker_that_is_stopped_loses_nothing() {
    let (folder, server) = (here(), Daemon::start());
    let first = server.work(folder.path(), &["f", "--", "cat"]);
    let mut clients = (0..40).map(|i| server.submit("f", &i.to_string())).collect::<Vec<Killed>>().into_iter();
    // By then it is there, and heeds signals.
    assert_eq!(result(clients.next().expect("the first")), "0");
    let _second = server.work(folder.path(), &["f", "--", "cat"]);
    // In the middle, as a rule.
    assert_eq!(terminate(first), "");
    for (i, client) in clients.enumerate() {
        assert_eq!(result(client), (1 + i).to_string());
    }
}
