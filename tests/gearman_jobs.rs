//! Jobs of a Gearman server, as clients and workers see them on the wire.
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;

use layshaft::Overflow;
use layshaft::gearman::packet::Kind;
use layshaft::gearman::{Compat, OnLoss};
use peer::{Peer, server, server_with};

/// The kinds of submits, by priority: foreground and background.
const SUBMITS: [(Kind, Kind); 3] = [
    (Kind::SubmitJobHigh, Kind::SubmitJobHighBg),
    (Kind::SubmitJob, Kind::SubmitJobBg),
    (Kind::SubmitJobLow, Kind::SubmitJobLowBg),
];

#[test]
fn gs_31_echo() {
    let server = server();
    let mut peer = Peer::new(&server);
    for bytes in [&b""[..], b"x", b"a\0b", &[0; 1 << 20]] {
        peer.send(Kind::EchoReq, &[bytes]);
        peer.expect_packet(Kind::EchoRes, &[bytes]);
    }
}

#[test]
fn gs_38_gs_39_all_kinds_of_submits() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    for (foreground, background) in SUBMITS {
        for kind in [foreground, background] {
            let handle = client.submit(kind, "f", b"", b"a\0b");
            let queued = match foreground {
                Kind::SubmitJobHigh => "f\t1\t0\t0\t1",
                Kind::SubmitJobLow => "f\t0\t0\t1\t1",
                _ => "f\t0\t1\t0\t1",
            };
            assert_eq!(client.rows("prioritystatus"), [queued], "{kind}");
            let (grabbed, payload) = worker.grab();
            assert_eq!((&grabbed, &payload[..]), (&handle, &b"a\0b"[..]));
            worker.complete(&handle, b"r\0s");
            worker.sync();
            if kind == foreground {
                client.expect_packet(Kind::WorkComplete, &[&handle, b"r\0s"]);
            } else {
                client.expect_nothing();
            }
        }
    }
}

#[test]
fn gs_38_a_malformed_submit_leaves_the_connection_usable() {
    let server = server();
    let mut client = Peer::new(&server);
    for (code, body) in
        [(7, &b"f"[..]), (7, b"f\0u"), (18, b""), (36, b"f\0u\0soon\0p"), (36, b"f\0u\x00123"), (37, b"f\0u\0r")]
    {
        client.send_raw(code, body);
        client.expect_error("invalid_args");
    }
    client.send(Kind::SubmitJob, &[b"", b"", b"x"]);
    assert!(client.expect_error("invalid_args").contains("empty"));
    client.send(Kind::SubmitJob, &[&[b'n'; 513], b"", b"x"]);
    assert!(client.expect_error("invalid_args").contains("513 bytes"));
    client.send(Kind::SubmitJob, &[b"f", &[b'u'; 1025], b"x"]);
    assert!(client.expect_error("invalid_args").contains("1025 bytes"));
    client.submit(Kind::SubmitJob, "f", b"", b"");
    assert_eq!(client.rows("status"), ["f\t1\t0\t0"]);
}

#[test]
fn gs_20_gs_39_priorities_are_global_and_each_is_first_in_first_out() {
    let server = server();
    let mut client = Peer::new(&server);
    for (n, (kind, function)) in [
        (Kind::SubmitJobBg, "f"),
        (Kind::SubmitJobLowBg, "f"),
        (Kind::SubmitJobBg, "g"),
        (Kind::SubmitJobHighBg, "g"),
        (Kind::SubmitJobLowBg, "g"),
        (Kind::SubmitJobHighBg, "g"),
        (Kind::SubmitJobBg, "g"),
    ]
    .into_iter()
    .enumerate()
    {
        client.submit(kind, function, b"", n.to_string().as_bytes());
    }
    let mut worker = Peer::worker(&server, &["f", "g"]);
    let order: Vec<String> = (0..7).map(|_| String::from_utf8(worker.grab().1).unwrap()).collect();
    // Both high ones; then normal ones, of f and g in turn, each in its order; then low ones.
    assert_eq!(order[..2], ["3", "5"]);
    let of = |wanted: &[&str]| order.iter().filter(|n| wanted.contains(&n.as_str())).cloned().collect::<Vec<_>>();
    assert_eq!(of(&["2", "6"]), ["2", "6"]);
    assert!(order[2..5].iter().all(|n| ["0", "2", "6"].contains(&n.as_str())), "{order:?}");
    worker.grab_nothing();
}

