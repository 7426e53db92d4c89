//! Does every byte string get progress, an error or a close, while other connections are served?
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;
#[path = "common/rng.rs"]
#[allow(dead_code)]
mod rng;

use layshaft::gearman::Server;
use layshaft::gearman::packet::{HEADER, Kind, Magic, encode};
use peer::{Got, Peer, server, server_with};
use rng::Rng;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Does something while another client is served; how long that waited at most.
fn while_served(server: &Server, act: impl FnOnce()) -> Duration {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            let mut peer = Peer::new(server);
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::SeqCst) {
                let start = Instant::now();
                peer.expect_nothing();
                longest = longest.max(start.elapsed());
            }
            longest
        });
        // A failure ends the other thread, too.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        is_over.store(true, Ordering::SeqCst);
        let longest = bystander.join().unwrap();
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
        println!("a bystander waited {longest:?} at most");
        assert!(longest < Duration::from_secs(5), "{longest:?}");
        longest
    })
}

/// Writes bytes and nothing more: what comes back, to the end.
fn everything(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // The server may have closed before all is written.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => all,
    }
}

#[test]
fn wrong_magic_and_huge_lengths_close() {
    let server = server();
    while_served(&server, || {
        for (bytes, text) in [
            (&b"\0GET / HTTP/1.1\r\n\r\n"[..], r#"a packet begins with "\x00GET""#),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0", "a packet begins with"),
            (b"\0REQ\0\0\0\x10\xff\xff\xff\xff", "declares a body of 4294967295 bytes"),
            (b"\0REQ\0\0\0\x07\x80\0\0\0", "declares a body of 2147483648 bytes"),
            (b"\0REQ\0\0\0\x07\x04\x01\0\x01", "declares a body of 67174401 bytes"),
            (b"\0RES\xff\xff\xff\xff\xff\xff\xff\xff", "declares a body of 4294967295 bytes"),
        ] {
            let mut peer = Peer::new(&server);
            peer.write(bytes);
            let told = peer.expect_error("invalid_args");
            assert!(told.contains(text), "{told}");
            peer.expect_end();
        }
    });
}

/// The error arrives though the peer goes on sending, which it would not if the socket was closed with something unread.
#[test]
fn who_goes_on_sending_is_told_why_not() {
    let server = server();
    let mut peer = Peer::new(&server);
    peer.write(b"\0REQ\0\0\0\x07\xff\xff\xff\xff");
    peer.write(&vec![b'x'; 3 << 20]);
    assert!(peer.expect_error("invalid_args").contains("4294967295"));
    peer.half_close();
    peer.expect_end();
}

#[test]
fn unknown_and_server_only_types_leave_the_connection_usable() {
    let server = server();
    while_served(&server, || {
        let mut peer = Peer::new(&server);
        for code in [0, 5, 43, 99, 255, 1 << 31, (1 << 31) | 7, u32::MAX] {
            for body in [&b""[..], b"x", b"a\0b\0c"] {
                peer.send_raw(code, body);
                peer.expect_error("INVALID_COMMAND");
            }
        }
        for kind in [
            Kind::Noop,
            Kind::JobCreated,
            Kind::NoJob,
            Kind::JobAssign,
            Kind::EchoRes,
            Kind::Error,
            Kind::StatusRes,
            Kind::OptionRes,
            Kind::JobAssignUniq,
            Kind::JobAssignAll,
            Kind::StatusResUnique,
        ] {
            peer.send_raw(kind.code(), b"a\0b\0c\0d\0e\0f\0g");
            peer.expect_error("INVALID_COMMAND");
            peer.send_raw(kind.code(), b"");
            peer.expect(Kind::Error);
        }
        peer.expect_nothing();
    });
}

/// With too few arguments each gets an error, and the next packet is read from its beginning.
#[test]
fn too_few_arguments() {
    let server = server();
    let mut peer = Peer::new(&server);
    for kind in Kind::ALL.iter().filter(|kind| kind.arity().0 > 1) {
        for n in 1..kind.arity().0 {
            let body = vec!["abc"; n].join("\0");
            peer.send_raw(kind.code(), body.as_bytes());
            peer.expect(Kind::Error);
            peer.expect_nothing();
        }
    }
}

#[test]
fn bodies_of_types_without_any_are_ignored() {
    let server = server();
    let mut peer = Peer::worker(&server, &["f"]);
    for kind in [Kind::AllYours, Kind::ResetAbilities] {
        peer.send_raw(kind.code(), &vec![0; 1000]);
    }
    peer.send_raw(Kind::GrabJob.code(), b"\0REQ\0\0\0\x10\0\0\0\x01x");
    peer.expect(Kind::NoJob);
    peer.expect_nothing();
    assert!(peer.rows("workers")[0].ends_with(" :"), "the abilities are reset");
}

/// Arguments that are all of a body may hold NULs, which no answer can repeat between others.
#[test]
fn nuls_in_single_arguments() {
    let server = server();
    while_served(&server, || {
        let mut peer = Peer::new(&server);
        peer.send(Kind::GetStatus, &[b"a\0b"]);
        peer.expect_error("invalid_args");
        peer.send(Kind::GetStatusUnique, &[b"a\0b"]);
        peer.expect_error("invalid_args");
        peer.send(Kind::CanDo, &[b"a\0b"]);
        peer.expect_error("invalid_args");
        peer.write(b"create function a\\x00b\n");
        assert!(peer.line().starts_with("ERR "));
        peer.send(Kind::CantDo, &[b"a\0b"]);
        peer.send(Kind::OptionReq, &[b"exceptions\0"]);
        peer.expect_error("unknown_option");
        peer.send(Kind::EchoReq, &[b"\0a\0"]);
        peer.expect_packet(Kind::EchoRes, &[b"\0a\0"]);

        // What a worker tells is passed on, and asked for later.
        peer.submit(Kind::SubmitJob, "f", b"key", b"");
        let mut worker = Peer::worker(&server, &["f"]);
        let (handle, _) = worker.grab();
        worker.send(Kind::WorkStatus, &[&handle, b"1", b"2\0\x003"]);
        worker.sync();
        assert_eq!(peer.next().unwrap().kind, Kind::WorkStatus);
        peer.send(Kind::GetStatusUnique, &[b"key"]);
        assert_eq!(peer.expect(Kind::StatusResUnique).args[1..3], [b"1", b"1"]);
        peer.send(Kind::GetStatus, &[&handle]);
        assert_eq!(peer.expect(Kind::StatusRes).args[1..3], [b"1", b"1"]);
        worker.complete(&handle, b"a\0b");
        peer.expect_packet(Kind::WorkComplete, &[&handle, b"a\0b"]);
        assert!(server.addresses()[0].port() > 0);
    });
}

#[test]
fn other_protocols_get_a_line_or_a_close() {
    let server = server_with(|builder| builder);
    while_served(&server, || {
        let told = everything(&server, b"GET / HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n");
        let told = String::from_utf8(told).unwrap();
        assert_eq!(told.matches("ERR UNKNOWN_COMMAND").count(), 4, "{told}");
        let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 300]].concat();
        let told = everything(&server, &hello);
        assert!(told.ends_with(b"tls_unexpected\0this port speaks without TLS"), "{}", told.escape_ascii());
        for line in [vec![b'x'; 1 << 20], vec![0xff; 1 << 20], vec![0x16; 9000]] {
            let told = String::from_utf8(everything(&server, &line)).unwrap();
            assert!(told.starts_with("ERR LINE_TOO_LONG "), "{told}");
        }
        let escapes = everything(&server, b"\x1b[2J\x07\xff\xfe\n");
        assert!(escapes.starts_with(b"ERR ") && escapes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b' '..=b'~')));
    });
}

