//! The Gearman client against servers that do odd things.
#![cfg(feature = "gearman")]

#[path = "common/fake.rs"]
mod fake;

use fake::{Fake, PATIENCE, response};
use futures_lite::future::block_on;
use layshaft::Priority;
use layshaft::gearman::packet::Kind;
use layshaft::gearman::{Client, ClientBuilder, ClientError, RemoteHandle, RemoteId, RemoteUpdate, TextAnswer};
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

fn client(server: &Fake) -> Client {
    builder(server).start().expect("a client")
}

fn builder(server: &Fake) -> ClientBuilder {
    Client::builder().server(&server.address)
}

/// The end of a job, which must come.
#[track_caller]
fn end(handle: RemoteHandle) -> Result<Vec<u8>, ClientError> {
    handle.wait_timeout(PATIENCE).expect("an end, and no hang")
}

/// The same, in either way.
fn wait_and_poll(handle: RemoteHandle, polls: bool) -> Result<Vec<u8>, ClientError> {
    if polls { block_on(handle) } else { end(handle) }
}

#[test]
fn a_job_and_all_that_is_heard_of_it() {
    let server = Fake::once(|peer| {
        for _ in 0..2 {
            assert_eq!(peer.submit(Kind::SubmitJobHigh), [&b"f"[..], b"key", b"pay\0load"]);
            let id = b"H:fake:1";
            peer.send(Kind::JobCreated, &[id]);
            peer.send(Kind::WorkData, &[id, b"da\0ta"]);
            peer.send(Kind::WorkWarning, &[id, b"careful"]);
            peer.send(Kind::WorkStatus, &[id, b"3", b"10"]);
            peer.send(Kind::WorkStatus, &[id, b"4"]);
            // Of nobody's job.
            peer.send(Kind::WorkComplete, &[b"H:fake:2", b"another"]);
            peer.send(Kind::WorkComplete, &[id, b"re\0sult"]);
        }
        peer.wait_for_end();
    });
    let client = client(&server);
    let id = RemoteId::new(server.address.parse().unwrap(), "H:fake:1");
    for polls in [false, true] {
        let submit = client.job("f", b"pay\0load").unique("key").priority(Priority::High);
        let (submit, updates) = submit.updates();
        let handle = submit.submit().unwrap();
        assert_eq!(handle.wait_created(), Some(id.clone()));
        assert_eq!(wait_and_poll(handle, polls).unwrap(), b"re\0sult");
        let want = [
            RemoteUpdate::Created(id.clone()),
            RemoteUpdate::Data(b"da\0ta".to_vec()),
            RemoteUpdate::Warning(b"careful".to_vec()),
            RemoteUpdate::Status { numerator: 3, denominator: 10 },
            RemoteUpdate::Status { numerator: 4, denominator: 0 },
        ];
        assert_eq!(updates.collect::<Vec<_>>(), want);
    }
    drop(client);
    server.join();
}

#[test]
fn every_kind_of_submit_has_its_packet() {
    let (told, hear) = mpsc::channel();
    let server = Fake::once(move |peer| {
        peer.serve(|asked| told.send((asked.kind, asked.args.len())).unwrap());
    });
    let client = client(&server);
    for (priority, foreground, background) in [
        (Priority::High, Kind::SubmitJobHigh, Kind::SubmitJobHighBg),
        (Priority::Normal, Kind::SubmitJob, Kind::SubmitJobBg),
        (Priority::Low, Kind::SubmitJobLow, Kind::SubmitJobLowBg),
    ] {
        assert_eq!(client.job("f", "ab").priority(priority).submit().unwrap().wait().unwrap(), b"ba");
        let reply = client.job("f", "ab").priority(priority).submit_background().unwrap();
        assert!(reply.wait().unwrap().to_string().starts_with("H:fake:"));
        assert_eq!([hear.recv().unwrap(), hear.recv().unwrap()], [(foreground, 3), (background, 3)]);
    }
    client.job("f", "").at(SystemTime::UNIX_EPOCH).submit_background().unwrap().wait().unwrap();
    assert_eq!(hear.recv().unwrap(), (Kind::SubmitJobEpoch, 4));
    assert_eq!(client.job("f", "ab").reduce("g").submit().unwrap().wait().unwrap(), b"ba");
    assert_eq!(hear.recv().unwrap(), (Kind::SubmitReduceJob, 5));
    for wrong in [
        client.job("", "").submit(),
        client.job("a\0b", "").submit(),
        client.job("f", "").unique("a\0b").submit(),
        client.job("f", "").at(SystemTime::now()).submit(),
        client.job("f", "").reduce("g").priority(Priority::Low).submit(),
    ] {
        assert!(matches!(wrong, Err(ClientError::InvalidJob(_))), "{wrong:?}");
    }
    drop(client);
    server.join();
}

