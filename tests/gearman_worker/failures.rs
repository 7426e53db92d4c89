//! What breaks is mended, or told, and the worker goes on.

use super::common::{Gate, engine, watchdog};
use super::echo;
use super::fake::{Beside, Fake, SOON, worker_of};
use layshaft::gearman::packet::Kind;
use layshaft::gearman::worker::{Backoff, Event};
use layshaft::gearman::{Error, Job, WorkError, Worker};
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

#[test]
fn a_panic_fails_its_job_alone() {
    let _dog = watchdog("a panic");
    let (engine, fake) = (engine(1), Fake::new());
    let body = |_: &Job, payload: Vec<u8>| match payload.as_slice() {
        b"panic" => panic!("as asked"),
        b"fail" => Err(WorkError::Fail),
        _ => Ok(payload),
    };
    let (told, events) = channel();
    let builder = worker_of(&engine, &fake).function("f", body).on_event(move |event| {
        if let Event::Refused { error, .. } = event {
            told.send(error.to_string()).unwrap();
        }
    });
    let worker = Beside::run(builder);
    let mut peer = fake.accept_asking();
    peer.assign("H:x:1", "f", b"panic");
    assert_eq!(peer.expect(Kind::WorkException), [&b"H:x:1"[..], b"as asked"]);
    assert_eq!(peer.expect(Kind::WorkFail), [b"H:x:1"]);
    // To some servers that was one too many. It is not told.
    peer.say(Kind::Error, &[b"JOB_NOT_FOUND", b"Job given in work result not found"]);
    peer.expect(Kind::GrabJobUniq);
    peer.assign("H:x:2", "f", b"fail");
    assert_eq!(peer.expect(Kind::WorkFail), [b"H:x:2"]);
    peer.say(Kind::Error, &[b"JOB_NOT_FOUND", b"too late"]);
    peer.expect(Kind::GrabJobUniq);
    peer.assign("H:x:3", "f", b"fine");
    assert_eq!(peer.expect(Kind::WorkComplete), [&b"H:x:3"[..], b"fine"]);
    let served = worker.stop();
    assert_eq!((served.done, served.failed), (1, 2));
    assert_eq!(events.iter().collect::<Vec<_>>(), ["the server says JOB_NOT_FOUND: too late"]);
}

#[test]
fn reasons_can_be_told_as_warnings() {
    let _dog = watchdog("a warning");
    let (engine, fake) = (engine(1), Fake::new());
    let body = |_: &Job, _| Err(WorkError::exception("no good"));
    let worker = Beside::run(worker_of(&engine, &fake).exceptions(false).function("f", body));
    let mut peer = fake.accept_asking();
    peer.assign("H:x:1", "f", b"");
    assert_eq!(peer.expect(Kind::WorkWarning), [&b"H:x:1"[..], b"no good"]);
    assert_eq!(peer.expect(Kind::WorkFail), [b"H:x:1"]);
    worker.stop();
}

#[test]
fn gw_03_it_comes_back_after_a_restart() {
    let _dog = watchdog("a restart");
    let (engine, fake, gate) = (engine(1), Fake::new(), Gate::new());
    let pass = gate.clone();
    let body = move |job: &Job, payload: Vec<u8>| {
        if payload == b"wait" {
            pass.pass();
            assert!(job.is_orphan());
        }
        Ok(payload)
    };
    let worker = Beside::run(worker_of(&engine, &fake).function("f", body));
    drop(fake.accept_asking());
    let mut peer = fake.accept_asking();
    peer.assign("H:x:1", "f", b"wait");
    gate.wait_entered(1);
    drop(peer);
    // It offers its functions again, and asks for nothing while it is busy.
    let mut peer = fake.accept();
    peer.expect(Kind::CanDo);
    assert_eq!(peer.so_far(), []);
    gate.open();
    // The late result belongs to the other connection.
    peer.expect(Kind::GrabJobUniq);
    peer.assign("H:y:1", "f", b"x");
    assert_eq!(peer.expect(Kind::WorkComplete), [&b"H:y:1"[..], b"x"]);
    let served = worker.stop();
    assert_eq!((served.done, served.orphaned), (2, 1));
}

