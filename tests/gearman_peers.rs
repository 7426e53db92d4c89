//! The server with the clients and workers that people have: Debian's `gearman` and `gearadmin`, libgearman, Perl, PHP, and
//! Python's `gear`; each client with each worker, and all of them at once. Their scripts are in `tests/peers`.
#![cfg(all(feature = "gearman", feature = "peers"))]

#[path = "common/peer.rs"]
mod peer;

use layshaft::gearman::Server;
use layshaft::gearman::packet::Kind;
use peer::{Peer, server};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// The programming languages of clients and workers.
const KINDS: [&str; 4] = ["perl", "php", "python", "c"];

/// A program that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

fn temporary() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A client or worker of a kind: what starts it. Servers are to follow.
fn program(kind: &str, role: &str) -> Command {
    static BUILT: OnceLock<()> = OnceLock::new();
    let folder = temporary();
    match kind {
        "c" => {
            BUILT.get_or_init(|| {
                for role in ["client", "worker"] {
                    let mut cc = Command::new("cc");
                    cc.args(["-Wall", "-o"]).arg(folder.join(format!("peer-{role}")));
                    succeed(cc.arg(script(&format!("{role}.c"))).arg("-lgearman"));
                }
            });
            Command::new(folder.join(format!("peer-{role}")))
        }
        "python" => {
            let mut command = Command::new("python3");
            command.arg(script(&format!("{role}.py"))).env("PYTHONPATH", gear());
            command
        }
        "perl" => {
            let mut command = Command::new("perl");
            command.arg(script(&format!("{role}.pl")));
            command
        }
        other => {
            let mut command = Command::new(other);
            command.arg(script(&format!("{role}.php")));
            command
        }
    }
}

/// Where Python's `gear` is. If it is nowhere it is installed.
fn gear() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = temporary().join("python");
        if !folder.join("gear/__init__.py").exists() {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
            succeed(pip.arg(&folder).arg("gear==0.16.0"));
        }
        folder
    })
}

fn address(server: &Server) -> String {
    server.addresses()[0].to_string()
}