/// As Perl's server has it.
#[test]
fn gs_20_the_newest_high_job_can_be_first() {
    let server = server_with(|_| builder_of(Compat::Perl));
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    for (kind, payload) in [
        (Kind::SubmitJobBg, b"n1"),
        (Kind::SubmitJobBg, b"n2"),
        (Kind::SubmitJobHighBg, b"h1"),
        (Kind::SubmitJobHighBg, b"h2"),
        (Kind::SubmitJobLowBg, b"l1"),
    ] {
        client.submit(kind, "f", b"", payload);
    }
    let order: Vec<Vec<u8>> = (0..5).map(|_| worker.grab().1).collect();
    assert_eq!(order, [b"h2", b"h1", b"n1", b"n2", b"l1"]);
}

/// Cap 2, four submits: who stays, and who is told what.
#[test]
fn gs_21_gs_22_overflow_policies() {
    let table = [
        (Overflow::Reject, ["created", "created", "refused", "refused"], vec!["0", "1"]),
        (Overflow::EvictNewest, ["created", "failed", "failed", "created"], vec!["0", "3"]),
        (Overflow::EvictOldest, ["failed", "failed", "created", "created"], vec!["2", "3"]),
    ];
    for (policy, told, left) in table {
        let server = server_with(|builder| builder.max_queue(2, policy));
        let mut clients: Vec<Peer> = (0..4).map(|_| Peer::new(&server)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(Kind::SubmitJob, &[b"f", b"", n.to_string().as_bytes()]);
            client.settle();
        }
        let seen: Vec<&str> = clients
            .iter_mut()
            .map(|client| {
                let kinds: Vec<Kind> = client.sync().iter().map(|got| got.kind).collect();
                match kinds[..] {
                    [Kind::JobCreated] => "created",
                    [Kind::JobCreated, Kind::WorkFail] => "failed",
                    [Kind::Error] => "refused",
                    _ => panic!("{policy:?}: {kinds:?}"),
                }
            })
            .collect();
        assert_eq!(seen, told, "{policy:?}");
        let mut worker = Peer::worker(&server, &["f"]);
        for expected in left {
            assert_eq!(worker.grab().1, expected.as_bytes(), "{policy:?}");
        }
        worker.grab_nothing();
    }
}

#[test]
fn gs_21_gs_58_max_queue_counts_queued_jobs_only() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    client.submit(Kind::SubmitJobBg, "f", b"", b"running");
    worker.grab();
    assert_eq!(client.ask("maxqueue f 1"), "OK");
    client.submit(Kind::SubmitJobBg, "f", b"key", b"queued");
    client.send(Kind::SubmitJobBg, &[b"f", b"", b"more"]);
    let text = client.expect_error("queue_full");
    assert!(text.starts_with("Job queue is full: \"f\" has 1"), "{text}");
    // One that joins takes no room.
    client.submit(Kind::SubmitJobBg, "f", b"key", b"joined");
    assert_eq!(client.rows("status"), ["f\t2\t1\t1"]);
    assert_eq!(client.ask("maxqueue f 0 1 0"), "OK");
    client.submit(Kind::SubmitJobHighBg, "f", b"", b"of another priority");
    client.send(Kind::SubmitJobBg, &[b"f", b"", b"more"]);
    client.expect_error("queue_full");
    assert_eq!(client.ask("maxqueue f"), "OK");
    client.submit(Kind::SubmitJobBg, "f", b"", b"without limit");
}

/// A client that leaves makes room at once.
#[test]
fn gs_21_abandoned_jobs_take_no_room() {
    let server = server();
    let mut client = Peer::new(&server);
    // Before and after the limit is set.
    let mut leaving = Peer::new(&server);
    leaving.submit(Kind::SubmitJob, "f", b"", b"before");
    assert_eq!(client.ask("maxqueue f 2"), "OK");
    leaving.submit(Kind::SubmitJob, "f", b"", b"after");
    client.send(Kind::SubmitJobBg, &[b"f", b"", b"x"]);
    client.expect_error("queue_full");
    drop(leaving);
    client.wait_for_status("f", [0, 0, 0]);
    client.submit(Kind::SubmitJobBg, "f", b"", b"x");
    client.submit(Kind::SubmitJobBg, "f", b"", b"y");
    let mut worker = Peer::worker(&server, &["f"]);
    assert_eq!((worker.grab().1, worker.grab().1), (b"x".to_vec(), b"y".to_vec()));
    worker.grab_nothing();
}