#[test]
fn jobs_of_a_lost_connection_do_not_start() {
    let _dog = watchdog("orphans");
    let (engine, fake, gate) = (engine(1), Fake::new(), Gate::new());
    let pass = gate.clone();
    let body = move |_: &Job, payload: Vec<u8>| {
        if payload == b"wait" {
            pass.pass();
        }
        Ok(payload)
    };
    let builder = worker_of(&engine, &fake).jobs(2).function("f", body);
    let worker = Beside::run(builder);
    let mut peer = fake.accept_asking();
    peer.assign("H:x:1", "f", b"wait");
    peer.expect(Kind::GrabJobUniq);
    gate.wait_entered(1);
    peer.assign("H:x:2", "f", b"behind it");
    assert_eq!(peer.so_far(), []);
    drop(peer);
    let mut peer = fake.accept_asking();
    gate.open();
    peer.send_to_sleep();
    worker.stopper.stop();
    let served = worker.end().expect("a good end");
    assert_eq!((served.done, served.not_run, served.orphaned), (1, 1, 2));
}

#[test]
fn bytes_may_come_one_by_one() {
    let _dog = watchdog("pieces");
    let (engine, fake) = (engine(1), Fake::new());
    let worker = Beside::run(worker_of(&engine, &fake).function("echo", echo));
    let mut peer = fake.accept_asking();
    let mut bytes = Vec::new();
    use layshaft::gearman::packet::{Magic, encode};
    encode(&mut bytes, Magic::Response, Kind::Noop, &[]);
    encode(&mut bytes, Magic::Response, Kind::JobAssign, &[b"H:x:1", b"echo", b"a\0b"]);
    for byte in bytes {
        peer.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(peer.expect(Kind::WorkComplete), [&b"H:x:1"[..], b"a\0b"]);
    worker.stop();
}

#[test]
fn what_is_no_packet_ends_the_connection() {
    let _dog = watchdog("noise");
    let (engine, fake) = (engine(1), Fake::new());
    let worker = Beside::run(worker_of(&engine, &fake).function("echo", echo));
    let noises: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0RSE\0\0\0\x06\0\0\0\0",
        b"\0RES\0\0\0\x0b\xff\xff\xff\xff",
        b"\0RES\0\0\0\x0b\0\0\0\x03abc",
        b"\0RES\0\0",
        b"",
    ];
    for noise in noises {
        let mut peer = fake.accept_asking();
        peer.stream.write_all(noise).unwrap();
        peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
        peer.expect_end();
    }
    // What is not known, or not for it, it passes over.
    let mut peer = fake.accept_asking();
    peer.stream.write_all(b"\0RES\0\0\0\x63\0\0\0\x03abc\0REQ\0\0\0\x0b\0\0\0\0").unwrap();
    peer.say(Kind::JobCreated, &[b"H:x:1"]);
    peer.assign("H:x:2", "echo", b"x");
    assert_eq!(peer.expect(Kind::WorkComplete), [&b"H:x:2"[..], b"x"]);
    worker.stop();
}

#[test]
fn a_job_that_was_not_offered_fails() {
    let _dog = watchdog("a refusal");
    let (engine, fake) = (engine(1), Fake::new());
    let worker = Beside::run(worker_of(&engine, &fake).function("echo", echo));
    let mut peer = fake.accept_asking();
    peer.assign("H:x:1", "ech", b"x");
    assert_eq!(peer.expect(Kind::WorkFail), [b"H:x:1"]);
    peer.expect(Kind::GrabJobUniq);
    // Twice the same id is two jobs.
    peer.assign("H:x:2", "echo", b"x");
    assert_eq!(peer.expect(Kind::WorkComplete), [&b"H:x:2"[..], b"x"]);
    peer.assign("H:x:2", "echo", b"y");
    while peer.next().expect("an answer") != (Kind::WorkComplete, vec![b"H:x:2".to_vec(), b"y".to_vec()]) {}
    worker.stop();
}