#[test]
fn answers_come_byte_by_byte() {
    let server = Fake::once(|peer| {
        peer.submit(Kind::SubmitJob);
        let bytes = [
            response(Kind::JobCreated, &[b"H:fake:1"]),
            response(Kind::WorkData, &[b"H:fake:1", &[7; 300]]),
            response(Kind::WorkComplete, &[b"H:fake:1", b"end"]),
        ];
        bytes.concat().chunks(1).for_each(|byte| peer.write(byte));
        peer.wait_for_end();
    });
    let client = client(&server);
    assert_eq!(end(client.job("f", "").submit().unwrap()).unwrap(), b"end");
    drop(client);
    server.join();
}

#[test]
fn large_payloads_pass_both_ways() {
    let server = Fake::once(|peer| _ = peer.serve(|_| {}));
    let client = client(&server);
    let payload: Vec<u8> = (0..8 << 20).map(|i| (i % 251) as u8).collect();
    let mut result = end(client.job("f", payload.clone()).submit().unwrap()).unwrap();
    result.reverse();
    assert!(result == payload);
    drop(client);
    server.join();
}

/// All are submitted before the first is answered, and they end backwards.
#[test]
fn thousands_of_jobs_are_on_one_connection() {
    const JOBS: u32 = 5000;
    let server = Fake::once(|peer| {
        let jobs: Vec<_> = (0..JOBS).map(|_| peer.submit(Kind::SubmitJob).pop().unwrap()).collect();
        for i in 0..jobs.len() {
            peer.send(Kind::JobCreated, &[format!("H:fake:{i}").as_bytes()]);
        }
        for (i, payload) in jobs.iter().enumerate().rev() {
            peer.send(Kind::WorkComplete, &[format!("H:fake:{i}").as_bytes(), payload]);
        }
        peer.wait_for_end();
    });
    let client = client(&server);
    let handles: Vec<_> = (0..JOBS).map(|i| client.job("f", i.to_be_bytes()).submit().unwrap()).collect();
    for (i, handle) in (0..JOBS).zip(handles) {
        assert_eq!(wait_and_poll(handle, i % 2 == 0).unwrap(), i.to_be_bytes());
    }
    drop(client);
    server.join();
}

#[test]
fn an_error_takes_the_place_of_a_submit() {
    let server = Fake::once(|peer| {
        (0..3).for_each(|_| _ = peer.submit(Kind::SubmitJob));
        peer.send(Kind::JobCreated, &[b"H:fake:1"]);
        peer.send(Kind::Error, &[b"JOB_QUEUE_FULL", b"Job queue is full"]);
        peer.send(Kind::JobCreated, &[b"H:fake:3"]);
        peer.send(Kind::WorkComplete, &[b"H:fake:3", b"three"]);
        // As a C server sends it to clients without exceptions.
        peer.send(Kind::WorkFail, &[b"H:fake:1\0"]);
        peer.wait_for_end();
    });
    let client = client(&server);
    let [first, second, third] = [1, 2, 3].map(|i| client.job("f", vec![i]).submit().unwrap());
    let refused = end(second).unwrap_err();
    assert!(matches!(&refused, ClientError::Server { code, .. } if code == "JOB_QUEUE_FULL"), "{refused:?}");
    assert_eq!(refused.to_string(), format!("{} refused: Job queue is full (JOB_QUEUE_FULL)", server.address));
    assert_eq!(end(third).unwrap(), b"three");
    assert!(matches!(end(first), Err(ClientError::Failed)));
    drop(client);
    server.join();
}

#[test]
fn exceptions_are_heard_with_their_bytes() {
    let server = Fake::once(|peer| {
        peer.submit(Kind::SubmitJob);
        peer.send(Kind::JobCreated, &[b"H:fake:1"]);
        peer.send(Kind::WorkException, &[b"H:fake:1", b"no \x1b[1m way"]);
        // As Perl workers send it after an exception.
        peer.send(Kind::WorkFail, &[b"H:fake:1"]);
        peer.wait_for_end();
    });
    let client = client(&server);
    let (submit, mut updates) = client.job("f", "").updates();
    let error = end(submit.submit().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "the worker reported an exception: no \\u{1b}[1m way");
    assert_eq!(updates.nth(1), Some(RemoteUpdate::Exception(b"no \x1b[1m way".to_vec())));
    drop(client);
    server.join();
}

