//! `layshaft serve`: its flags, its file, and what it does by them.

mod common;
#[path = "../../tests/common/peer.rs"]
mod peer;
#[path = "common/serving.rs"]
mod serving;

use common::{layshaft, map, run, text, write};
use layshaft::gearman::packet::Kind;
use peer::Peer;
use rustix::process::Signal;
use serving::{Manager, Serving, listening, serve};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use tempfile::{TempDir, tempdir};

fn here() -> TempDir {
    tempdir().expect("a folder")
}

/// What is said by one that does not start.
#[track_caller]
fn refused(folder: &Path, args: &[&str]) -> String {
    let mut command = layshaft(folder, ["serve"]);
    command.args(args);
    let output = run(command);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    text(&output.stderr)
}

/// Sockets that a process listens on.
fn listening_sockets(pid: u32) -> usize {
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let listens = |inode: &str| {
        let lines = tables.iter().flat_map(|table| table.lines());
        lines.map(|line| line.split_whitespace().collect()).any(|fields: Vec<&str>| {
            fields.get(3) == Some(&"0A") && fields.get(9).is_some_and(|found| format!("socket:[{found}]") == inode)
        })
    };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    files.filter(|file| fs::read_link(file.path()).is_ok_and(|link| link.to_str().is_some_and(listens))).count()
}

fn background(peer: &mut Peer, function: &str) -> Vec<u8> {
    peer.submit(Kind::SubmitJobBg, function, b"", b"x")
}

/// How many jobs a queue takes.
fn room(server: &Serving, function: &str) -> usize {
    let mut peer = server.peer();
    let is_taken = |peer: &mut Peer| {
        peer.send(Kind::SubmitJobBg, &[function.as_bytes(), b"", b"x"]);
        peer.next().expect("an answer").kind == Kind::JobCreated
    };
    (0..20).take_while(|_| is_taken(&mut peer)).count()
}

#[test]
fn gs_01_there_is_one_socket_an_address_and_none_without() {
    let folder = here();
    let server = serve(folder.path(), &[]);
    assert_eq!(listening_sockets(server.child.0.id()), 1);
    server.terminate();
    write(folder.path(), "none.toml", "[server]\nlisten = []\n");
    let manager = Manager::new(folder.path());
    let mut command = layshaft(folder.path(), ["serve", "--config", "none.toml"]);
    manager.hears(folder.path(), &mut command);
    let child = common::start(command);
    assert_eq!(manager.next(), "READY=1");
    assert_eq!(listening_sockets(child.0.id()), 0);
}

#[test]
fn gs_02_what_is_wrong_with_a_file_is_told_with_its_place() {
    let folder = here();
    write(folder.path(), "bad.toml", "# ours\n[server]\nthreads = 2\nlisen = [\"127.0.0.1:0\"]\n");
    let want = "layshaft: bad.toml:4:1: unknown key \"lisen\"; did you mean \"listen\"?\n  |\n4 | lisen = [\"127.0.0.1:0\"]\n  | ^^^^^\n";
    assert_eq!(refused(folder.path(), &["--config", "bad.toml"]), want);
    let output = run(layshaft(folder.path(), ["config", "check", "bad.toml"]));
    assert_eq!((text(&output.stderr), output.status.code()), (want.to_owned(), Some(2)));

    write(folder.path(), "good.toml", "[server]\nthreads = 2\n[function.\"*\"]\nmax_queue = 1\n");
    let output = run(layshaft(folder.path(), ["config", "check", "good.toml"]));
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("good.toml: nothing is wrong\n", Some(0)));
    common::shell(folder.path(), "chmod o+w good.toml");
    assert!(refused(folder.path(), &["--config", "good.toml"]).contains("can be written by anybody"));
    assert!(refused(folder.path(), &["--config", "missing.toml"]).contains("cannot read"));
}

