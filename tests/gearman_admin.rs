//! Text commands, and the same by call: tables, changes, who may change what, and counts that are exact at all times.
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;

use layshaft::Engine;
use layshaft::gearman::packet::Kind;
use layshaft::gearman::text::MaxQueue;
use layshaft::gearman::{Answer, ChangeError, Compat, JobState, Server};
use peer::{Peer, server, server_with};
use std::time::{Duration, Instant};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn wait_for_clients(server: &Server, n: usize) {
    let start = Instant::now();
    while server.clients().len() != n {
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", server.clients());
        std::thread::yield_now();
    }
}

#[test]
fn gs_13_connections_are_known() {
    let server = server();
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::new(&server)).collect();
    peers.iter_mut().for_each(Peer::expect_nothing);
    peers[1].send(Kind::SetClientId, &[b"second"]);
    peers[1].send(Kind::CanDo, &[b"f"]);
    peers[1].send(Kind::PreSleep, &[]);
    peers[1].settle();
    let clients = server.clients();
    assert_eq!(clients.len(), 3);
    let second = clients.iter().find(|client| client.id == b"second").unwrap();
    assert_eq!((&second.peer, &second.functions), (&peers[1].local_address(), &vec![b"f".to_vec()]));
    assert!(second.is_sleeping && second.number > 2 && second.in_hand.is_empty() && second.listening.is_empty());
    drop(peers.remove(1));
    wait_for_clients(&server, 2);
    assert!(server.clients().iter().all(|client| client.id == b"-" && client.functions.is_empty()));
    assert_eq!(server.status().connections, 2);
    assert_eq!(server.status().counters.connections, 3);
}

#[test]
fn gs_16_jobs_are_counted_not_functions() {
    let server = server();
    let mut client = Peer::new(&server);
    for (function, jobs) in [("f", 2), ("g", 3)] {
        for _ in 0..jobs {
            client.submit(Kind::SubmitJobBg, function, b"", b"x");
        }
    }
    let status = server.status();
    assert_eq!((status.queued, status.running, status.functions.len()), (5, 0, 2));
    assert!(status.job_bytes >= 5 && status.counters.submits == 5);
    let mut worker = Peer::worker(&server, &["g"]);
    let (handle, _) = worker.grab();
    let status = server.status();
    assert_eq!((status.queued, status.running), (4, 1));
    let g = &status.functions[1];
    assert_eq!((&g.name[..], g.queued.normal, g.queued.total(), g.running, g.workers), (&b"g"[..], 2, 2, 1, 1));
    worker.complete(&handle, b"");
    worker.expect_nothing();
    let g = server.status().functions[1].clone();
    assert_eq!((g.done, g.failed, g.running), (1, 0, 0));
}

#[test]
fn gs_17_jobs_by_handle() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let handle = client.submit(Kind::SubmitJobHigh, "f", b"key", b"four");
    let later = client.submit(Kind::SubmitJobLowBg, "f", b"-", b"");
    let job = server.job(&handle).unwrap();
    assert_eq!((&job.handle, &job.function[..], &job.unique[..]), (&handle, &b"f"[..], &b"key"[..]));
    assert_eq!((job.payload, job.listeners, job.is_background, job.hand_outs), (4, 1, false, 0));
    assert_eq!(job.state, JobState::Queued);
    assert_eq!(server.jobs().len(), 2);
    let listens: Vec<Vec<u8>> = server.clients().into_iter().flat_map(|client| client.listening).collect();
    assert_eq!(listens, std::slice::from_ref(&handle));
    worker.grab();
    assert_eq!(server.job(&handle).unwrap().state, JobState::Running(worker.local_address()));
    worker.complete(&handle, b"");
    worker.expect_nothing();
    assert_eq!(server.job(&handle), None);
    let job = server.job(&later).unwrap();
    assert_eq!((&job.unique[..], job.is_background, job.listeners), (&b"-"[..], true, 0));
    assert!(server.cancel_job(&later) && !server.cancel_job(&later));
    assert!(server.jobs().is_empty() && server.job(b"H:test:0").is_none());
}

