//! `layshaft serve` as a process: signals, the background, files that it leaves, and who else is told of it.

mod common;
#[path = "../../tests/common/peer.rs"]
mod peer;
#[path = "common/serving.rs"]
mod serving;

use common::{layshaft, run, text, within, write};
use layshaft::gearman::packet::Kind;
use peer::Peer;
use rustix::process::Signal;
use serving::{Manager, Stranger, listening, send, serve};
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::Signals;
use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::{TempDir, tempdir};

fn here() -> TempDir {
    tempdir().expect("a folder")
}

/// A job in a worker's hands, for which a client waits: client, worker, job.
fn in_hand(client: Peer, worker: Peer) -> (Peer, Peer, Vec<u8>) {
    let (mut client, mut worker) = (client, worker);
    client.submit(Kind::SubmitJob, "f", b"", b"x");
    worker.send(Kind::CanDo, &[b"f"]);
    let (job, _) = worker.grab();
    (client, worker, job)
}

#[test]
fn gs_62_a_graceful_shutdown_lets_the_running_job_end() {
    let folder = here();
    let mut server = serve(folder.path(), &["--allow-shutdown"]);
    let (mut client, mut worker, job) = in_hand(server.peer(), server.peer());
    client.submit(Kind::SubmitJobBg, "f", b"", b"not given out");
    assert_eq!(server.peer().ask("shutdown graceful"), "OK");
    server.line_with("no more jobs are given out");
    assert!(server.is_refused(), "the listener closes at once");
    worker.grab_nothing();
    worker.complete(&job, b"done");
    assert_eq!(client.expect(Kind::WorkComplete).text(1), "done");
    assert_eq!(server.end().1, Some(0));
}

#[test]
fn gs_62_shutdown_ends_at_once_where_it_is_allowed() {
    let folder = here();
    let server = serve(folder.path(), &[]);
    assert!(server.peer().ask("shutdown").starts_with("ERR NOT_ALLOWED"));
    server.terminate();
    let server = serve(folder.path(), &["--allow-shutdown"]);
    let (mut client, _worker, _) = in_hand(server.peer(), server.peer());
    assert_eq!(server.peer().ask("shutdown"), "OK");
    client.expect_end();
    assert_eq!(server.end().1, Some(0));
}

#[test]
fn term_lets_jobs_in_hand_end_and_twice_does_not() {
    let folder = here();
    for signal in [Signal::TERM, Signal::INT, Signal::USR1] {
        let mut server = serve(folder.path(), &[]);
        let (mut client, mut worker, job) = in_hand(server.peer(), server.peer());
        server.signal(signal);
        server.line_with("no more jobs are given out");
        worker.complete(&job, b"done");
        client.expect(Kind::WorkComplete);
        assert_eq!(server.end().1, Some(0), "{signal:?}");

        let mut server = serve(folder.path(), &[]);
        let (mut client, _worker, _) = in_hand(server.peer(), server.peer());
        server.signal(signal);
        server.line_with("no more jobs are given out");
        server.signal(Signal::TERM);
        client.expect_end();
        assert_eq!(server.end().1, Some(143));
    }
}

#[test]
fn a_drain_has_a_deadline() {
    let folder = here();
    let server = serve(folder.path(), &["--drain", "10ms"]);
    let (mut client, _worker, _) = in_hand(server.peer(), server.peer());
    server.signal(Signal::TERM);
    client.expect_end();
    let (log, code) = server.end();
    assert!(log.contains("WARN the time for jobs in hand is over jobs=1"), "{log}");
    assert_eq!(code, Some(1));
}