#[test]
fn a_file_is_checked_as_it_is_served() {
    let folder = here();
    write(folder.path(), "no.pem", "nothing");
    for (text, want) in [
        ("listen = [\"0.0.0.0:0\"]", "0.0.0.0:0 can be reached from other machines"),
        ("tls_listen = [\"127.0.0.1:0\"]", "TLS needs a certificate and its key"),
        ("tls_listen = [\"unix:s\"]", "a Unix socket needs no TLS"),
        ("metrics = \"127.0.0.1\"", "--metrics wants an address with a port"),
        ("listen = [\"127.0.0.1:0\"]\nmetrics = \"0.0.0.0:0\"", "0.0.0.0:0 can be reached from other machines"),
        ("tls_listen = [\"127.0.0.1:0\"]\ntls_cert = \"no.pem\"\ntls_key = \"no.pem\"", "no.pem"),
        ("tls_listen = [\"127.0.0.1:0\"]\ntls_cert = \"none\"\ntls_key = \"none\"", "none"),
        ("listen = [\"host.invalid:1\"]", "cannot listen on host.invalid: "),
    ] {
        write(folder.path(), "f.toml", format!("[server]\n{text}\n"));
        let output = run(layshaft(folder.path(), ["config", "check", "f.toml"]));
        let errors = common::text(&output.stderr);
        assert!(errors.contains(want), "{text}: {errors}");
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert_eq!(refused(folder.path(), &["--config", "f.toml"]), errors, "{text}");
    }
    // An address in use is right in the file all the same.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    write(folder.path(), "f.toml", format!("[server]\nlisten = [\"{}\"]\n", taken.local_addr().expect("bound")));
    let output = run(layshaft(folder.path(), ["config", "check", "f.toml"]));
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(0)));
}

#[test]
fn the_file_in_the_readme_is_right() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).expect("it is there");
    let block = readme.split("```toml\n[server]").nth(1).and_then(|rest| rest.split("```").next()).expect("a file");
    let folder = here();
    write(folder.path(), "f.toml", format!("[server]{block}"));
    let output = run(layshaft(folder.path(), ["config", "check", "f.toml"]));
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(0)));
}