#[test]
fn functions_are_changed_by_call() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    worker.expect_nothing();
    server.pause("f").unwrap();
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    worker.grab_nothing();
    worker.send(Kind::PreSleep, &[]);
    worker.expect_nothing();
    server.resume("f").unwrap();
    worker.expect(Kind::Noop);
    worker.grab();
    assert_eq!(server.remove_function("f"), Err(ChangeError::InUse));
    worker.complete(&handle, b"");
    client.expect(Kind::WorkComplete);
    assert_eq!(server.remove_function("f"), Err(ChangeError::InUse));
    worker.send(Kind::CantDo, &[b"f"]);
    worker.expect_nothing();
    assert_eq!(server.remove_function("f"), Ok(()));
    assert_eq!(server.remove_function("f"), Err(ChangeError::Unknown(b"f".to_vec())));

    server.set_max_queue("f", MaxQueue::All(Some(1))).unwrap();
    let kept = client.submit(Kind::SubmitJob, "f", b"", b"");
    client.send(Kind::SubmitJob, &[b"f", b"", b""]);
    client.expect_error("queue_full");
    assert_eq!(server.status().functions[0].max_queue, MaxQueue::All(Some(1)));
    // What is queued fails with its function, paused or not.
    server.pause("f").unwrap();
    server.remove_function("f").unwrap();
    client.expect_packet(Kind::WorkFail, &[&kept]);
    client.expect_nothing();
    assert!(server.status().functions.is_empty() && server.jobs().is_empty());
    client.submit(Kind::SubmitJob, "f", b"", b"");
    assert!(matches!(server.pause("a\0b"), Err(ChangeError::Refused(_))));
}

#[test]
fn gs_47_what_a_worker_calls_itself() {
    let server = server();
    let mut peer = Peer::new(&server);
    for (id, shown) in [(&b"my id with\tspaces\n"[..], "myidwithspaces"), (b" ", "-"), (b"a\x1b\\b", "a\\x1b\\\\b")] {
        peer.send(Kind::SetClientId, &[id]);
        let row = peer.rows("workers").remove(0);
        assert_eq!(row.split(' ').collect::<Vec<_>>()[1..], ["127.0.0.1", shown, ":"]);
    }
}

#[test]
fn gs_54_workers() {
    for (compat, ends) in [(Compat::Gearmand, " -"), (Compat::Perl, " - : ")] {
        let server = server_with(|builder| builder.compat(compat));
        let mut admin = Peer::new(&server);
        let mut workers = [Peer::worker(&server, &["b", "a"]), Peer::worker(&server, &["with space", "a"])];
        workers.iter_mut().for_each(Peer::expect_nothing);
        let rows = admin.rows("workers");
        assert_eq!(rows.len(), 3);
        let numbers: Vec<i32> = rows.iter().map(|row| row.split(' ').next().unwrap().parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{rows:?}");
        assert!(rows.iter().any(|row| row.ends_with(" 127.0.0.1 - : a b")), "{rows:?}");
        assert!(rows.iter().any(|row| row.ends_with(" 127.0.0.1 - : a with\\x20space")), "{rows:?}");
        assert!(rows[0].trim_end_matches(" :").ends_with(ends), "{rows:?}");
    }
}

#[test]
fn gs_55_status() {
    let server = server();
    let mut client = Peer::new(&server);
    let mut worker = Peer::worker(&server, &["only-worker", "f"]);
    worker.expect_nothing();
    for kind in [Kind::SubmitJobBg, Kind::SubmitJobHighBg, Kind::SubmitJobLowBg, Kind::SubmitJobLowBg] {
        client.submit(kind, "f", b"", b"");
    }
    client.submit(Kind::SubmitJobBg, "only-jobs", b"", b"");
    worker.grab();
    assert_eq!(client.rows("status"), ["f\t4\t1\t1", "only-jobs\t1\t0\t0", "only-worker\t0\t0\t1"]);
    assert_eq!(client.rows("prioritystatus"), ["f\t0\t1\t2\t1", "only-jobs\t0\t1\t0\t0", "only-worker\t0\t0\t0\t1"]);
    drop(worker);
    client.wait_for_status("f", [4, 0, 0]);
    assert_eq!(client.rows("prioritystatus")[0], "f\t1\t1\t2\t0");
}

#[test]
fn gs_56_gs_57_jobs_and_clients() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    client.submit(Kind::SubmitJob, "f", b"key", b"");
    client.submit(Kind::SubmitJob, "f", b"key", b"");
    worker.grab();
    client.submit(Kind::SubmitJob, "g", b"", b"");
    client.submit(Kind::SubmitJobBg, "h", b"-", b"x");
    let (here, there) = (client.local_address(), worker.local_address());
    let mut jobs = client.rows("jobs");
    jobs.sort();
    assert_eq!(jobs, [format!("f\tkey\t{there}\t2"), "g\t\t-\t1".to_owned(), "h\t-\t-\t0".to_owned()]);
    let clients = client.rows("clients");
    let at = clients.iter().position(|row| *row == here).unwrap();
    let mut listens = clients[at + 1..at + 3].to_vec();
    listens.sort();
    assert_eq!(listens, [format!("\tf\tkey\t{there}"), "\tg\t\t-".to_owned()]);
    assert!(clients.contains(&there) && clients.len() == 4, "{clients:?}");
    let shown = client.rows("show jobs");
    assert_eq!(shown.len(), 3);
    assert!(shown.iter().any(|row| row.ends_with("\t1\t0\t0")) && shown.iter().any(|row| row.ends_with("\t0\t0\t1")));
    let mut keys = client.rows("show unique jobs");
    keys.sort();
    assert_eq!(keys, ["-", "key"]);
}