/// Each job that a worker got has ended for its client; of the others it is told by the end of the connection.
#[test]
fn a_drain_under_load_loses_no_job_that_was_given_out() {
    const JOBS: usize = 2000;
    let folder = here();
    let server = serve(folder.path(), &["--threads", "2", "--function", "crc32"]);
    let (mut client, mut worker) = (server.peer(), server.peer());
    worker.send(Kind::CanDo, &[b"f"]);
    let (half, wait) = std::sync::mpsc::channel();
    let working = std::thread::spawn(move || {
        let mut done = 0;
        loop {
            worker.send(Kind::GrabJob, &[]);
            match worker.next() {
                Some(got) if got.kind == Kind::JobAssign => {
                    done += 1;
                    worker.complete(&got.args[0], b"done");
                    if done == JOBS / 4 {
                        half.send(()).expect("somebody waits");
                    }
                }
                Some(_) => {}
                None => return done,
            }
        }
    });
    let mut more = client.duplicate();
    let submitting = std::thread::spawn(move || {
        for i in 0..JOBS {
            let function: &[u8] = if i % 4 == 0 { b"crc32" } else { b"f" };
            more.send(Kind::SubmitJob, &[function, b"", b"x"]);
        }
    });
    wait.recv_timeout(common::PATIENCE).expect("jobs are done");
    submitting.join().expect("all were sent");
    server.signal(Signal::TERM);
    let mut ended = 0;
    while let Some(got) = client.next() {
        assert!(matches!(got.kind, Kind::JobCreated | Kind::WorkComplete | Kind::Error), "{got:?}");
        let is_remote = got.kind == Kind::WorkComplete && got.args[1] == b"done";
        ended += usize::from(is_remote);
    }
    assert_eq!(server.end().1, Some(0));
    assert_eq!(working.join().expect("a count"), ended);
}

#[test]
fn gs_64_the_background_tells_what_is_wrong_before_it_is_one() {
    let folder = here();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let next = std::net::SocketAddr::new(address.ip(), address.port().wrapping_add(1));
    for flags in [&["-d"][..], &["--daemonize"], &[]] {
        let mut command = layshaft(folder.path(), ["serve", "--pidfile", "p", "--listen", &address.to_string()]);
        command.args(flags);
        let output = run(command);
        let errors = text(&output.stderr);
        assert!(errors.starts_with(&format!("layshaft: cannot listen on {address}: address in use (")), "{errors}");
        let end = format!(", pid {}). Stop it, or pass --listen {next}\n", std::process::id());
        assert!(errors.ends_with(&end), "{errors}");
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(!folder.path().join("p").exists());
    }
}

#[test]
fn gs_64_the_background_has_no_terminal_and_another_folder() {
    let folder = here();
    let args = ["serve", "--daemon", "--pidfile", "p", "--listen", "unix:s", "--log-file", "log"];
    let output = run(layshaft(folder.path(), args));
    assert_eq!((text(&output.stderr).as_str(), text(&output.stdout).as_str()), ("", ""));
    assert_eq!(output.status.code(), Some(0));
    let server = Stranger::of(&folder.path().join("p"));
    let mut peer = Peer::over_unix(UnixStream::connect(folder.path().join("s")).expect("it listens"));
    assert_eq!(peer.ask("getpid"), format!("OK {}", server.pid));
    let look = |what: &str| fs::read_link(format!("/proc/{}/{what}", server.pid)).expect("it runs");
    assert_eq!(look("cwd"), Path::new("/"));
    for file in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(look(file), Path::new("/dev/null"), "{file}");
    }
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid)).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    assert_eq!((fields[3], fields[4]), (server.pid.to_string().as_str(), "0"), "a session of its own, and no terminal");
    server.terminate();
    peer.expect_end();
    assert!(!folder.path().join("p").exists() && !folder.path().join("s").exists());
    let log = fs::read_to_string(folder.path().join("log")).expect("a log");
    assert!(log.trim_end().ends_with("ended"), "{log}");
}