#[test]
fn a_flag_goes_before_the_environment_that_before_the_file() {
    let folder = here();
    write(
        folder.path(),
        "f.toml",
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[function.\"*\"]\nmax_queue = 1\n[function.own]\nmax_queue = 4\n",
    );
    let with = |flags: &[&str], env: &[(&str, &str)]| {
        let mut command = layshaft(folder.path(), ["serve", "--config", "f.toml"]);
        command.args(flags).envs(env.iter().copied());
        let server = listening(command);
        let rooms = ["f", "own"].map(|function| room(&server, function));
        server.terminate();
        rooms
    };
    let env = [("LAYSHAFT_SERVE_MAX_QUEUE", "2")];
    assert_eq!(with(&[], &[]), [1, 4]);
    assert_eq!(with(&[], &env), [2, 4]);
    assert_eq!(with(&["--max-queue", "3"], &env), [3, 4], "a function's own setting is its own");
}

#[test]
fn gs_19_a_connection_is_a_line_at_debug_and_none_at_warn() {
    let folder = here();
    let mut server = serve(folder.path(), &["--log-level", "debug"]);
    let mut peer = server.peer();
    peer.settle();
    let line = server.line();
    assert!(line.ends_with(&format!("DEBUG connected peer=\"{}\"", peer.local_address())), "{line}");
    let rest = server.terminate();
    assert!(!rest.contains("DEBUG"), "{rest}");

    let manager = Manager::new(folder.path());
    let mut command = layshaft(folder.path(), ["serve", "--listen", "unix:s", "--verbose", "WARNING"]);
    manager.hears(folder.path(), &mut command);
    let mut child = common::start(command);
    assert_eq!(manager.next(), "READY=1");
    Peer::over_unix(UnixStream::connect(folder.path().join("s")).expect("it listens")).settle();
    serving::send(child.0.id(), Signal::TERM);
    assert_eq!(common::read_to_end(child.0.stderr.take().expect("piped")), "");
    assert_eq!(common::exit_code(&mut child), Some(0));
    assert!(!folder.path().join("s").exists(), "its socket is removed");
}

/// Flags of both ancestors, and ours.
const FLAGS: &str = "--port -p, --listen -L, --accept --wakeup --wakeup-delay --daemonize --daemon -d, --pidfile --pid-file -P, \
    --notify-pid --notifypid -n, --version -V, --help --job-retries -j, --threads -t, --busy-poll --worker-wakeup -w, --log-file -l, --verbose \
    --backlog -b, --file-descriptors -f, --user -u, --round-robin -R, --config --function --compat --admin-listen --insecure \
    --metrics --wake-order --handle-host --allow-shutdown --drain --max-packet --max-job-bytes --max-connections \
    --max-output --max-total-output --max-unique --max-line --max-functions --max-abilities \
    --max-connections-per-peer --silence --unix-mode --message-deadline --write-stall --log-level --log-format --max-queue --overflow --run-timeout \
    --on-timeout --on-worker-lost --on-abandon --high-order";

#[test]
fn gs_63_help_lists_every_flag() {
    let output = run(layshaft(Path::new("."), ["serve", "--help"]));
    let help = text(&output.stdout);
    for flag in FLAGS.split_whitespace() {
        let is_listed =
            help.split([' ', '\n', '[', ']', '=']).any(|word| word.trim_end_matches(',') == flag.trim_end_matches(','));
        assert!(is_listed, "{flag} is not in the help");
    }
    assert_eq!(output.status.code(), Some(0));
}

/// How many of three sleeping workers a job wakes.
fn woken(args: &[&str]) -> usize {
    let folder = here();
    let server = serve(folder.path(), args);
    let mut workers: Vec<Peer> = (0..3).map(|_| server.peer()).collect();
    for worker in &mut workers {
        worker.send(Kind::CanDo, &[b"f"]);
        worker.send(Kind::PreSleep, &[]);
        worker.settle();
    }
    background(&mut server.peer(), "f");
    workers.iter_mut().map(|worker| worker.sync().len()).sum()
}

#[test]
fn gs_63_wakeup_is_how_many_are_woken() {
    let counts: [(&[&str], usize); 7] = [
        (&[], 1),
        (&["--wakeup", "0"], 0),
        (&["--wakeup", "2"], 2),
        (&["--wakeup", "-1"], 3),
        (&["-w", "0"], 3),
        (&["-w", "2"], 2),
        (&["--compat", "gearmand"], 3),
    ];
    for (args, count) in counts {
        assert_eq!(woken(args), count, "{args:?}");
    }
    assert!(refused(Path::new("."), &["-w", "1", "--wakeup", "2"]).contains("cannot be used with"));
}

#[test]
fn gs_63_wakeup_delay_is_when_more_are_woken() {
    let folder = here();
    let server = serve(folder.path(), &["--wakeup", "1", "--wakeup-delay", "10ms"]);
    let mut workers: Vec<Peer> = (0..2).map(|_| server.peer()).collect();
    for worker in &mut workers {
        worker.send(Kind::CanDo, &[b"f"]);
        worker.send(Kind::PreSleep, &[]);
        worker.settle();
    }
    background(&mut server.peer(), "f");
    workers.iter_mut().for_each(|worker| _ = worker.expect(Kind::Noop));
    server.terminate();
}

#[test]
fn gs_63_port_and_listen_are_where_it_listens() {
    let folder = here();
    // A port that was free just now.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let (number, address) = (port.to_string(), format!("127.0.0.1:{port}"));
    for args in [&["-p", &number][..], &["--port", &number, "-L", "127.0.0.1"], &["--listen", &address]] {
        let server = listening(layshaft(folder.path(), [&["serve"], args].concat()));
        assert_eq!(server.address, address.parse::<SocketAddr>().unwrap(), "{args:?}");
        server.peer().settle();
        server.terminate();
    }
}

/// So many answers are more than one turn gives, with a row that is long.
const QUESTIONS: usize = 6000;

/// The process is stopped while a crowd comes: then it takes a batch of them, and who was there before has its turn.
#[test]
fn gs_63_accept_is_how_many_are_taken_at_once() {
    let folder = here();
    for batch in [1, 7] {
        let server = serve(folder.path(), &["--accept", &batch.to_string(), "--threads", "1"]);
        let mut busy = server.peer();
        busy.send(Kind::SetClientId, &["busy".repeat(50).as_bytes()]);
        busy.settle();
        server.stop();
        let crowd: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(server.address).expect("a place")).collect();
        busy.write("workers\n".repeat(QUESTIONS).as_bytes());
        server.signal(Signal::CONT);
        let rows: Vec<usize> = (0..QUESTIONS).map(|_| busy.table().len()).collect();
        let most = rows.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert_eq!(most, Some(batch), "connections that came between two answers");
        drop(crowd);
        server.terminate();
    }
}