fn worker(kind: &str, server: &Server) -> Running {
    let mut command = program(kind, "worker");
    command.arg(address(server)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
}

/// So many workers can do a function.
#[track_caller]
fn wait_for_workers(server: &Server, function: &str, workers: usize) {
    let start = Instant::now();
    loop {
        let functions = server.status().functions;
        let found = functions.iter().find(|f| f.name == function.as_bytes()).map_or(0, |f| f.workers);
        if found == workers {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{found} workers can do {function}, and not {workers}");
        std::thread::yield_now();
    }
}

/// Runs a program to its end: what it prints. One that hangs is ended.
#[track_caller]
fn output(command: &mut Command, input: &[u8]) -> String {
    let mut limited = Command::new("timeout");
    limited.arg(PATIENCE.as_secs().to_string()).arg(command.get_program()).args(command.get_args());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let command = &mut limited;
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    // It may not read.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {errors}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn client(kind: &str, address: &str) {
    let told = output(program(kind, "client").arg(address), b"");
    let expected = "reverse cba\nempty \nfail failed\nthrow broken\nupdates 1/2 part careful end\nhigh cba\nlow cba\n\
                    background done\nunique cba cba\nlarge 1048576\n";
    assert_eq!(told, expected, "{kind}");
}

/// Each kind of client, all at once, with workers of one kind.
fn clients_with(kind: &str) {
    let server = server();
    let _workers = [worker(kind, &server), worker(kind, &server)];
    wait_for_workers(&server, "updates", 2);
    std::thread::scope(|scope| {
        for kind in KINDS {
            let server = &server;
            scope.spawn(move || client(kind, &address(server)));
        }
    });
    let status = server.status();
    assert_eq!((status.queued, status.running, status.job_bytes), (0, 0, 0));
}

#[test]
fn clients_with_perl_workers() {
    clients_with("perl");
}

#[test]
fn clients_with_php_workers() {
    clients_with("php");
}

#[test]
fn clients_with_gear_workers() {
    clients_with("python");
}

#[test]
fn clients_with_libgearman_workers() {
    clients_with("c");
}

#[test]
fn several_of_each_at_once() {
    let server = server();
    let _workers: Vec<Running> = KINDS.iter().chain(&KINDS).map(|kind| worker(kind, &server)).collect();
    wait_for_workers(&server, "updates", 8);
    std::thread::scope(|scope| {
        for kind in KINDS.iter().chain(&KINDS) {
            let server = &server;
            scope.spawn(move || client(kind, &address(server)));
        }
    });
    let status = server.status();
    assert_eq!((status.queued, status.running, status.job_bytes), (0, 0, 0));
    println!("{:?}", status.counters);
}

/// A job of which a worker makes several, whose results another function makes into one.
#[test]
fn libgearman_splits_and_joins() {
    let server = server();
    let _workers = [worker("c", &server), worker("perl", &server)];
    wait_for_workers(&server, "reverse", 2);
    wait_for_workers(&server, "split", 1);
    let told = output(program("c", "client").args([&address(&server), "partition"]), b"");
    assert_eq!(told, "partition ihg fed cba\n");
}

/// A Perl worker that dies sends WORK_EXCEPTION, and WORK_FAIL after it: its clients hear of one end.
#[test]
fn a_perl_worker_that_dies() {
    let server = server();
    let _worker = worker("perl", &server);
    let (mut asked, mut other) = (Peer::new(&server), Peer::new(&server));
    asked.send(Kind::OptionReq, &[b"exceptions"]);
    asked.expect(Kind::OptionRes);
    for _ in 0..3 {
        let handle = asked.submit(Kind::SubmitJob, "dies", b"", b"");
        let told = asked.expect(Kind::WorkException);
        assert!(told.args[0] == handle && told.args[1].ends_with(b"broken\n"), "{told:?}");
        let handle = other.submit(Kind::SubmitJob, "dies", b"", b"");
        other.expect_packet(Kind::WorkFail, &[&handle]);
    }
    let handle = asked.submit(Kind::SubmitJob, "reverse", b"", b"abc");
    asked.expect_packet(Kind::WorkComplete, &[&handle, b"cba"]);
    other.expect_nothing();
    assert_eq!(server.status().counters.errors, 0);
}

/// The older convention: the server starts it, and is its standard input and output.
#[test]
fn gs_15_a_perl_worker_started_by_the_server() {
    let server = server();
    let mut child = server.spawn_worker(program("perl", "worker")).unwrap();
    wait_for_workers(&server, "updates", 1);
    client("perl", &address(&server));
    assert!(Peer::new(&server).rows("workers").iter().any(|row| row.contains(" [gearman_child] ")));
    drop(server);
    child.wait().unwrap();
}

#[test]
fn perl_clients_know_several_servers() {
    let servers = [server(), server()];
    let _workers = [worker("perl", &servers[0]), worker("php", &servers[1])];
    servers.iter().for_each(|server| wait_for_workers(server, "updates", 1));
    let both = format!("{},{}", address(&servers[0]), address(&servers[1]));
    for _ in 0..3 {
        client("perl", &both);
    }
    let gone = server();
    let address_of_gone = address(&gone);
    drop(gone);
    // Of a job with a key it asks no other server than that key's.
    let one_is_gone = format!("{address_of_gone},{}", address(&servers[0]));
    let told = output(program("perl", "client").arg(one_is_gone), b"");
    assert!(told.starts_with("reverse cba\n") && told.ends_with("large 1048576\n"), "{told}");
}

// Debian's `gearman`.

fn gearman(server: &Server, options: &[&str]) -> Command {
    let address = server.addresses()[0];
    let mut command = Command::new("gearman");
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]).args(options);
    command
}