#[test]
fn gs_65_a_pidfile_is_one_servers_and_goes_with_it() {
    let folder = here();
    let path = folder.path().join("p");
    // Of one that is gone.
    write(folder.path(), "p", "1\n");
    let server = serve(folder.path(), &["--pid-file", "p"]);
    let pid = server.child.0.id();
    assert_eq!(fs::read_to_string(&path).expect("a pidfile"), format!("{pid}\n"));
    let output = run(layshaft(folder.path(), ["serve", "-P", "p", "--listen", "127.0.0.1:0"]));
    let errors = text(&output.stderr);
    assert!(errors.contains(&format!("is locked: another server, pid {pid}, runs with it")), "{errors}");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_to_string(&path).expect("a pidfile"), format!("{pid}\n"), "it is as it was");
    server.terminate();
    assert!(!path.exists());
    // Of one that was killed.
    let server = serve(folder.path(), &["-P", "p"]);
    drop(server);
    assert!(path.exists());
    serve(folder.path(), &["-P", "p"]).terminate();
    assert!(!path.exists());
}

/// One test: signals are this whole process's.
#[test]
fn gs_67_the_ready_signal_comes_after_the_bind() {
    let folder = here();
    let mut signals = Signals::new([SIGUSR1]).expect("signals");
    let me = std::process::id().to_string();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address").to_string();
    let output = run(layshaft(folder.path(), ["serve", "-n", &me, "--listen", &address]));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(signals.pending().count(), 0, "nothing is ready");
    for flag in ["-n", "--notifypid", "--notify-pid"] {
        let child = common::start(layshaft(folder.path(), ["serve", flag, &me, "--listen", "unix:s"]));
        let caught = signals.handle();
        signals = within("the signal", move || {
            assert_eq!(signals.forever().next(), Some(SIGUSR1));
            signals
        });
        assert!(!caught.is_closed());
        let mut peer = Peer::over_unix(UnixStream::connect(folder.path().join("s")).expect("it listens"));
        peer.settle();
        send(child.0.id(), Signal::TERM);
        peer.expect_end();
    }
}

#[test]
fn a_service_manager_is_told_and_its_sockets_are_used() {
    let folder = here();
    let manager = Manager::new(folder.path());
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("an address");
    let path = folder.path().join("given");
    let unix = UnixListener::bind(&path).expect("a socket");
    let script = "exec 3<&0 4>&1 >&2; LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" serve";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_layshaft")]).stderr(Stdio::null());
    command.stdin(OwnedFd::from(tcp)).stdout(OwnedFd::from(unix));
    manager.hears(folder.path(), &mut command);
    let mut child = common::Killed(command.spawn().expect("a shell"));
    assert_eq!(manager.next(), "READY=1");
    Peer::at(address).settle();
    let mut peer = Peer::over_unix(UnixStream::connect(&path).expect("it listens"));
    peer.settle();
    // The command's own pid, and no socket besides.
    assert_eq!(peer.ask("getpid"), format!("OK {}", child.0.id()));
    send(child.0.id(), Signal::HUP);
    assert!(manager.next().starts_with("RELOADING=1"));
    assert_eq!(manager.next(), "READY=1");
    send(child.0.id(), Signal::TERM);
    assert_eq!(manager.next(), "STOPPING=1");
    assert_eq!(common::exit_code(&mut child), Some(0));
    assert!(path.exists(), "whoever has bound it removes it");
}

