//! What a server has promised, and what becomes of it: while it drains, when it has ended, when a job's time comes, and when
//! peers are gone.
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;

use layshaft::gearman::packet::Kind;
use layshaft::gearman::{Answer, FunctionStatus, Server, ServerBuilder, ServerEvent};
use layshaft::{Engine, Limits, Overflow, current};
use peer::{Peer, server, server_with};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that tells of its drain.
fn drainable(set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (Server, Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let server = server_with(|builder| {
        set(builder).on_event(move |event| {
            if matches!(event, ServerEvent::Draining { .. }) {
                tell.send(()).unwrap();
            }
        })
    });
    (server, told)
}

fn drain((server, told): &(Server, Receiver<()>)) {
    server.drain(Duration::MAX);
    told.recv_timeout(PATIENCE).expect("a drain");
}

type Bytes = Vec<u8>;

/// A function of the server's process whose jobs tell of their start, and go on when they are told to: `progress`, and then
/// what was submitted as their result.
fn held_back(engine: &Engine) -> (layshaft::Function<Bytes, Bytes>, Receiver<()>, Sender<()>) {
    let (started, starts) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let goes = std::sync::Mutex::new(goes);
    let function = engine.function("here", move |payload: Vec<u8>| {
        current().unwrap().progress(3, 4);
        started.send(()).unwrap();
        let _ = goes.lock().unwrap().recv_timeout(PATIENCE);
        current().unwrap().data(b"more");
        payload
    });
    (function.unwrap(), starts, go)
}

fn decode(payload: &[u8]) -> Result<Vec<u8>, String> {
    if payload == b"bad" { Err("it is bad".to_owned()) } else { Ok(payload.to_vec()) }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn function(server: &Server, name: &str) -> FunctionStatus {
    server.status().functions.into_iter().find(|function| function.name == name.as_bytes()).expect("it is known")
}

/// Looks until it is so.
#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_drain_takes_no_job_that_it_would_not_run() {
    let draining = drainable(|builder| builder);
    let server = &draining.0;
    let (mut client, mut worker) = (Peer::new(server), Peer::worker(server, &["f"]));
    let running = client.submit(Kind::SubmitJob, "f", b"running", b"");
    let (job, _) = worker.grab();
    client.submit(Kind::SubmitJob, "f", b"queued", b"");
    drain(&draining);
    for (kind, unique) in [(Kind::SubmitJobBg, &b""[..]), (Kind::SubmitJob, b""), (Kind::SubmitJobBg, b"queued")] {
        client.send(kind, &[b"f", unique, b"x"]);
        assert!(client.expect_error("server_error").contains("the server is ending"));
    }
    let at = (seconds() + 2).to_string();
    client.send(Kind::SubmitJobEpoch, &[b"g", b"", at.as_bytes(), b"x"]);
    client.expect_error("server_error");
    // What runs will end, and can be waited for.
    assert_eq!(client.submit(Kind::SubmitJob, "f", b"running", b""), running);
    worker.complete(&job, b"done");
    (0..2).for_each(|_| assert_eq!(client.expect(Kind::WorkComplete).text(1), "done"));
    server.wait();
}

#[test]
fn a_drain_wakes_nobody_for_what_it_does_not_give_out() {
    let draining = drainable(|builder| builder.wakeups(usize::MAX, Duration::ZERO));
    let server = &draining.0;
    let mut client = Peer::new(server);
    let (mut busy, mut idle) = (Peer::worker(server, &["f"]), Peer::worker(server, &["f"]));
    client.submit(Kind::SubmitJob, "f", b"", b"1");
    let (job, _) = busy.grab();
    client.submit(Kind::SubmitJobBg, "f", b"", b"2");
    drain(&draining);
    for _ in 0..2 {
        idle.send(Kind::PreSleep, &[]);
        idle.expect_nothing();
        idle.grab_nothing();
    }
    busy.complete(&job, b"");
    client.expect(Kind::WorkComplete);
    server.wait();
}

/// However steadily somebody submits, the drain ends.
#[test]
fn a_drain_ends_though_jobs_for_this_process_keep_coming() {
    let engine = Engine::builder().workers(1).start().unwrap();
    let (here, starts, go) = held_back(&engine);
    let draining = drainable(|builder| builder.serve(&here, decode, Answer::Result));
    let server = &draining.0;
    let mut client = Peer::new(server);
    let at = (seconds() + 2).to_string();
    client.send(Kind::SubmitJobEpoch, &[b"here", b"", at.as_bytes(), b"2"]);
    client.expect(Kind::JobCreated);
    client.submit(Kind::SubmitJob, "here", b"", b"1");
    starts.recv_timeout(PATIENCE).unwrap();
    client.expect(Kind::WorkStatus);
    drain(&draining);
    client.send(Kind::SubmitJob, &[b"here", b"", b"3"]);
    client.expect_error("server_error");
    wait_until("due", || seconds().to_string() > at);
    go.send(()).unwrap();
    client.expect(Kind::WorkData);
    assert_eq!(client.expect(Kind::WorkComplete).text(1), "1");
    server.wait();
    assert!(starts.try_recv().is_err(), "what came due meanwhile was not started");
}

/// A client has the word of the server: limits that are reached meanwhile change nothing.
#[test]
fn a_job_for_later_has_its_place_when_its_time_comes() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    assert_eq!(client.ask("maxqueue f 1"), "OK");
    let at = (seconds() + 2).to_string();
    client.send(Kind::SubmitJobEpoch, &[b"f", b"", at.as_bytes(), b"later"]);
    client.expect(Kind::JobCreated);
    client.submit(Kind::SubmitJobBg, "f", b"", b"now");
    wait_until("queued", || function(&server, "f").held == 0);
    assert_eq!(function(&server, "f").queued.total(), 2);
    client.send(Kind::SubmitJobBg, &[b"f", b"", b"no room"]);
    client.expect_error("queue_full");
    assert_eq!([worker.grab().1, worker.grab().1], [b"now".to_vec(), b"later".to_vec()]);
}