#[test]
fn gs_63_limits_and_names_are_as_they_are_set() {
    let folder = here();
    let args = [
        "--max-packet",
        "1KiB",
        "--max-connections-per-peer",
        "3",
        "--handle-host",
        "box",
        "-j",
        "1",
        "--max-job-bytes",
        "600",
    ];
    let server = serve(folder.path(), &args);
    let mut peer = server.peer();
    assert!(background(&mut peer, "f").starts_with(b"H:box:"));
    peer.send(Kind::SubmitJobBg, &[b"f", b"", &[b'x'; 900]]);
    assert!(peer.expect_error("queue_full").contains("of 600"));
    let mut worker = server.peer();
    worker.send(Kind::CanDo, &[b"f"]);
    worker.grab();
    let mut third = server.peer();
    third.settle();
    server.peer().expect_error("too_many_connections");
    drop(worker);
    third.wait_for_status("f", [0, 0, 0]);
    peer.send(Kind::EchoReq, &[&[b'x'; 2000]]);
    peer.expect(Kind::Error);
    let rest = server.terminate();
    assert!(rest.contains("WARN turned away") && rest.contains("WARN worker lost"), "{rest}");
}

#[test]
fn gs_63_limits_of_names_and_answers_are_as_they_are_set() {
    let folder = here();
    let args = ["--max-output", "64KiB", "--max-total-output", "96KiB", "--max-unique", "4", "--max-line", "20"];
    let server = serve(folder.path(), &[&args[..], &["--max-functions", "2", "--max-abilities", "1"]].concat());
    let mut peer = server.peer();
    peer.send(Kind::SubmitJobBg, &[b"f", b"12345", b""]);
    assert!(peer.expect_error("invalid_args").contains("4 are the most"));
    peer.send(Kind::CanDo, &[b"f"]);
    peer.send(Kind::CanDo, &[b"g"]);
    assert!(peer.expect_error("server_error").contains("can do 1 functions"));
    peer.submit(Kind::SubmitJobBg, "h", b"", b"");
    peer.send(Kind::SubmitJobBg, &[b"i", b"", b""]);
    assert!(peer.expect_error("server_error").contains("2 functions"));
    // All together have room for one of these answers.
    peer.send(Kind::EchoReq, &[&[b'x'; 100 << 10]]);
    peer.expect_error("output_full");
    peer.expect_end();
    let mut peer = server.peer();
    peer.write(b"a line of more than 20 bytes");
    assert!(peer.line().starts_with("ERR LINE_TOO_LONG"));
    let mut peer = server.peer();
    peer.send(Kind::EchoReq, &[&[b'x'; 90 << 10]]);
    peer.expect(Kind::EchoRes);
    server.terminate();
}