#[test]
fn gs_23_keys_are_the_functions_own() {
    let server = server();
    let mut client = Peer::new(&server);
    let first = client.submit(Kind::SubmitJobBg, "f", b"key", b"");
    assert_ne!(client.submit(Kind::SubmitJobBg, "g", b"key", b""), first);
    assert_eq!(client.submit(Kind::SubmitJobBg, "f", b"key", b""), first);
    // All 64 bytes count, and more.
    let long = |last: u8| [&[b'k'; 63][..], &[last]].concat();
    assert_ne!(
        client.submit(Kind::SubmitJobBg, "f", &long(b'a'), b""),
        client.submit(Kind::SubmitJobBg, "f", &long(b'b'), b"")
    );
    // Without a key nothing is joined.
    assert_ne!(client.submit(Kind::SubmitJobBg, "f", b"", b"x"), client.submit(Kind::SubmitJobBg, "f", b"", b"x"));
}

/// Queued, then running: one run, and everybody hears everything.
#[test]
fn gs_24_behaviour_02_coalescing() {
    let server = server();
    let (mut a, mut b, mut c) = (Peer::new(&server), Peer::new(&server), Peer::new(&server));
    let mut worker = Peer::worker(&server, &["f"]);
    let handle = a.submit(Kind::SubmitJob, "f", b"key", b"first");
    assert_eq!(b.submit(Kind::SubmitJobHigh, "f", b"key", b"second"), handle);
    assert_eq!(worker.grab(), (handle.clone(), b"first".to_vec()));
    assert_eq!(c.submit(Kind::SubmitJob, "f", b"key", b"third"), handle);
    worker.grab_nothing();
    worker.send(Kind::WorkStatus, &[&handle, b"1", b"2"]);
    worker.send(Kind::WorkData, &[&handle, b"part"]);
    worker.complete(&handle, b"result");
    for client in [&mut a, &mut b, &mut c] {
        client.expect_packet(Kind::WorkStatus, &[&handle, b"1", b"2"]);
        client.expect_packet(Kind::WorkData, &[&handle, b"part"]);
        client.expect_packet(Kind::WorkComplete, &[&handle, b"result"]);
        client.expect_nothing();
    }
    // The key is free again.
    assert_ne!(a.submit(Kind::SubmitJob, "f", b"key", b"fourth"), handle);
}

/// One packet for an update, one end for each submit.
#[test]
fn gs_69_a_client_that_joins_its_own_job() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let handle = client.submit(Kind::SubmitJob, "f", b"key", b"");
    client.submit(Kind::SubmitJob, "f", b"key", b"");
    worker.grab();
    worker.send(Kind::WorkStatus, &[&handle, b"1", b"2"]);
    worker.complete(&handle, b"r");
    client.expect_packet(Kind::WorkStatus, &[&handle, b"1", b"2"]);
    client.expect_packet(Kind::WorkComplete, &[&handle, b"r"]);
    client.expect_packet(Kind::WorkComplete, &[&handle, b"r"]);
    client.expect_nothing();
}

#[test]
fn gs_25_the_payload_as_key() {
    let server = server();
    let mut client = Peer::new(&server);
    let first = client.submit(Kind::SubmitJobBg, "f", b"-", b"payload");
    assert_eq!(client.submit(Kind::SubmitJobBg, "f", b"-", b"payload"), first);
    assert_ne!(client.submit(Kind::SubmitJobBg, "f", b"-", b"other"), first);
    assert_ne!(client.submit(Kind::SubmitJobBg, "f", b"payload", b"x"), first, "a key is not a payload");
    let mut worker = Peer::worker(&server, &["f"]);
    worker.send(Kind::GrabJobUniq, &[]);
    worker.expect_packet(Kind::JobAssignUniq, &[&first, b"f", b"-", b"payload"]);
}