#[test]
fn gs_58_maxqueue() {
    for (compat, ok, missing) in [
        (Compat::Gearmand, "OK\r\n", "ERR INCOMPLETE_ARGS An+incomplete+set+of+arguments+was+sent+to+this+command"),
        (Compat::Perl, "OK\n", "ERR incomplete_args An+incomplete+set+of+arguments+was+sent+to+this+command\r\n"),
    ] {
        let server = server_with(|builder| builder.compat(compat));
        let mut admin = Peer::new(&server);
        for (line, most) in [
            ("maxqueue f 3", MaxQueue::All(Some(3))),
            ("maxqueue f", MaxQueue::All(None)),
            ("maxqueue f 1 2 0", MaxQueue::Each([Some(1), Some(2), None])),
            ("maxqueue f -1", MaxQueue::All(None)),
            ("MAXQUEUE f 0", MaxQueue::All(None)),
        ] {
            admin.write(format!("{line}\n").as_bytes());
            assert_eq!(admin.raw_line(), ok);
            assert_eq!(server.status().functions[0].max_queue, most, "{line}");
        }
        admin.write(b"maxqueue\n");
        let told = admin.raw_line();
        assert!(told.starts_with(missing), "{told}");
        for wrong in ["maxqueue f x", "maxqueue f 1 2"] {
            assert!(admin.ask(wrong).to_uppercase().starts_with("ERR UNKNOWN_ARGS"), "{wrong}");
        }
    }
}

#[test]
fn gs_59_version_and_other_single_lines() {
    let (server, perl) = (server(), server_with(|builder| builder.compat(Compat::Perl)));
    let mut admin = Peer::new(&server);
    assert_eq!(admin.ask("version"), format!("OK {VERSION}"));
    assert_eq!(admin.ask("getpid"), format!("OK {}", std::process::id()));
    assert_eq!(admin.ask("verbose"), "OK INFO");
    assert_eq!(Peer::new(&perl).ask("version"), format!("v{VERSION}"));
}

#[test]
fn gs_60_gladiator() {
    let server = server();
    let mut admin = Peer::new(&server);
    let all = admin.rows("gladiator all");
    for i in 0..3 {
        admin.submit(Kind::SubmitJobBg, "f", format!("{i}").as_bytes(), b"");
    }
    let some = admin.rows("gladiator");
    assert!(some.len() < all.len(), "{some:?}");
    let count = |rows: &[String], what: &str| -> Option<usize> {
        rows.iter().find_map(|row| row.strip_suffix(what)?.trim().parse().ok())
    };
    assert_eq!(
        (count(&all, " jobs"), count(&some, " jobs"), count(&some, " unique keys")),
        (Some(0), Some(3), Some(3))
    );
    assert_eq!((count(&all, " connections"), count(&some, " connections")), (Some(1), None));
    assert!(count(&some, " KiB of the process in memory").unwrap() > 1000);
    assert!(some.is_sorted_by_key(|row| row.trim().split(' ').next().unwrap().parse::<usize>().unwrap()));
}