#[test]
fn a_server_that_is_silent_is_left() {
    let _dog = watchdog("silence");
    let (engine, fake, other) = (engine(1), Fake::new(), Fake::new());
    let (told, events) = channel();
    let builder = worker_of(&engine, &fake).jobs(2).answer_timeout(SOON * 10).function("echo", echo);
    let worker = Beside::run(builder.server(other.address()).on_event(move |event| {
        if let Event::Lost { server, error: Error::Silent(_), .. } = event {
            told.send((*server).to_owned()).unwrap();
        }
    }));
    let mut other = other.accept_asking();
    other.send_to_sleep();
    let mut silent = fake.accept_asking();
    silent.expect_end();
    assert_eq!(events.recv().unwrap(), fake.address());
    other.say(Kind::Noop, &[]);
    other.expect(Kind::GrabJobUniq);
    other.assign("H:x:1", "echo", b"x");
    while other.next().expect("a result").0 != Kind::WorkComplete {}
    worker.stop();
}

#[test]
fn a_server_that_is_slow_keeps_no_other_from_being_asked() {
    let _dog = watchdog("a slow server");
    let (engine, fake, other) = (engine(1), Fake::new(), Fake::new());
    let worker = Beside::run(worker_of(&engine, &fake).server(other.address()).function("echo", echo));
    // Only one job is wanted, and whoever is asked first says nothing.
    let mut both = [fake.accept_asking(), other.accept_asking()];
    for peer in &mut both {
        peer.assign("H:x:1", "echo", b"x");
        while peer.next().expect("a result").0 != Kind::WorkComplete {}
    }
    worker.stop();
}

/// The Perl server, for one.
#[test]
fn a_server_that_knows_only_the_oldest_grab() {
    let _dog = watchdog("an old server");
    let (engine, fake) = (engine(1), Fake::new());
    let worker = Beside::run(worker_of(&engine, &fake).function("echo", echo));
    let mut peer = fake.accept_asking();
    peer.say(Kind::Error, &[b"server_error", b"no such command"]);
    peer.expect(Kind::GrabJob);
    peer.say(Kind::JobAssign, &[b"H:x:1", b"echo", b"x"]);
    peer.expect(Kind::WorkComplete);
    peer.expect(Kind::GrabJob);
    worker.stop();
}

/// Every one of these lets itself be connected to.
#[test]
fn whoever_takes_no_worker_is_told_with_the_reason() {
    let _dog = watchdog("refusals");
    let mut refusal = Vec::new();
    layshaft::gearman::packet::encode(
        &mut refusal,
        layshaft::gearman::packet::Magic::Response,
        Kind::Error,
        &[b"tls_required", b"no entry"],
    );
    let cases: [(&[u8], &str); 3] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the peer speaks HTTP, not Gearman"),
        (&refusal, "the server says tls_required: no entry"),
        (b"", "the peer closed the connection"),
    ];
    for (answer, text) in cases {
        let (engine, listener) = (engine(1), TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let address = listener.local_addr().expect("it is bound").to_string();
        let (told, events) = channel();
        let builder = Worker::builder(&engine).server(&address).backoff(Backoff::always(SOON)).give_up(SOON);
        let worker = Beside::run(builder.function("echo", echo).on_event(move |event| {
            told.send(match event {
                Event::Lost { error, attempts, .. } => Some((error.to_string(), *attempts)),
                _ => None,
            })
            .unwrap();
        }));
        let is_over = AtomicBool::new(false);
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                while let Ok((mut stream, _)) = listener.accept() {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    // A worker that has given up hears nothing of it; what it says is of no interest.
                    let _ = stream.write_all(answer);
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                }
            });
            let error = worker.end().expect_err(text);
            is_over.store(true, Ordering::Relaxed);
            drop(std::net::TcpStream::connect(&address));
            error
        });
        assert_eq!(error.to_string(), text);
        let heard: Vec<_> = events.iter().collect();
        let want: Vec<_> = (1..=heard.len()).map(|attempt| Some((text.to_owned(), attempt as u32))).collect();
        assert_eq!(heard, want, "each time, and nothing but that");
    }
}