fn gearman_worker(server: &Server, options: &[&str]) -> Running {
    let mut command = gearman(server, options);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

#[test]
fn the_gearman_command() {
    let server = server();
    let _worker = gearman_worker(&server, &["-w", "-f", "wc", "--", "wc", "-c"]);
    wait_for_workers(&server, "wc", 1);
    let wc = |options: &[&str], input: &[u8]| output(&mut gearman(&server, &[&["-f", "wc"], options].concat()), input);
    assert_eq!(wc(&[], b"12345").trim(), "5");
    assert_eq!(wc(&[], b"").trim(), "0");
    assert_eq!(wc(&[], &vec![0; 300_000]).trim(), "300000");
    assert_eq!(wc(&["-I"], b"123").trim(), "3");
    assert_eq!(wc(&["-L"], b"1234").trim(), "4");
    assert_eq!(wc(&["-u", "key"], b"12").trim(), "2");
    assert_eq!(wc(&["-s"], b"").trim(), "0");
    assert_eq!(wc(&["argument"], b"").trim(), "8");
    assert_eq!(wc(&["-P"], b"12").trim(), "wc: 2");
    let lines = wc(&["-n"], b"one\nthree\n");
    assert_eq!(lines.split_whitespace().collect::<Vec<_>>(), ["4", "6"]);
    let lines = wc(&["-N"], b"one\nthree\n");
    assert_eq!(lines.split_whitespace().collect::<Vec<_>>(), ["3", "5"]);
    wc(&["-b"], b"later");
    wait_for_end(&server);
    assert_eq!(server.status().functions[0].failed, 0);
}

fn wait_for_end(server: &Server) {
    let start = Instant::now();
    while !server.jobs().is_empty() {
        assert!(start.elapsed() < PATIENCE, "{:?}", server.jobs());
        std::thread::yield_now();
    }
}

/// The most urgent first, whatever came first.
#[test]
fn the_gearman_command_has_priorities() {
    let server = server();
    for (option, word) in [("-L", "low"), ("-I", "high")] {
        output(&mut gearman(&server, &["-b", option, "-f", "say", word]), b"");
    }
    output(&mut gearman(&server, &["-b", "-f", "say", "normal"]), b"");
    let said = output(&mut gearman(&server, &["-w", "-c", "3", "-f", "say", "--", "tee", "/dev/stderr"]), b"");
    assert_eq!(said, "");
    let mut raw = Peer::new(&server);
    assert_eq!(raw.status("say"), Some([0, 0, 0]));
    for (option, word) in [("-L", "low"), ("-I", "high")] {
        output(&mut gearman(&server, &["-b", option, "-f", "say", word]), b"");
    }
    raw.send(Kind::CanDo, &[b"say"]);
    assert_eq!([raw.grab().1, raw.grab().1], [b"high".to_vec(), b"low".to_vec()]);
}

/// A worker that sends its output by lines sends data.
#[test]
fn the_gearman_command_sends_lines() {
    let server = server();
    let _worker = gearman_worker(&server, &["-w", "-n", "-f", "sort", "--", "sort"]);
    wait_for_workers(&server, "sort", 1);
    let mut client = Peer::new(&server);
    client.submit(Kind::SubmitJob, "sort", b"", b"b\na\n");
    assert_eq!(client.expect(Kind::WorkData).args[1], b"a\n");
    // It repeats the lines before.
    assert!(client.expect(Kind::WorkData).args[1].ends_with(b"b\n"));
    client.expect(Kind::WorkComplete);
}

// Debian's `gearadmin`.

fn gearadmin(server: &Server, options: &[&str]) -> Command {
    let address = server.addresses()[0];
    let mut command = Command::new("gearadmin");
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]).args(options);
    command
}

#[test]
fn the_gearadmin_command() {
    let server = server();
    let ask = |options: &[&str]| output(&mut gearadmin(&server, options), b"");
    assert!(ask(&["--server-version"]).contains(env!("CARGO_PKG_VERSION")));
    assert!(ask(&["--getpid"]).contains(&std::process::id().to_string()));
    assert!(ask(&["--server-verbose"]).contains("INFO"));
    ask(&["--create-function", "f"]);
    assert!(ask(&["--status"]).contains("f\t0\t0\t0"));
    let mut client = Peer::new(&server);
    let handle = String::from_utf8(client.submit(Kind::SubmitJobHigh, "f", b"key", b"")).unwrap();
    assert!(ask(&["--priority-status"]).contains("f\t1\t0\t0\t0"));
    assert!(ask(&["--show-jobs"]).contains(&handle));
    assert!(ask(&["--show-unique-jobs"]).contains("key"));
    assert!(ask(&["--workers"]).contains("127.0.0.1 - :"));
    ask(&["--cancel-job", &handle]);
    client.expect_packet(Kind::WorkFail, &[handle.as_bytes()]);
    assert!(!ask(&["--show-jobs"]).contains("H:"));
    ask(&["--drop-function", "f"]);
    assert!(!ask(&["--status"]).contains("f\t"));
}