#[test]
fn gs_26_a_background_submit_keeps_a_foreground_job() {
    let server = server();
    let (mut foreground, mut background, mut other) = (Peer::new(&server), Peer::new(&server), Peer::new(&server));
    let handle = foreground.submit(Kind::SubmitJob, "f", b"key", b"kept");
    assert_eq!(background.submit(Kind::SubmitJobBg, "f", b"key", b""), handle);
    foreground.submit(Kind::SubmitJob, "f", b"", b"dropped");
    drop(foreground);
    drop(background);
    other.wait_for_status("f", [1, 0, 0]);
    let mut worker = Peer::worker(&server, &["f"]);
    assert_eq!(worker.grab().1, b"kept");
    worker.grab_nothing();
}

#[test]
fn gs_27_behaviour_03_abandoned_jobs_do_not_run() {
    let server = server();
    let (mut leaving, mut other) = (Peer::new(&server), Peer::new(&server));
    leaving.submit(Kind::SubmitJob, "f", b"key", b"foreground");
    leaving.submit(Kind::SubmitJobBg, "f", b"", b"background");
    assert_eq!(other.status("f"), Some([2, 0, 0]));
    drop(leaving);
    other.wait_for_status("f", [1, 0, 0]);
    // Its key is free.
    other.submit(Kind::SubmitJob, "f", b"key", b"anew");
    let mut worker = Peer::worker(&server, &["f"]);
    assert_eq!(worker.grab().1, b"background");
    assert_eq!(worker.grab().1, b"anew");
    worker.grab_nothing();
}

/// The client of a running job goes: the worker notices nothing.
#[test]
fn gs_28_a_client_leaves_while_its_job_runs() {
    let server = server();
    let (mut leaving, mut staying) = (Peer::new(&server), Peer::new(&server));
    let mut worker = Peer::worker(&server, &["f"]);
    let handle = leaving.submit(Kind::SubmitJob, "f", b"key", b"");
    staying.submit(Kind::SubmitJob, "f", b"key", b"");
    worker.grab();
    drop(leaving);
    worker.send(Kind::WorkStatus, &[&handle, b"1", b"1"]);
    worker.complete(&handle, b"r");
    worker.expect_nothing();
    staying.expect(Kind::WorkStatus);
    staying.expect_packet(Kind::WorkComplete, &[&handle, b"r"]);

    // It was the only one: the job goes on all the same, and its end counts.
    let handle = staying.submit(Kind::SubmitJob, "f", b"", b"");
    worker.grab();
    staying.reset();
    let start = std::time::Instant::now();
    while server.clients().len() > 1 {
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", server.clients());
        std::thread::yield_now();
    }
    assert_eq!(worker.status("f"), Some([1, 1, 1]));
    worker.complete(&handle, b"");
    assert_eq!(worker.status("f"), Some([0, 0, 1]));
    let f = &server.status().functions[0];
    assert_eq!((f.done, f.failed), (2, 0));
}

#[test]
fn gs_29_gs_45_status_of_jobs() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let mut status = |handle: &[u8]| {
        client.send(Kind::GetStatus, &[handle]);
        client.expect(Kind::StatusRes).args[1..].concat()
    };
    assert_eq!(status(b"H:test:12345"), b"0000");
    assert_eq!(status(b""), b"0000");
    let mut submitter = Peer::new(&server);
    let handle = submitter.submit(Kind::SubmitJobBg, "f", b"key", b"");
    assert_eq!(status(&handle), b"1000");
    worker.grab();
    assert_eq!(status(&handle), b"1100");
    worker.send(Kind::WorkStatus, &[&handle, b"3", b"7"]);
    worker.sync();
    assert_eq!(status(&handle), b"1137");
    submitter.send(Kind::GetStatusUnique, &[b"key"]);
    submitter.expect_packet(Kind::StatusResUnique, &[b"key", b"1", b"1", b"3", b"7", b"0"]);
    worker.complete(&handle, b"");
    worker.sync();
    assert_eq!(status(&handle), b"0000");
    submitter.send(Kind::GetStatusUnique, &[b"key"]);
    submitter.expect_packet(Kind::StatusResUnique, &[b"key", b"0", b"0", b"0", b"0", b"0"]);
    submitter.send(Kind::GetStatus, &[b"H:test:1\0x"]);
    submitter.expect_error("invalid_args");
}