#[test]
fn a_job_for_later_of_this_process_is_read_at_once_and_has_its_place() {
    let engine = Engine::builder().workers(1).start().unwrap();
    let (here, starts, go) = held_back(&engine);
    let server = server_with(|builder| builder.serve(&here, decode, Answer::Result));
    let mut client = Peer::new(&server);
    assert_eq!(client.ask("maxqueue here 1"), "OK");
    let at = (seconds() + 2).to_string();
    client.send(Kind::SubmitJobEpoch, &[b"here", b"", at.as_bytes(), b"bad"]);
    assert!(client.expect_error("invalid_args").contains("it is bad"));
    client.send(Kind::SubmitJobEpoch, &[b"here", b"", at.as_bytes(), b"later"]);
    client.expect(Kind::JobCreated);
    client.submit(Kind::SubmitJobBg, "here", b"", b"runs");
    starts.recv_timeout(PATIENCE).unwrap();
    client.submit(Kind::SubmitJobBg, "here", b"", b"queued");
    wait_until("started", || function(&server, "here").held == 0);
    (0..3).for_each(|_| go.send(()).unwrap());
    (0..2).for_each(|_| starts.recv_timeout(PATIENCE).unwrap());
    wait_until("all done", || function(&server, "here").done == 3);
}

#[test]
fn what_a_background_job_of_this_process_tells_is_kept() {
    let engine = Engine::builder().workers(1).start().unwrap();
    let (here, starts, go) = held_back(&engine);
    let server = server_with(|builder| builder.serve(&here, decode, Answer::Result));
    let mut client = Peer::new(&server);
    let handle = client.submit(Kind::SubmitJobBg, "here", b"key", b"x");
    starts.recv_timeout(PATIENCE).unwrap();
    // What was told before this is dealt with after it, at the latest.
    client.sync();
    client.send(Kind::GetStatus, &[&handle]);
    client.expect_packet(Kind::StatusRes, &[&handle, b"1", b"1", b"3", b"4"]);
    // Who joins it hears the rest.
    assert_eq!(client.submit(Kind::SubmitJob, "here", b"key", b"x"), handle);
    go.send(()).unwrap();
    client.expect_packet(Kind::WorkData, &[&handle, b"more"]);
    client.expect_packet(Kind::WorkComplete, &[&handle, b"x"]);
}

