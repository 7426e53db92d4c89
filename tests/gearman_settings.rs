//! Settings of single functions, settings that change while a server runs, and what a program hears of it.
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;

use layshaft::gearman::packet::Kind;
use layshaft::gearman::text::MaxQueue;
use layshaft::gearman::{Answer, Compat, FunctionSettings, OnLoss, Server, ServerEvent};
use layshaft::{Engine, Overflow};
use peer::{Peer, server_with};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

fn takes(peer: &mut Peer, function: &str) -> bool {
    peer.send(Kind::SubmitJobBg, &[function.as_bytes(), b"", b"x"]);
    peer.next().expect("an answer").kind == Kind::JobCreated
}

#[test]
fn a_function_has_settings_of_its_own_and_otherwise_the_servers() {
    let own = FunctionSettings::new().max_queue(2).overflow(Overflow::EvictOldest);
    let free = FunctionSettings::new().max_queue(None);
    let server =
        server_with(|builder| builder.max_queue(1, Overflow::Reject).function("own", own).function(b"free\xff", free));
    let mut peer = Peer::new(&server);
    assert_eq!(["f", "f"].map(|function| takes(&mut peer, function)), [true, false]);
    for payload in [b"1", b"2", b"3"] {
        peer.submit(Kind::SubmitJobBg, "own", b"", payload);
    }
    for _ in 0..10 {
        peer.send(Kind::SubmitJobBg, &[b"free\xff", b"", b"x"]);
        peer.expect(Kind::JobCreated);
    }
    let mut worker = Peer::worker(&server, &["own"]);
    assert_eq!([worker.grab().1, worker.grab().1], [b"2", b"3"], "the oldest made room");
}

#[test]
fn losses_and_timeouts_are_as_the_function_has_them() {
    let fails = FunctionSettings::new().on_worker_lost(OnLoss::Fail);
    let late =
        FunctionSettings::new().run_timeout(Duration::from_millis(10)).on_timeout(OnLoss::Requeue).job_retries(2);
    let server = server_with(|builder| builder.function("fails", fails).function("late", late));
    let mut client = Peer::new(&server);
    for function in ["fails", "stays"] {
        client.submit(Kind::SubmitJob, function, b"", b"x");
    }
    let mut worker = Peer::worker(&server, &["fails", "stays"]);
    worker.grab();
    worker.grab();
    drop(worker);
    client.expect(Kind::WorkFail);
    client.wait_for_status("stays", [1, 0, 0]);
    client.submit(Kind::SubmitJob, "late", b"", b"x");
    let mut worker = Peer::worker(&server, &["late"]);
    for _ in 0..2 {
        worker.send(Kind::PreSleep, &[]);
        worker.expect(Kind::Noop);
        worker.grab();
    }
    client.expect(Kind::WorkFail);
    let status = server.status();
    let late = status.functions.iter().find(|function| function.name == b"late").expect("it is there");
    assert_eq!((late.timed_out, late.requeued, late.failed), (2, 1, 1));
}

#[test]
fn a_running_server_takes_other_settings() {
    let engine = Engine::builder().workers(1).start().unwrap();
    let server =
        Server::builder(&engine).listen("127.0.0.1:0").host("box").max_queue(1, Overflow::Reject).start().unwrap();
    let mut peer = Peer::new(&server);
    assert_eq!(["f", "f"].map(|function| takes(&mut peer, function)), [true, false]);
    server.reconfigure(Server::builder(&engine).max_queue(3, Overflow::Reject).host("other"));
    assert_eq!(["f", "f", "f"].map(|function| takes(&mut peer, function)), [true, true, false]);
    assert!(peer.submit(Kind::SubmitJobBg, "g", b"", b"x").starts_with(b"H:box:"), "names of jobs stay good");

    // What was set by command stays, unless the setting changes.
    server.set_max_queue("f", MaxQueue::All(Some(4))).unwrap();
    server.reconfigure(Server::builder(&engine).max_queue(3, Overflow::EvictNewest));
    assert_eq!(["f", "f"].map(|function| takes(&mut peer, function)), [true, true], "the fifth evicts the fourth");
    assert_eq!(peer.status("f"), Some([4, 0, 0]));
    server.reconfigure(Server::builder(&engine).all_functions(FunctionSettings::new().max_queue(None)));
    for _ in 0..10 {
        assert!(takes(&mut peer, "f"));
    }

    // How many are woken.
    let mut sleepers: Vec<Peer> = (0..3).map(|_| Peer::worker(&server, &["h"])).collect();
    server.reconfigure(Server::builder(&engine).compat(Compat::Gearmand));
    for sleeper in &mut sleepers {
        sleeper.send(Kind::PreSleep, &[]);
        sleeper.settle();
    }
    assert!(takes(&mut peer, "h"));
    sleepers.iter_mut().for_each(|sleeper| _ = sleeper.expect(Kind::Noop));
}

