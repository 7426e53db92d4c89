//! Deadlines of connections, ends of peers and of the server: who is told what, and who is closed when.
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;

use layshaft::Engine;
use layshaft::gearman::packet::{Kind, Magic, encode};
use layshaft::gearman::{Answer, FunctionSettings, Server};
use peer::{Peer, server, server_with};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(300);

/// A worker whose jobs are over after a tenth of a second: a clock that is the server's own.
struct Clock(Peer);

impl Clock {
    fn new(server: &Server) -> Clock {
        let mut peer = Peer::new(server);
        peer.send(Kind::CanDoTimeout, &[b"clock", b"100"]);
        Clock(peer)
    }

    fn tick(&mut self) {
        self.0.submit(Kind::SubmitJob, "clock", b"", b"");
        self.0.grab();
        self.0.expect(Kind::WorkFail);
    }
}

#[test]
fn gs_07_a_sleeper_is_woken_for_the_job_of_a_worker_that_is_too_slow() {
    let server = server_with(|builder| builder.deadlines(SHORT, LONG));
    let (mut client, mut slow) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    slow.grab();
    let mut sleeper = Peer::worker(&server, &["f"]);
    sleeper.send(Kind::PreSleep, &[]);
    sleeper.settle();
    slow.write(b"\0REQ\0\0\0\x0d");
    sleeper.expect(Kind::Noop);
    assert_eq!(sleeper.grab().0, handle);
}

/// The server's thread is held while a worker goes for which it has something: that is found out when it is sent.
#[test]
fn gs_07_a_sleeper_is_woken_for_the_job_of_a_worker_that_cannot_be_told() {
    let engine = Engine::builder().workers(1).start().unwrap();
    let server = Server::builder(&engine).listen("127.0.0.1:0").start().unwrap();
    let (entered, enter) = mpsc::channel();
    let (leave, left) = mpsc::channel::<()>();
    let (entered, left) = (std::sync::Mutex::new(entered), std::sync::Mutex::new(left));
    let hold = engine.function("hold", |(): ()| ()).unwrap();
    let held = move |_: &[u8]| {
        entered.lock().unwrap().send(()).unwrap();
        left.lock().unwrap().recv().unwrap();
        Err("no".to_owned())
    };
    server.serve(&hold, held, |()| Answer::Failure).unwrap();

    let (mut client, mut lost) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    lost.grab();
    let mut sleeper = Peer::worker(&server, &["f"]);
    sleeper.send(Kind::PreSleep, &[]);
    sleeper.settle();
    lost.send(Kind::SubmitJob, &[b"hold", b"", b""]);
    enter.recv().unwrap();
    lost.reset();
    leave.send(()).unwrap();
    sleeper.expect(Kind::Noop);
    assert_eq!(sleeper.grab().0, handle);
}

/// More than fits on the way.
const RESULT: usize = 40 << 20;

#[test]
fn a_drain_ends_when_all_is_sent() {
    for threads in [1, 2] {
        let server = server_with(|builder| builder.threads(threads));
        let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
        client.submit(Kind::SubmitJob, "f", b"", b"");
        let (handle, _) = worker.grab();
        server.drain(LONG);
        worker.complete(&handle, &vec![7; RESULT]);
        assert_eq!(client.expect(Kind::WorkComplete).args[1].len(), RESULT);
        client.expect_end();
        worker.expect_end();
        server.wait();
    }
}

#[test]
fn a_drain_does_not_wait_for_ever_for_who_reads_nothing() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    client.submit(Kind::SubmitJob, "f", b"", b"");
    let (handle, _) = worker.grab();
    let start = Instant::now();
    server.drain(Duration::from_secs(1));
    worker.complete(&handle, &vec![7; RESULT]);
    server.wait();
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_large_message_that_goes_on_is_not_late() {
    let server = server_with(|builder| builder.deadlines(SHORT, LONG));
    let mut clock = Clock::new(&server);
    let mut packet = Vec::new();
    encode(&mut packet, Magic::Request, Kind::EchoReq, &[&vec![7; 3 << 20]]);
    let mut peer = Peer::new(&server);
    for part in packet.chunks(packet.len() / 25) {
        peer.write(part);
        clock.tick();
    }
    assert_eq!(peer.expect(Kind::EchoRes).args[0].len(), 3 << 20);
}

#[test]
fn gs_51_a_large_message_that_trickles_is_late() {
    let server = server_with(|builder| builder.deadlines(SHORT, LONG));
    let mut clock = Clock::new(&server);
    let mut peer = Peer::new(&server);
    peer.write(b"\0REQ\0\0\0\x10\0\x10\0\0");
    let mut writer = peer.duplicate();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                writer.write(b"x");
                clock.tick();
            }
        });
        let told = peer.expect_error("too_slow");
        is_over.store(true, Ordering::SeqCst);
        assert_eq!(told, "this message takes too long");
    });
    peer.expect_end();
    assert_eq!(server.status().counters.slow_senders, 1);
}