/// Every attempt is accepted, and none ends.
#[test]
fn gw_05_an_attempt_that_takes_too_long_is_followed_by_another() {
    let server = Fake::once(|peer| {
        for i in 0..3 {
            assert_eq!(peer.submit(Kind::SubmitJob), [&b"f"[..], b"", b"payload"]);
            peer.send(Kind::JobCreated, &[format!("H:fake:{i}").as_bytes()]);
        }
        // Too late for the first attempt, and not of the last one.
        peer.send(Kind::WorkComplete, &[b"H:fake:0", b"late"]);
        peer.wait_for_end();
    });
    let client = client(&server);
    let (heard, retries) = mpsc::channel();
    let attempt = Duration::from_millis(100);
    let submit = client.job("f", "payload").attempt_timeout(attempt).retries(2).on_update(move |update| {
        if let RemoteUpdate::Retry(n) = update {
            heard.send(*n).unwrap();
        }
    });
    let started = std::time::Instant::now();
    let error = end(submit.submit().unwrap()).unwrap_err();
    assert!(started.elapsed() >= attempt * 3);
    assert!(matches!(error, ClientError::TimedOut { attempts: 3, .. }), "{error:?}");
    assert_eq!(error.to_string(), "no result within 0.1 s, in 3 attempts: is there a worker?");
    assert_eq!(retries.iter().collect::<Vec<_>>(), [1, 2]);
    drop(client);
    server.join();
}

#[test]
fn gw_05_a_failed_attempt_is_followed_by_another() {
    let server = Fake::once(|peer| {
        for i in 0..3 {
            let name = format!("H:fake:{i}");
            assert_eq!(peer.submit(Kind::SubmitJob).pop().unwrap(), b"payload");
            peer.send(Kind::JobCreated, &[name.as_bytes()]);
            match i {
                0 => peer.send(Kind::WorkFail, &[name.as_bytes()]),
                1 => peer.send(Kind::WorkException, &[name.as_bytes(), b"no"]),
                _ => peer.send(Kind::WorkComplete, &[name.as_bytes(), b"yes"]),
            }
        }
        peer.wait_for_end();
    });
    let client = client(&server);
    assert_eq!(end(client.job("f", "payload").retries(2).submit().unwrap()).unwrap(), b"yes");
    drop(client);
    server.join();
}

#[test]
fn gw_08_a_namespace_stands_before_the_name() {
    let server = Fake::once(|peer| {
        assert_eq!(peer.submit(Kind::SubmitJobBg)[0], b"ours\tf");
        peer.send(Kind::JobCreated, &[b"H:fake:1"]);
        peer.wait_for_end();
    });
    let client = builder(&server).namespace("ours").start().unwrap();
    client.job("f", "").submit_background().unwrap().wait().unwrap();
    drop(client);
    server.join();
}

#[test]
fn questions_have_answers() {
    let server = Fake::once(|peer| {
        peer.submit(Kind::SubmitJob);
        peer.send(Kind::JobCreated, &[b"H:fake:1"]);
        assert_eq!(peer.next().unwrap().kind, Kind::GetStatus);
        peer.send(Kind::StatusRes, &[b"H:fake:9", b"1", b"1", b"9", b"9"]);
        peer.send(Kind::StatusRes, &[b"H:fake:1", b"1", b"0", b"3", b"10"]);
        assert_eq!(peer.next().unwrap().args, [b"key"]);
        peer.send(Kind::StatusResUnique, &[b"key", b"1", b"1", b"4", b"10", b"2"]);
        let echo = peer.next().unwrap().args.remove(0);
        peer.send(Kind::EchoRes, &[&echo]);
        assert_eq!(peer.line(), "status");
        peer.write(b"f\t1\t0\t0\r\ng\\x09\t0\t0\t2\n.\n");
        assert_eq!(peer.line(), "version");
        peer.write(b"OK 1.1.20\n");
        assert_eq!(peer.line(), "maxqueue");
        peer.write(b"ERR INCOMPLETE_ARGS An+incomplete+set\r\n");
        peer.wait_for_end();
    });
    let client = client(&server);
    let handle = client.job("f", "").submit().unwrap();
    let status = client.status(&handle.wait_created().unwrap()).wait().unwrap();
    assert_eq!((status.is_known, status.is_running), (true, false));
    assert_eq!((status.numerator, status.denominator, status.clients), (3, 10, None));
    assert_eq!(client.status_unique("key").wait().unwrap().clients, Some(2));
    assert_eq!(block_on(client.echo("a\0b")).unwrap(), b"a\0b");
    let table = client.admin(0, "status").wait().unwrap();
    assert_eq!(table.fields(), [[&b"f"[..], b"1", b"0", b"0"], [b"g\\x09", b"0", b"0", b"2"]]);
    assert_eq!(client.admin(0, "version").wait().unwrap(), TextAnswer::Line(b"1.1.20".to_vec()));
    let refused = client.admin(0, "maxqueue").wait().unwrap_err();
    assert!(refused.to_string().ends_with("refused: An incomplete set (INCOMPLETE_ARGS)"), "{refused}");
    assert!(matches!(client.admin(0, "a\nb").wait(), Err(ClientError::InvalidJob(_))));
    let foreign = RemoteId::new("elsewhere".parse().unwrap(), "H:fake:1");
    assert!(matches!(client.status(&foreign).wait(), Err(ClientError::InvalidJob(_))));
    drop(client);
    assert!(matches!(handle.wait(), Err(ClientError::Closed)));
    server.join();
}