#[test]
fn gs_61_unknown_lines() {
    let (server, perl) = (server(), server_with(|builder| builder.compat(Compat::Perl)));
    let (mut peer, mut of_perl) = (Peer::new(&server), Peer::new(&perl));
    for line in ["", " ", "foo", "show", "show unique", "cancel f", "create", "drop x", "statuses"] {
        assert!(peer.ask(line).starts_with("ERR UNKNOWN_COMMAND Unknown+server+command"), "{line}");
        of_perl.write(format!("{line}\n").as_bytes());
        assert_eq!(of_perl.raw_line(), "ERR unknown_command Unknown+server+command\r\n");
    }
    assert!(of_perl.ask("shutdown now").starts_with("ERR unknown_args "));
    for line in ["cancel job", "create function", "drop function", "pause", "resume", "explain"] {
        assert!(peer.ask(line).starts_with("ERR INCOMPLETE_ARGS "), "{line}");
    }
    peer.expect_nothing();
}

#[test]
fn gs_62_shutdown() {
    let server = server();
    let mut admin = Peer::new(&server);
    assert!(admin.ask("shutdown").starts_with("ERR NOT_ALLOWED "));
    admin.expect_nothing();

    let server = server_with(|builder| builder.allow_shutdown(true));
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    let left = client.submit(Kind::SubmitJob, "f", b"", b"");
    worker.grab();
    assert_eq!(client.ask("shutdown graceful"), "OK");
    // Another turn, and it does not listen any more.
    client.expect_nothing();
    let refused = std::net::TcpStream::connect(server.addresses()[0]).map(Peer::over).map(|mut peer| peer.next());
    assert!(!matches!(refused, Ok(Some(_))), "{refused:?}");
    worker.grab_nothing();
    worker.complete(&handle, b"done");
    client.expect_packet(Kind::WorkComplete, &[&handle, b"done"]);
    let _ = left;
    server.wait();
    client.expect_end();

    let server = server_with(|builder| builder.allow_shutdown(true));
    let mut admin = Peer::new(&server);
    assert_eq!(admin.ask("SHUTDOWN"), "OK");
    admin.expect_end();
    server.wait();
}

#[test]
fn create_and_drop() {
    let server = server();
    let mut admin = Peer::new(&server);
    assert_eq!(admin.ask("create function f"), "OK");
    assert_eq!(admin.ask("create function f"), "OK");
    assert_eq!(admin.rows("status"), ["f\t0\t0\t0"]);
    let mut worker = Peer::worker(&server, &["f"]);
    worker.expect_nothing();
    assert_eq!(
        admin.ask("drop function f"),
        "ERR FUNCTION_IN_USE there+are+still+connected+workers+or+executing+clients"
    );
    worker.send(Kind::ResetAbilities, &[]);
    worker.expect_nothing();
    let handle = admin.submit(Kind::SubmitJob, "f", b"k", b"");
    assert_eq!(admin.ask("pause f"), "OK");
    admin.write(b"drop function f\n");
    admin.expect_packet(Kind::WorkFail, &[&handle]);
    assert_eq!(admin.line(), "OK");
    assert!(admin.rows("status").is_empty());
    assert!(admin.ask("drop function f").starts_with("ERR UNKNOWN_FUNCTION "));
    assert!(admin.ask("cancel job H:test:1").starts_with("ERR UNKNOWN_JOB "));
}