/// Any mixture of packets, whole and broken, with handles that exist, on several connections.
#[test]
fn packets_in_any_order() {
    let server = server_with(|builder| builder.allow_shutdown(false));
    let mut rng = Rng::new(rng::seed("packets_in_any_order"));
    while_served(&server, || {
        let mut peers: Vec<Peer> = (0..4).map(|_| Peer::new(&server)).collect();
        let mut handles: Vec<Vec<u8>> = vec![b"H:test:1".to_vec()];
        for round in 0..3000 {
            let bytes = any_packet(&mut rng, &handles);
            let n = below(&mut rng, peers.len());
            peers[n].write(&bytes);
            if round % 7 == 0 {
                for got in peers[n].sync() {
                    note_handle(&mut handles, got);
                }
            }
            if below(&mut rng, 40) == 0 {
                peers[n] = Peer::new(&server);
            }
        }
        peers.iter_mut().for_each(|peer| _ = peer.sync());
    });
}

fn below(rng: &mut Rng, limit: usize) -> usize {
    rng.below(limit as u64) as usize
}

fn note_handle(handles: &mut Vec<Vec<u8>>, mut got: Got) {
    if matches!(got.kind, Kind::JobCreated | Kind::JobAssign | Kind::JobAssignUniq | Kind::JobAssignAll) {
        handles.push(got.args.swap_remove(0));
        if handles.len() > 20 {
            handles.remove(0);
        }
    }
}