#[test]
fn hup_reads_the_file_again_and_opens_the_log_again() {
    let folder = here();
    let path = |name: &str| folder.path().join(name);
    let file = |most: usize, level: &str| {
        let text = format!("[server]\nlog_file = \"log\"\nlog_level = \"{level}\"\n[function.f]\nmax_queue = {most}\n");
        write(folder.path(), "f.toml", text);
    };
    file(1, "info");
    let manager = Manager::new(folder.path());
    let mut command = layshaft(folder.path(), ["serve", "--config", "f.toml", "--listen", "unix:s"]);
    manager.hears(folder.path(), &mut command);
    let mut child = common::start(command);
    assert_eq!(manager.next(), "READY=1");
    let reload = |child: &common::Killed| {
        send(child.0.id(), Signal::HUP);
        assert!(manager.next().starts_with("RELOADING=1"));
        assert_eq!(manager.next(), "READY=1");
    };
    let mut peer = Peer::over_unix(UnixStream::connect(path("s")).expect("it listens"));
    let mut takes = |want: bool| {
        peer.send(Kind::SubmitJobBg, &[b"f", b"", b"x"]);
        peer.expect(if want { Kind::JobCreated } else { Kind::Error });
    };
    takes(true);
    takes(false);
    file(2, "debug");
    fs::rename(path("log"), path("log.1")).expect("a log");
    reload(&child);
    takes(true);
    takes(false);
    let log = fs::read_to_string(path("log")).expect("a new log");
    assert!(log.contains("as in their files"), "{log}");

    // What is broken changes nothing, and is told.
    write(folder.path(), "f.toml", "[function.f]\nmax_queue = 10\nmax_que = 3\n");
    reload(&child);
    takes(false);
    let log = fs::read_to_string(path("log")).expect("a log");
    assert!(log.contains("ERROR nothing is changed: ") && log.contains("f.toml:3:1: unknown key \"max_que\""), "{log}");
    Peer::over_unix(UnixStream::connect(path("s")).expect("it listens")).settle();
    let log = fs::read_to_string(path("log")).expect("a log");
    assert!(log.contains("DEBUG connected"), "{log}");

    // Some things are for the next start.
    write(
        folder.path(),
        "f.toml",
        "[server]\nlog_file = \"log\"\nthreads = 3\nbusy_poll = 0\n[function.f]\nmax_queue = 3\n",
    );
    reload(&child);
    takes(true);
    let log = fs::read_to_string(path("log")).expect("a log");
    for name in ["threads", "busy_poll"] {
        assert!(log.contains(&format!("WARN {name} has changed, which takes effect at the next start")), "{log}");
    }
    send(child.0.id(), Signal::TERM);
    assert_eq!(common::exit_code(&mut child), Some(0));
}

#[test]
fn hup_does_not_let_everybody_in() {
    let folder = here();
    let file = |guard: &str, most: usize| {
        let text = format!("[server]\nlisten = [\"0.0.0.0:0\"]\n{guard}\n[function.f]\nmax_queue = {most}\n");
        write(folder.path(), "f.toml", text);
    };
    file("allow = [\"127.0.0.0/8\"]", 1);
    let mut server = listening(layshaft(folder.path(), ["serve", "--config", "f.toml"]));
    let mut peer = Peer::at((std::net::Ipv4Addr::LOCALHOST, server.address.port()).into());
    let mut takes = |want: bool| {
        peer.send(Kind::SubmitJobBg, &[b"f", b"", b"x"]);
        peer.expect(if want { Kind::JobCreated } else { Kind::Error });
    };
    takes(true);
    // Without a list anybody may come, which nobody asked for.
    file("", 2);
    server.signal(Signal::HUP);
    let line = server.line_with("nothing is changed: ");
    assert!(line.contains(&format!("{} can be reached from other machines", server.address)), "{line}");
    takes(false);
    file("insecure = true", 2);
    server.signal(Signal::HUP);
    server.line_with("as in their files");
    takes(true);
    server.terminate();
}

#[test]
fn another_user_is_become_or_refused() {
    let folder = here();
    let output = run(layshaft(folder.path(), ["serve", "--user", "no such user", "--listen", "127.0.0.1:0"]));
    assert!(text(&output.stderr).contains("there is no user \"no such user\""));
    assert_eq!(output.status.code(), Some(2));
    if !rustix::process::geteuid().is_root() {
        let output = run(layshaft(folder.path(), ["serve", "-u", "root", "--listen", "127.0.0.1:0"]));
        assert!(text(&output.stderr).contains("only root can become"));
        return;
    }
    // Others cannot go where the command is built: it is found by its open file.
    let server = listening(layshaft(Path::new("/"), ["serve", "-u", "nobody", "--listen", "127.0.0.1:0", "-f", "500"]));
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.0.id())).expect("it runs");
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).expect("a line").to_owned();
    assert!(!line("Uid:").contains("\t0") && !line("Gid:").contains("\t0"), "{status}");
    assert_eq!(line("Groups:").trim_end(), "Groups:");
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.child.0.id())).expect("it runs");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    assert_eq!(files.split_whitespace().nth(3), Some("500"));
    server.terminate();
}