#[test]
fn the_next_server_on_an_engine_has_the_functions_of_the_last_one() {
    let engine = Engine::builder().workers(1).start().unwrap();
    let start = || Server::builder(&engine).listen("127.0.0.1:0").start().unwrap();
    let first = start();
    let mut client = Peer::new(&first);
    client.submit(Kind::SubmitJobBg, "f", b"", b"queued");
    client.submit(Kind::SubmitJobBg, "paused", b"", b"queued");
    assert_eq!(client.ask("pause paused"), "OK");
    first.end();
    first.wait();
    assert_eq!(first.status().queued, 2, "what was left");
    assert!(first.pause("g").is_err(), "it makes no functions any more");

    let second = start();
    // It has ended already: what is there now is the second one's.
    drop(first);
    let (mut client, mut worker) = (Peer::new(&second), Peer::worker(&second, &["f", "paused"]));
    worker.sync();
    for name in ["f", "paused"] {
        client.submit(Kind::SubmitJobBg, name, b"", b"new");
        assert_eq!(worker.grab().1, b"new");
    }
    worker.grab_nothing();
    drop(second);
    assert!(engine.function_stats().is_empty());
}

/// Its client is gone, and then its worker.
#[test]
fn a_lost_job_that_nobody_waits_for_runs_again_if_that_is_the_setting() {
    for runs in [true, false] {
        let server = server_with(|builder| builder.run_abandoned(runs));
        let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
        client.submit(Kind::SubmitJob, "f", b"", b"x");
        worker.grab();
        client.reset();
        wait_until("gone", || server.clients().len() == 1);
        drop(worker);
        wait_until("gone, too", || server.clients().is_empty());
        assert_eq!(server.status().queued, usize::from(runs));
        let mut other = Peer::worker(&server, &["f"]);
        if runs {
            assert_eq!(other.grab().1, b"x");
        } else {
            other.grab_nothing();
        }
    }
}

/// Their timers go, too, and not only when their time comes.
#[test]
fn cancelled_jobs_for_later_leave_nothing() {
    let server = server();
    let mut client = Peer::new(&server);
    let at = (seconds() + 100_000).to_string();
    for _ in 0..5000 {
        client.send(Kind::SubmitJobEpoch, &[b"f", b"", at.as_bytes(), b"x"]);
        let handle = client.expect(Kind::JobCreated).args.remove(0);
        assert!(server.cancel_job(&handle));
    }
    let rows = client.rows("gladiator all");
    let timers = rows.iter().find_map(|row| row.trim().strip_suffix(" timers")).map(|count| count.trim().parse());
    assert!(matches!(timers, Some(Ok(0..3000))), "{rows:?}");
}

/// A submit that would wait for room is refused: others wait for the server's thread.
#[test]
fn a_function_that_makes_its_callers_wait_holds_nobody_up() {
    let engine = Engine::builder().workers(1).start().unwrap();
    let (here, starts, go) = held_back(&engine);
    here.set_limits(Limits::new().capacity(1).overflow(Overflow::Block));
    let server = Server::builder(&engine).listen("127.0.0.1:0").serve(&here, decode, Answer::Result).start().unwrap();
    let mut client = Peer::new(&server);
    client.submit(Kind::SubmitJob, "here", b"", b"running");
    starts.recv_timeout(PATIENCE).unwrap();
    for payload in [&b"queued"[..], b"too many"] {
        client.send(Kind::SubmitJob, &[b"here", b"", payload]);
    }
    // What the running job tells may come in between.
    while client.next().unwrap().kind != Kind::Error {}
    (0..2).for_each(|_| go.send(()).unwrap());
    let mut done = 0;
    while done < 2 {
        done += usize::from(client.next().unwrap().kind == Kind::WorkComplete);
    }
}