#[test]
fn abandoned_jobs_run_where_that_is_wanted() {
    let runs = FunctionSettings::new().run_abandoned(true);
    let server = server_with(|builder| builder.function("runs", runs));
    let mut client = Peer::new(&server);
    for function in ["runs", "dropped"] {
        client.submit(Kind::SubmitJob, function, b"", b"x");
    }
    client.reset();
    let mut peer = Peer::new(&server);
    peer.wait_for_status("dropped", [0, 0, 0]);
    assert_eq!(peer.status("runs"), Some([1, 0, 0]));
}

#[test]
fn events_are_told_without_a_lock() {
    let (send, events) = mpsc::channel();
    let server = server_with(|builder| {
        let builder = builder.function("f", FunctionSettings::new().run_timeout(Duration::from_millis(10)));
        builder.connections(2).on_event(move |event| _ = send.send(event.clone()))
    });
    let next = || events.recv_timeout(PATIENCE).expect("an event");
    let mut client = Peer::new(&server);
    client.settle();
    let peer = client.local_address();
    assert_eq!(next(), ServerEvent::Connected { peer: peer.clone() });
    client.send(Kind::OptionReq, &[b"x"]);
    let text = client.expect_error("unknown_option");
    assert_eq!(next(), ServerEvent::Error { peer, code: "unknown_option".to_owned(), text });

    let mut worker = Peer::worker(&server, &["f", "g"]);
    worker.settle();
    let peer = worker.local_address();
    assert_eq!(next(), ServerEvent::Connected { peer: peer.clone() });
    let mut third = Peer::new(&server);
    third.expect_error("too_many_connections");
    assert!(matches!(next(), ServerEvent::TurnedAway { peer, .. } if peer == third.local_address()));

    let job = client.submit(Kind::SubmitJobBg, "f", b"", b"x");
    worker.grab();
    assert_eq!(next(), ServerEvent::TimedOut { peer: peer.clone(), function: b"f".to_vec(), job });
    let job = client.submit(Kind::SubmitJobBg, "g", b"", b"x");
    worker.grab();
    drop(worker);
    assert_eq!(next(), ServerEvent::WorkerLost { peer: peer.clone(), function: b"g".to_vec(), job });
    assert_eq!(next(), ServerEvent::Disconnected { peer });

    let mut worker = Peer::worker(&server, &["g"]);
    let (job, _) = worker.grab();
    assert!(matches!(next(), ServerEvent::Connected { .. }));
    server.drain(PATIENCE);
    assert_eq!(next(), ServerEvent::Draining { jobs: 1 });
    server.drain(Duration::ZERO);
    assert_eq!(next(), ServerEvent::CutShort { jobs: 1 });
    assert!(!job.is_empty());
    server.wait();
}

#[test]
fn sockets_that_are_bound_already_are_served() {
    let folder = std::env::temp_dir().join(format!("layshaft-bound-{}", std::process::id()));
    // Of an earlier run.
    let _ = std::fs::remove_file(&folder);
    let unix = UnixListener::bind(&folder).unwrap();
    let [plain, admin] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = [&plain, &admin].map(|socket| socket.local_addr().unwrap());
    let engine = Engine::builder().workers(1).start().unwrap();
    let double = engine.function("double", |bytes: Vec<u8>| bytes.repeat(2)).unwrap();
    let builder = Server::builder(&engine).listener(plain).listener_admin(admin).listener_unix(unix).backlog(5);
    let server = builder.serve(&double, |bytes| Ok(bytes.to_vec()), Answer::Result).start().unwrap();
    assert_eq!(server.addresses(), addresses);
    let peers = addresses.map(Peer::at).into_iter().chain([Peer::over_unix(UnixStream::connect(&folder).unwrap())]);
    for mut peer in peers {
        peer.submit(Kind::SubmitJob, "double", b"", b"ab");
        assert_eq!(peer.expect(Kind::WorkComplete).text(1), "abab");
    }
    drop(server);
    assert!(folder.exists(), "whoever has bound it removes it");
    std::fs::remove_file(&folder).unwrap();
}

#[test]
fn two_functions_of_this_process_have_two_names() {
    let engine = Engine::builder().workers(1).start().unwrap();
    let f = engine.function("f", |bytes: Vec<u8>| bytes).unwrap();
    let mut builder = Server::builder(&engine);
    for _ in 0..2 {
        builder = builder.serve(&f, |bytes| Ok(bytes.to_vec()), Answer::Result);
    }
    assert_eq!(builder.start().unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
}

#[test]
fn times_are_counted_by_function() {
    let server = server_with(|builder| builder);
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    for _ in 0..3 {
        client.submit(Kind::SubmitJob, "f", b"", b"x");
        let (job, _) = worker.grab();
        worker.complete(&job, b"");
        client.expect(Kind::WorkComplete);
    }
    client.submit(Kind::SubmitJobBg, "f", b"", b"x");
    worker.grab();
    let status = server.status();
    let f = &status.functions[0];
    assert_eq!((f.waits.count(), f.runs.count()), (4, 3));
    assert!(f.waits.sum() < PATIENCE && f.runs.sum() < PATIENCE);
    assert_eq!(f.runs.buckets().last(), Some((None, 3)));
}