#[test]
fn it_gives_up_when_asked_to_and_nobody_was_ever_there() {
    let _dog = watchdog("giving up");
    let engine = engine(1);
    // Bound and not listening: nobody else gets it, and nobody answers.
    let fake = Fake::new();
    let address = fake.address();
    drop(fake);
    let (told, events) = channel();
    let builder = Worker::builder(&engine).server(&address).function("echo", echo).give_up(SOON);
    let worker = Beside::run(builder.on_event(move |event| {
        if let Event::Lost { attempts, retry, .. } = event {
            told.send((*attempts, retry.map(|wait| wait.as_secs()))).unwrap();
        }
    }));
    let error = worker.end().expect_err("there is nobody");
    assert!(matches!(&error, Error::Io(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused), "{error:?}");
    assert_eq!(events.recv().unwrap(), (1, Some(1)));
}

/// A socket in the file system on which nobody accepts, and that is full, lets nobody connect, and says nothing.
#[test]
fn an_attempt_to_connect_that_hangs_is_given_up() {
    let _dog = watchdog("a full socket");
    let folder = std::env::temp_dir().join(format!("layshaft-full-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    socket2::SockRef::from(&listener).listen(0).expect("a short queue");
    let place = socket2::SockAddr::unix(&path).expect("a path");
    let mut waiting = Vec::new();
    loop {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("an option");
        match socket.connect(&place) {
            Ok(()) => waiting.push(socket),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    let (engine, address) = (engine(1), format!("unix:{}", path.display()));
    let builder = Worker::builder(&engine).server(&address).connect_timeout(SOON).give_up(SOON).function("echo", echo);
    let error = Beside::run(builder).end().expect_err("nobody answers");
    assert!(matches!(&error, Error::Io(cause) if cause.kind() == std::io::ErrorKind::TimedOut), "{error:?}");
    // More time than the clock can tell.
    let fake = Fake::new();
    let worker = Beside::run(worker_of(&engine, &fake).connect_timeout(Duration::MAX).function("echo", echo));
    fake.accept_asking();
    worker.stop();
    std::fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn what_a_body_tells_waits_for_a_slow_server() {
    const PARTS: usize = 48;
    /// Parts that may be on their way: 4 MiB and a part in the worker, and what sockets hold.
    const ON_THEIR_WAY: usize = 24;
    let _dog = watchdog("much data");
    let (engine, fake, told) = (engine(1), Fake::new(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&told);
    let body = move |job: &Job, payload: Vec<u8>| {
        let part = vec![7; 1 << 20];
        for _ in 0..if payload.is_empty() { PARTS * 10 } else { PARTS } {
            job.data(&part);
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(payload)
    };
    let worker = Beside::run(worker_of(&engine, &fake).function("f", body));
    let mut peer = fake.accept_asking();
    peer.assign("H:x:1", "f", b"x");
    for heard in 0..PARTS {
        assert_eq!(peer.expect(Kind::WorkData)[1].len(), 1 << 20);
        let told = told.load(Ordering::Relaxed);
        assert!(told <= heard + ON_THEIR_WAY, "{told} are told, {heard} are heard");
    }
    peer.expect(Kind::WorkComplete);
    peer.expect(Kind::GrabJobUniq);
    // It does not wait for a server that is gone.
    peer.assign("H:x:2", "f", b"");
    peer.expect(Kind::WorkData);
    drop(peer);
    fake.accept_asking();
    assert_eq!(worker.stop().orphaned, 1);
}