#[test]
fn gs_63_order_and_overflow_are_as_they_are_set() {
    let folder = here();
    let server = serve(folder.path(), &["--high-order", "lifo", "--max-queue", "2", "--overflow", "evict-newest"]);
    let mut peer = server.peer();
    for payload in [b"1", b"2"] {
        peer.submit(Kind::SubmitJobHighBg, "f", b"", payload);
    }
    peer.submit(Kind::SubmitJobBg, "g", b"", b"1");
    let evicted = peer.submit(Kind::SubmitJob, "g", b"", b"2");
    peer.send(Kind::SubmitJobBg, &[b"g", b"", b"3"]);
    let mut got = [peer.next().expect("an answer"), peer.next().expect("an answer")];
    got.sort_by_key(|got| got.kind != Kind::WorkFail);
    assert_eq!(got[0].args[0], evicted);
    let mut worker = server.peer();
    worker.send(Kind::CanDo, &[b"f"]);
    for payload in [b"2", b"1"] {
        let (job, got) = worker.grab();
        assert_eq!(got, payload);
        worker.complete(&job, b"");
    }
    worker.settle();
    server.terminate();
}

#[test]
fn gs_66_an_unknown_flag_is_refused_and_the_version_told() {
    assert!(refused(Path::new("."), &["--no-such-flag"]).contains("--no-such-flag"));
    for flag in ["--version", "-V"] {
        let output = run(layshaft(Path::new("."), ["serve", flag]));
        assert!(text(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn other_machines_are_kept_out_unless_asked_for() {
    for args in [["--listen", "0.0.0.0:0"], ["--metrics", "0.0.0.0:0"]] {
        assert!(refused(Path::new("."), &[&args[..], &["--port", "0"]].concat()).contains("--insecure"));
    }
    let folder = here();
    let server = listening(layshaft(folder.path(), ["serve", "--listen", "0.0.0.0:0", "--insecure"]));
    assert!(server.address.ip().is_unspecified());
    server.terminate();
}

#[test]
fn built_in_functions_give_what_map_gives() {
    let folder = here();
    let content = common::noise(300_000);
    write(folder.path(), "file", &content);
    let server = serve(folder.path(), &["--function", "sha256", "--function", "crc32,wc,gzip-size"]);
    let mut peer = server.peer();
    for function in ["sha256", "crc32", "wc", "gzip-size"] {
        let handle = peer.submit(Kind::SubmitJob, function, b"", &content);
        let got = peer.expect(Kind::WorkComplete);
        assert_eq!(got.args[0], handle);
        let printed = text(&map(folder.path(), [function, "file"]));
        let words: Vec<&str> = printed.split_whitespace().filter(|word| *word != "file").collect();
        assert_eq!(got.text(1), words.join(" "));
    }
    server.terminate();
}

#[test]
fn explain_says_why_a_job_does_not_run() {
    let folder = here();
    let server = serve(folder.path(), &[]);
    let mut peer = server.peer();
    let job = text(&background(&mut peer, "two words"));
    let ask = |what: &str| {
        let mut command = layshaft(folder.path(), ["explain", what, "--server", &server.address.to_string()]);
        command.env_remove("GEARMAN_SERVERS");
        run(command)
    };
    for what in ["two words", &job] {
        let output = ask(what);
        let told = text(&output.stdout);
        assert!(told.contains("no worker has registered \"two words\""), "{told}{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(0));
    }
    assert_eq!(ask("nothing").status.code(), Some(5));
    server.terminate();
}

#[test]
fn functions_have_settings_of_their_own() {
    let folder = here();
    let file =
        "[function.fails]\non_worker_lost = \"fail\"\n[function.late]\nrun_timeout = \"20ms\"\non_timeout = \"fail\"\n";
    write(folder.path(), "f.toml", file);
    let server = serve(folder.path(), &["--config", "f.toml"]);
    let (mut client, mut worker) = (server.peer(), server.peer());
    for function in ["fails", "stays", "late"] {
        client.submit(Kind::SubmitJob, function, b"", b"x");
        worker.send(Kind::CanDo, &[function.as_bytes()]);
        worker.grab();
    }
    // The clock ends this one.
    client.expect(Kind::WorkFail);
    drop(worker);
    client.expect(Kind::WorkFail);
    client.wait_for_status("stays", [1, 0, 0]);
    assert_eq!(client.status("fails"), Some([0, 0, 0]));
    let rest = server.terminate();
    assert!(rest.contains("WARN job timed out"), "{rest}");
}

/// An HTTP answer.
fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn metrics_are_told_over_http() {
    let folder = here();
    let server = serve(folder.path(), &["--metrics", "127.0.0.1:0"]);
    let at = server.said.iter().find_map(|line| line.split_once("http://")).expect("it is said where").1;
    let address = at.strip_suffix("/metrics").expect("a path").to_owned();
    let (mut client, mut worker) = (server.peer(), server.peer());
    client.submit(Kind::SubmitJobHighBg, "a \"b\"\n", b"", b"secret");
    client.submit(Kind::SubmitJob, "f", b"", b"secret");
    worker.send(Kind::CanDo, &[b"f"]);
    let (job, _) = worker.grab();
    worker.complete(&job, b"secret");
    client.expect(Kind::WorkComplete);
    background(&mut client, "f");
    let (job, _) = worker.grab();

    let answer = http(&address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/plain; version=0.0.4"), "{head}");
    for line in [
        "layshaft_queued_jobs{function=\"a\\\\x20\\\\x22b\\\\x22\\\\x0a\",priority=\"high\"} 1",
        "layshaft_running_jobs{function=\"f\"} 1",
        "layshaft_workers{function=\"f\"} 1",
        "layshaft_jobs_done_total{function=\"f\"} 1",
        "layshaft_job_wait_seconds_count{function=\"f\"} 2",
        "layshaft_job_wait_seconds_bucket{function=\"f\",le=\"+Inf\"} 2",
        "layshaft_job_run_seconds_count{function=\"f\"} 1",
        "# TYPE layshaft_job_run_seconds histogram",
        "layshaft_connections 2",
        "layshaft_submits_total 3",
        "layshaft_jobs_evicted_total{function=\"f\"} 0",
        "layshaft_connections_not_allowed_total 0",
        "layshaft_slow_readers_total 0",
        "layshaft_tls_failed_total 0",
        "layshaft_tls_missing_total 0",
    ] {
        assert!(body.lines().any(|found| found == line), "{line} is not in\n{body}");
    }
    assert!(!body.contains("secret"));
    assert!(http(&address, "GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(http(&address, "POST /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 405 "));
    worker.complete(&job, b"");
    worker.settle();
    server.terminate();
}

#[test]
fn names_cannot_forge_lines_of_the_log_nor_payloads_be_read_there() {
    let folder = here();
    for format in ["text", "json"] {
        let server = serve(folder.path(), &["--log-format", format, "--log-level", "trace"]);
        let (mut client, mut worker) = (server.peer(), server.peer());
        let name = "f\n2026-01-01T00:00:00Z ERROR forged\x1b[2J";
        client.submit(Kind::SubmitJobBg, name, b"", b"secret");
        worker.send(Kind::CanDo, &[name.as_bytes()]);
        worker.grab();
        drop(worker);
        client.wait_for_status("f\\x0a2026-01-01T00:00:00Z ERROR forged\\x1b[2J", [1, 0, 0]);
        client.send(Kind::OptionReq, &[b"a\nb"]);
        client.expect(Kind::Error);
        let log = server.terminate();
        assert!(log.contains("f\\x0a2026") || log.contains("f\\\\x0a2026"), "{log}");
        assert!(!log.contains('\x1b') && !log.contains("secret"), "{log}");
        for line in log.lines() {
            let is_ours = match format {
                "json" => serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line["level"].is_string()),
                _ => line.starts_with("20") && !line.contains("Z ERROR "),
            };
            assert!(is_ours, "{line}");
        }
    }
}