/// Nobody reads, so the system's buffers fill up, and then the client's.
#[test]
fn a_full_buffer_makes_submits_pend() {
    let (go, may_read) = mpsc::channel::<()>();
    let server = Fake::once(move |peer| {
        may_read.recv().unwrap();
        peer.serve(|_| {});
    });
    let client = builder(&server).buffer(1 << 20).start().unwrap();
    let payload = vec![7; 256 << 10];
    let mut handles = Vec::new();
    let mut pending = loop {
        let mut submit = Box::pin(client.job("f", payload.clone()).submit_async());
        // Sockets hold some megabytes: at most so many submits are taken at once.
        match block_on(futures_lite::future::poll_once(&mut submit)) {
            Some(handle) => handles.push(handle.unwrap()),
            // What has room only while the thread is busy is no sign yet.
            None if handles.len() < 4 => handles.push(block_on(submit).unwrap()),
            None => break submit,
        }
        assert!(handles.len() < 4000, "nothing bounds what waits to be written");
    };
    go.send(()).unwrap();
    handles.push(block_on(&mut pending).unwrap());
    // The blocking way in, in the same straits.
    handles.extend((0..50).map(|_| client.job("f", payload.clone()).submit().unwrap()));
    handles.into_iter().for_each(|handle| assert_eq!(end(handle).unwrap().len(), payload.len()));
    drop(client);
    server.join();
}

#[test]
fn a_listener_cannot_stop_the_client() {
    let server = Fake::once(|peer| _ = peer.serve(|_| {}));
    let client = client(&server);
    let (tell, told) = mpsc::channel();
    let theirs = client.clone();
    let submit = client.job("f", "ab").on_update(move |_| {
        // Its end would come by this very thread.
        tell.send(theirs.job("f", "").submit().unwrap().wait()).unwrap();
        panic!("a listener panics");
    });
    assert_eq!(end(submit.submit().unwrap()).unwrap(), b"ba");
    assert!(matches!(told.recv().unwrap(), Err(ClientError::WouldNeverEnd)));
    drop(client);
    server.join();
}

#[test]
fn what_a_dropped_client_leaves_ends() {
    let server = Fake::once(|peer| {
        peer.submit(Kind::SubmitJob);
        peer.send(Kind::JobCreated, &[b"H:fake:1"]);
        peer.wait_for_end();
    });
    let first = client(&server);
    let handle = first.job("f", "").submit().unwrap();
    assert!(handle.wait_created().is_some());
    // Detached, which changes nothing.
    drop(first.job("f", "").submit().unwrap());
    let second = first.clone();
    drop(first);
    assert!(!handle.is_finished());
    drop(second);
    assert!(matches!(end(handle), Err(ClientError::Closed)));
    server.join();
}

#[test]
fn text_at_the_beginning_is_told_from_packets() {
    for (bytes, protocol) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "HTTP"),
        // What some servers answer to a request without a version.
        (b"<!DOCTYPE HTML>\n<html>\n", "HTTP"),
        (b"\x15\x03\x01\0\x02\x02\x46", "TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"-ERR unknown command\r\n", "Redis"),
        (b"220 mail.example ESMTP\r\n", "some text protocol"),
    ] {
        let server = Fake::once(move |peer| peer.stream.write_all(bytes).unwrap());
        let error = end(client(&server).job("f", "").submit().unwrap()).unwrap_err();
        let want = format!("the peer at {} speaks {protocol}, not Gearman; is the port right?", server.address);
        assert_eq!(error.to_string(), want);
        assert!(error.is_connection());
        server.join();
    }
}