#[test]
fn gs_40_status_is_relayed_and_remembered() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    worker.send(Kind::WorkStatus, &[&handle, b"1", b"2"]);
    worker.expect_error("not_worker");
    worker.grab();
    worker.send(Kind::WorkStatus, &[&handle, b"50 %", b"100 %"]);
    client.expect_packet(Kind::WorkStatus, &[&handle, b"50 %", b"100 %"]);
    // A worker that forgets the denominator.
    worker.send_raw(Kind::WorkStatus.code(), &[&handle[..], b"\x007"].concat());
    client.expect_packet(Kind::WorkStatus, &[&handle, b"7", b""]);
}

#[test]
fn gs_41_gw_06_any_bytes_are_a_result() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    for result in [&b""[..], b"0", b"\0", &[0; 1 << 20]] {
        let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
        worker.grab();
        worker.complete(&handle, result);
        client.expect_packet(Kind::WorkComplete, &[&handle, result]);
    }
    // Without the NUL before an empty result.
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    worker.grab();
    worker.send_raw(Kind::WorkComplete.code(), &handle);
    client.expect_packet(Kind::WorkComplete, &[&handle, b""]);
    worker.expect_nothing();
}

#[test]
fn gs_42_failure() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    worker.grab();
    worker.send(Kind::WorkFail, &[&handle]);
    client.expect_packet(Kind::WorkFail, &[&handle]);
    worker.send(Kind::WorkFail, &[&handle]);
    worker.expect_error("not_worker");
    client.expect_nothing();
    assert_eq!(client.status("f"), Some([0, 0, 1]));
}

/// Who asked for exceptions gets it, the others one WORK_FAIL; the worker's own WORK_FAIL after it is no mistake.
#[test]
fn gs_43_gs_46_exceptions() {
    for compat in [None, Some(Compat::Perl)] {
        let server = server_with(|builder| compat.map_or(builder.host("test"), builder_of));
        let (mut asked, mut plain) = (Peer::new(&server), Peer::new(&server));
        let mut worker = Peer::worker(&server, &["f"]);
        asked.send(Kind::OptionReq, &[b"exceptions"]);
        asked.expect_packet(Kind::OptionRes, &[b"exceptions"]);
        asked.send(Kind::OptionReq, &[b"miracles"]);
        asked.expect_error("unknown_option");
        let handle = asked.submit(Kind::SubmitJob, "f", b"key", b"");
        plain.submit(Kind::SubmitJob, "f", b"key", b"");
        worker.grab();
        worker.send(Kind::WorkException, &[&handle, b"why\0not"]);
        asked.expect_packet(Kind::WorkException, &[&handle, b"why\0not"]);
        plain.expect_packet(Kind::WorkFail, &[&handle]);
        worker.send(Kind::WorkFail, &[&handle]);
        worker.expect_nothing();
        if compat.is_some() {
            asked.expect_packet(Kind::WorkFail, &[&handle]);
        }
        asked.expect_nothing();
        plain.expect_nothing();
        // Only one is expected.
        worker.send(Kind::WorkFail, &[&handle]);
        worker.expect_error("not_worker");
    }
}

fn builder_of(compat: Compat) -> layshaft::gearman::ServerBuilder {
    let engine = layshaft::Engine::builder().workers(1).start().unwrap();
    layshaft::gearman::Server::builder(&engine).listen("127.0.0.1:0").compat(compat)
}

#[test]
fn gs_44_data_and_warnings_in_order() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    worker.send(Kind::AllYours, &[]);
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    worker.grab();
    for n in 0..100u8 {
        let kind = if n % 2 == 0 { Kind::WorkData } else { Kind::WorkWarning };
        worker.send(kind, &[&handle, &[n, 0, n]]);
    }
    worker.complete(&handle, b"");
    for n in 0..100u8 {
        let kind = if n % 2 == 0 { Kind::WorkData } else { Kind::WorkWarning };
        client.expect_packet(kind, &[&handle, &[n, 0, n]]);
    }
    client.expect_packet(Kind::WorkComplete, &[&handle, b""]);
}

#[test]
fn gs_48_unknown_types() {
    let server = server();
    let mut peer = Peer::new(&server);
    for code in [0, 5, 6, 8, 10, 11, 43, 99, 1 << 31, u32::MAX] {
        peer.send_raw(code, b"a\0body\0of it");
        peer.expect_error("INVALID_COMMAND");
    }
    peer.send(Kind::SubmitJobSched, &[b"f", b"", b"1", b"2", b"3", b"4", b"5", b"p"]);
    assert!(peer.expect_error("INVALID_COMMAND").contains("SUBMIT_JOB_EPOCH"));
    peer.expect_nothing();
}