#[test]
fn a_connection_that_never_says_anything_is_closed() {
    let server = server_with(|builder| builder.silence(SHORT));
    let mut local = Peer::over_unix(server.connect_local().unwrap());
    let mut known = Peer::new(&server);
    known.expect_nothing();
    let mut silent = Peer::new(&server);
    assert_eq!(silent.expect_error("too_slow"), "nothing has come from here for too long");
    silent.expect_end();
    known.expect_nothing();
    local.expect_nothing();
    let counters = server.status().counters;
    assert_eq!((counters.slow_senders, counters.slow_readers), (1, 0));

    let patient = server_with(|builder| builder.silence(None));
    let (mut silent, mut clock) = (Peer::new(&patient), Clock::new(&patient));
    (0..15).for_each(|_| clock.tick());
    silent.expect_nothing();
}

/// It is not known whether it is there; if it is, it hears.
#[test]
fn gs_53_a_half_closed_client_hears_that_its_queued_job_does_not_run() {
    let server = server();
    let mut client = Peer::new(&server);
    let first = client.submit(Kind::SubmitJob, "f", b"key", b"");
    assert_eq!(client.submit(Kind::SubmitJob, "f", b"key", b""), first);
    let background = client.submit(Kind::SubmitJobBg, "f", b"", b"");
    client.half_close();
    client.expect_packet(Kind::WorkFail, &[&first]);
    client.expect_packet(Kind::WorkFail, &[&first]);
    client.expect_end();
    let mut worker = Peer::worker(&server, &["f"]);
    assert_eq!(worker.grab().0, background);
    worker.grab_nothing();
}

/// Of a Unix socket the kernel tells whether its peer is there.
#[test]
fn gs_53_a_half_closed_client_on_this_machine_hears_of_its_queued_job() {
    let server = server();
    let mut client = Peer::over_unix(server.connect_local().unwrap());
    let mut gone = Peer::over_unix(server.connect_local().unwrap());
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"mine");
    gone.submit(Kind::SubmitJob, "f", b"", b"nobody's");
    client.half_close();
    let mut worker = Peer::worker(&server, &["f"]);
    worker.wait_for_status("f", [2, 0, 1]);
    drop(gone);
    worker.wait_for_status("f", [1, 0, 1]);
    assert_eq!(worker.grab(), (handle.clone(), b"mine".to_vec()));
    worker.complete(&handle, b"done");
    client.expect_packet(Kind::WorkComplete, &[&handle, b"done"]);
    client.expect_end();
    worker.grab_nothing();
}

#[test]
fn panics_of_the_embedder_harm_one_job() {
    let engine = Engine::builder().workers(1).start().unwrap();
    let builder = Server::builder(&engine).listen("127.0.0.1:0").on_event(|event| panic!("{event:?}"));
    let server = builder.start().unwrap();
    let f = engine.function("f", |len: usize| len).unwrap();
    let decode = |payload: &[u8]| {
        assert!(payload.len() != 3, "three bytes");
        Ok(payload.len())
    };
    let encode = |len: usize| {
        assert!(len != 4, "four bytes");
        Answer::Result(len.to_string().into_bytes())
    };
    server.serve(&f, decode, encode).unwrap();
    let mut client = Peer::new(&server);
    client.send(Kind::SubmitJob, &[b"f", b"", b"abc"]);
    assert!(client.expect_error("invalid_args").ends_with("cannot read this payload: three bytes"));
    // Of a job for later it is read at the submit.
    client.send(Kind::SubmitJobEpoch, &[b"f", b"", b"4102444800", b"abc"]);
    assert!(client.expect_error("invalid_args").ends_with("cannot read this payload: three bytes"));
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"abcd");
    client.expect_packet(Kind::WorkFail, &[&handle]);
    client.send(Kind::OptionReq, &[b"exceptions"]);
    client.expect(Kind::OptionRes);
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"abcd");
    client.expect_packet(Kind::WorkException, &[&handle, b"four bytes"]);
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"abcde");
    client.expect_packet(Kind::WorkComplete, &[&handle, b"5"]);
    drop(TcpStream::connect(server.addresses()[0]).unwrap());
    Peer::new(&server).expect_nothing();
}

#[test]
fn times_that_never_come() {
    let settings = FunctionSettings::new().run_timeout(Duration::MAX).wakeup_delay(Duration::MAX);
    let server = server_with(|builder| {
        builder.function("f", settings).silence(Duration::MAX).deadlines(Duration::MAX, Duration::MAX)
    });
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    worker.grab();
    worker.complete(&handle, b"");
    client.expect(Kind::WorkComplete);
    server.drain(Duration::MAX);
    server.wait();
}