/// No name breaks a table or a line; it can be given as it is shown.
#[test]
fn escaped_names() {
    let server = server();
    let mut admin = Peer::new(&server);
    let names: [&[u8]; 8] = [
        b"a b",
        b"tab\tnew\nline",
        b".",
        b"back\\slash\\x41",
        b"\xff\xfe",
        "\u{e9}".as_bytes(),
        b"\x1b[2J",
        &[b'n'; 512],
    ];
    for name in names {
        admin.send(Kind::SubmitJobBg, &[name, b"key\n.\n", b""]);
        admin.expect(Kind::JobCreated);
    }
    let status = admin.rows("status");
    assert_eq!(status.len(), names.len(), "{status:?}");
    assert!(status.iter().all(|row| row.split('\t').count() == 4 && !row.contains('\x1b')));
    assert!(status.contains(&"tab\\x09new\\x0aline\t1\t0\t0".to_owned()));
    assert!(status.contains(&"back\\\\slash\\\\x41\t1\t0\t0".to_owned()));
    assert!(admin.rows("jobs").iter().all(|row| row.contains("\tkey\\x0a.\\x0a\t")));
    for shown in ["a\\x20b", "tab\\x09new\\x0aline", ".", "back\\\\slash\\\\x41", "\\xff\\xfe", "\u{e9}", "\\x1b[2J"] {
        assert_eq!(admin.ask(&format!("drop function {shown}")), "OK");
    }
    assert_eq!(admin.rows("status").len(), 1);
}

/// Names that the engine spells alike are two functions all the same.
#[test]
fn names_that_look_alike() {
    let server = server();
    let mut client = Peer::new(&server);
    for name in [&b"\xff"[..], b"\\xff", b"\\\\xff"] {
        client.send(Kind::SubmitJobBg, &[name, b"", b""]);
        client.expect(Kind::JobCreated);
    }
    assert_eq!(client.rows("status").len(), 3);
    client.send(Kind::SubmitJobBg, &[&[0xff; 512], b"", b""]);
    client.expect(Kind::JobCreated);
}

#[test]
fn who_may_change_things() {
    let Some(outside) = own_address() else { return println!("no address but the loopback's") };
    let engine = Engine::builder().workers(1).start().unwrap();
    let builder = Server::builder(&engine).listen(format!("{outside}:0")).listen_admin(format!("{outside}:0"));
    let server = builder.allow_shutdown(true).insecure(true).start().unwrap();
    let mut plain = Peer::at(server.addresses()[0]);
    let handle = String::from_utf8(plain.submit(Kind::SubmitJobBg, "f", b"", b"")).unwrap();
    let changes = ["maxqueue f 3", "drop function f", "create function g", "pause f", "resume f", "shutdown"];
    for line in changes.map(str::to_owned).into_iter().chain([format!("cancel job {handle}")]) {
        assert!(plain.ask(&line).starts_with("ERR NOT_ALLOWED "), "{line}");
    }
    assert_eq!(plain.rows("status"), ["f\t1\t0\t0"]);
    for line in ["workers", "clients", "jobs", "prioritystatus", "show jobs", "gladiator"] {
        plain.rows(line);
    }
    let mut admin = Peer::at(server.addresses()[1]);
    assert_eq!(admin.ask(&format!("cancel job {handle}")), "OK");
    assert_eq!(admin.ask("drop function f"), "OK");
    assert_eq!(admin.ask("shutdown"), "OK");
    server.wait();
}

/// An address of this machine that others could reach. Nothing is sent to find it.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    Some(ip).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn explanations() {
    let engine = Engine::builder().workers(1).start().unwrap();
    let server = Server::builder(&engine).listen("127.0.0.1:0").start().unwrap();
    let here = engine.function("here", |bytes: Vec<u8>| bytes).unwrap();
    server.serve(&here, |bytes| Ok(bytes.to_vec()), Answer::Result).unwrap();
    let mut client = Peer::new(&server);
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    let handle = String::from_utf8(handle).unwrap();
    assert!(client.rows("explain f").join("\n").contains("no worker has registered \"f\"; registered: here"));
    assert!(client.rows(&format!("explain {handle}"))[0].ends_with("(f) is queued"));
    assert!(client.ask("explain g").starts_with("ERR UNKNOWN_JOB "));
    assert_eq!(client.status("here"), Some([0, 0, 1]));
}