/// The codes that are promised.
#[test]
fn gs_49_error_codes() {
    let server = server();
    let mut peer = Peer::worker(&server, &["f"]);
    peer.send(Kind::WorkComplete, &[b"H:test:1", b""]);
    peer.expect_error("not_worker");
    peer.send(Kind::SubmitJob, &[b"", b"", b""]);
    peer.expect_error("invalid_args");
    peer.send(Kind::OptionReq, &[b"x"]);
    peer.expect_error("unknown_option");
    peer.send_raw(99, b"");
    peer.expect_error("INVALID_COMMAND");
    peer.ask("maxqueue f 1");
    peer.submit(Kind::SubmitJobBg, "f", b"", b"");
    peer.send(Kind::SubmitJobBg, &[b"f", b"", b""]);
    peer.expect_error("queue_full");
}

#[test]
fn gs_18_handles() {
    let (server, restarted) = (server(), server());
    let (mut client, mut after) = (Peer::new(&server), Peer::new(&restarted));
    let handle = client.submit(Kind::SubmitJobBg, "f", b"", b"");
    let text = String::from_utf8(handle.clone()).unwrap();
    let digits = text.strip_prefix("H:test:").unwrap();
    assert!(!digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) && text.len() <= 63);
    assert_ne!(after.submit(Kind::SubmitJobBg, "f", b"", b""), handle, "after a restart");
}

/// Somebody else's job cannot be ended, nor told of, nor one that is only queued.
#[test]
fn only_who_has_a_job_can_speak_of_it() {
    let server = server();
    let mut client = Peer::new(&server);
    let (mut worker, mut stranger) = (Peer::worker(&server, &["f"]), Peer::worker(&server, &["f"]));
    let queued = client.submit(Kind::SubmitJob, "f", b"", b"");
    let mut lie = |handle: &[u8]| {
        for kind in [Kind::WorkComplete, Kind::WorkException, Kind::WorkData, Kind::WorkWarning] {
            stranger.send(kind, &[handle, b"lie"]);
            stranger.expect_error("not_worker");
        }
        stranger.send(Kind::WorkFail, &[handle]);
        stranger.expect_error("not_worker");
        stranger.send(Kind::WorkStatus, &[handle, b"1", b"1"]);
        stranger.expect_error("not_worker");
    };
    lie(&queued);
    worker.grab();
    lie(&queued);
    worker.complete(&queued, b"truth");
    client.expect_packet(Kind::WorkComplete, &[&queued, b"truth"]);
    lie(&queued);
    client.expect_nothing();
}

#[test]
fn gs_50_a_lost_job_is_queued_again_first() {
    let server = server();
    let mut client = Peer::new(&server);
    let handles: Vec<Vec<u8>> = (0..4u8).map(|n| client.submit(Kind::SubmitJob, "f", b"", &[b'0' + n])).collect();
    let mut dying = Peer::worker(&server, &["f"]);
    assert_eq!(dying.grab().0, handles[0]);
    assert_eq!(dying.grab().0, handles[1]);
    dying.send(Kind::WorkStatus, &[&handles[0], b"1", b"2"]);
    client.expect(Kind::WorkStatus);
    drop(dying);
    client.wait_for_status("f", [4, 0, 0]);
    let mut worker = Peer::worker(&server, &["f"]);
    for handle in &handles {
        assert_eq!(worker.grab().0, *handle, "the same handles, in the same order");
    }
    for handle in &handles {
        worker.complete(handle, b"done");
        client.expect_packet(Kind::WorkComplete, &[handle, b"done"]);
    }
}

#[test]
fn gs_50_a_lost_job_fails_where_that_is_the_setting() {
    let server = server_with(|builder| builder.on_worker_lost(OnLoss::Fail));
    let (mut client, mut dying) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    dying.grab();
    drop(dying);
    client.expect_packet(Kind::WorkFail, &[&handle]);
    client.wait_for_status("f", [0, 0, 0]);
}