fn any_packet(rng: &mut Rng, handles: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let words: [&[u8]; 10] = [b"f", b"g", b"", b"-", b"k", b"\xff\xfe", b"1", b"0", b"99999999999999999999", b"x\ny"];
    let mut kind = Kind::ALL[below(rng, Kind::ALL.len())];
    if kind == Kind::EchoReq {
        kind = Kind::GrabJob;
    }
    let mut args: Vec<&[u8]> = (0..kind.arity().1).map(|_| words[below(rng, words.len())]).collect();
    if below(rng, 2) == 0 && !args.is_empty() {
        args[0] = &handles[below(rng, handles.len())];
    }
    let magic = if below(rng, 10) == 0 { Magic::Response } else { Magic::Request };
    encode(&mut bytes, magic, kind, &args);
    // Broken: NULs put in or taken out, bytes changed behind the header.
    if below(rng, 4) == 0 && bytes.len() > HEADER {
        let at = HEADER + below(rng, bytes.len() - HEADER);
        bytes[at] = if below(rng, 2) == 0 { 0 } else { b'#' };
    }
    bytes
}

/// Each read ends within a packet, for longer than a packet may take.
#[test]
fn a_steady_sender_is_not_late() {
    let server = server_with(|builder| builder.deadlines(Duration::from_millis(300), Duration::from_secs(60)));
    let mut clock = Peer::worker(&server, &[]);
    clock.send(Kind::CanDoTimeout, &[b"clock", b"2500"]);
    clock.submit(Kind::SubmitJob, "clock", b"", b"");
    clock.grab();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut peer = Peer::new(&server);
            let mut packet = Vec::new();
            encode(&mut packet, Magic::Request, Kind::EchoReq, &[b"steady"]);
            peer.write(&packet[..5]);
            let mut sent = 0;
            while !is_over.load(Ordering::SeqCst) {
                peer.write(&[&packet[5..], &packet[..5]].concat());
                peer.expect_packet(Kind::EchoRes, &[b"steady"]);
                sent += 1;
            }
            sent
        });
        clock.expect(Kind::WorkFail);
        is_over.store(true, Ordering::SeqCst);
        assert!(sender.join().unwrap() > 0);
    });
}

/// Short commands with long answers: the answers wait for their reader, not in memory.
#[test]
fn long_answers_are_not_made_before_they_are_read() {
    let server = server();
    let mut peer = Peer::new(&server);
    for i in 0..2000 {
        peer.submit(Kind::SubmitJobBg, &format!("function-{i:0100}"), b"", b"");
    }
    while_served(&server, || {
        let mut greedy = TcpStream::connect(server.addresses()[0]).unwrap();
        let lines = b"status\n".repeat(3000);
        greedy.write_all(&lines).unwrap();
        // What it would be all together: 3,000 tables of 220 KB.
        peer.expect_nothing();
        let mut told = 0;
        greedy.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut part = vec![0; 1 << 16];
        while told < 100 {
            let n = greedy.read(&mut part).unwrap();
            told += part[..n].windows(3).filter(|window| window == b"\n.\n").count();
        }
    });
}

/// A look at each function, for each packet: others get their turn between.
#[test]
fn costly_questions_do_not_hold_up_others() {
    let server = server();
    let mut peer = Peer::new(&server);
    for i in 0..5000 {
        peer.send(Kind::CanDo, &[format!("function-{i}").as_bytes()]);
    }
    peer.expect_nothing();
    let mut packet = Vec::new();
    encode(&mut packet, Magic::Request, Kind::GetStatusUnique, &[b"k"]);
    let questions = packet.repeat(2000);
    while_served(&server, || {
        peer.write(&questions);
        for _ in 0..2000 {
            peer.expect(Kind::StatusResUnique);
        }
    });
}