#[test]
fn gs_50_hand_outs_are_limited() {
    let server = server_with(|builder| builder.job_retries(2));
    let mut client = Peer::new(&server);
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    for attempt in 1..=2 {
        let mut dying = Peer::worker(&server, &["f"]);
        assert_eq!(dying.grab().0, handle, "hand-out {attempt}");
        drop(dying);
        if attempt == 1 {
            client.wait_for_status("f", [1, 0, 0]);
        }
    }
    client.expect_packet(Kind::WorkFail, &[&handle]);
    Peer::worker(&server, &["f"]).grab_nothing();
}

#[test]
fn jobs_for_later_are_held_until_their_time() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut submit = |at: u64, payload: &[u8]| {
        client.send(Kind::SubmitJobEpoch, &[b"f", b"", at.to_string().as_bytes(), payload]);
        client.expect(Kind::JobCreated).args.remove(0)
    };
    let much_later = submit(now + 1000, b"much later");
    submit(now + 1, b"soon");
    submit(now - 1, b"past");
    assert_eq!(worker.grab().1, b"past");
    // Its time wakes a sleeper.
    worker.send(Kind::PreSleep, &[]);
    worker.expect(Kind::Noop);
    assert_eq!(worker.grab().1, b"soon");
    worker.grab_nothing();
    assert_eq!(client.status("f"), Some([3, 2, 1]));
    assert_eq!(client.ask(&format!("cancel job {}", String::from_utf8_lossy(&much_later))), "OK");
    assert_eq!(client.status("f"), Some([2, 2, 1]));
}

#[test]
fn reducers_reach_workers_that_ask() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    for body in [&b"f\0u1\0sum\0\0pay\0load"[..], b"f\0u2\0sum\0pay"] {
        client.send_raw(Kind::SubmitReduceJob.code(), body);
        let handle = client.expect(Kind::JobCreated).args.remove(0);
        worker.send(Kind::GrabJobAll, &[]);
        let got = worker.expect(Kind::JobAssignAll);
        assert_eq!((&got.args[0], got.text(1), got.text(3)), (&handle, "f", "sum"));
        worker.complete(&handle, b"");
        client.expect(Kind::WorkComplete);
    }
    client.send_raw(Kind::SubmitReduceJobBackground.code(), b"f\0\0sum\0\0p");
    client.expect(Kind::JobCreated);
    assert_eq!(worker.grab().1, b"p");
    client.submit(Kind::SubmitJobBg, "f", b"key", b"plain");
    worker.send(Kind::GrabJobAll, &[]);
    assert_eq!(worker.expect(Kind::JobAssignUniq).args[2..], [b"key".to_vec(), b"plain".to_vec()]);
}

#[test]
fn a_cancelled_job_fails_once() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let queued = client.submit(Kind::SubmitJob, "f", b"", b"1");
    let mut admin = Peer::new(&server);
    let mut cancel = |handle: &[u8]| admin.ask(&format!("cancel job {}", String::from_utf8_lossy(handle)));
    assert_eq!(cancel(&queued), "OK");
    client.expect_packet(Kind::WorkFail, &[&queued]);
    assert!(cancel(&queued).starts_with("ERR UNKNOWN_JOB"));
    worker.grab_nothing();
    // A running one, too: what its worker says later is not wrong, but late.
    let running = client.submit(Kind::SubmitJob, "f", b"", b"2");
    worker.grab();
    assert_eq!(cancel(&running), "OK");
    client.expect_packet(Kind::WorkFail, &[&running]);
    worker.send(Kind::WorkStatus, &[&running, b"1", b"2"]);
    worker.complete(&running, b"late");
    worker.expect_nothing();
    client.expect_nothing();
}

/// Names are any bytes but NUL.
#[test]
fn odd_names() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::new(&server));
    let longest = vec![b'x'; 512];
    for name in [
        &b"two words"[..],
        "gr\u{fc}\u{df}e".as_bytes(),
        b"latin \xfc",
        b"tab\tand\nline",
        b"Case",
        b"case",
        b"\\x41",
        b"A",
        &longest,
    ] {
        worker.send(Kind::CanDo, &[name]);
        client.send(Kind::SubmitJob, &[name, b"", b"payload"]);
        let handle = client.expect(Kind::JobCreated).args.remove(0);
        worker.send(Kind::GrabJob, &[]);
        worker.expect_packet(Kind::JobAssign, &[&handle, name, b"payload"]);
        worker.complete(&handle, b"");
        client.expect(Kind::WorkComplete);
    }
    assert_eq!(client.rows("status").len(), 9, "each has a line of its own");
}
