//! Listeners and connections of a server, as the ancestors' tables ask for them.
#![cfg(feature = "gearman")]

#[path = "common/child.rs"]
mod child;
#[path = "common/peer.rs"]
mod peer;

use child::{ServerProcess, limit_files, serve_if_asked};
use layshaft::Engine;
use layshaft::gearman::packet::{Kind, Magic, encode};
use layshaft::gearman::{Answer, Server};
use peer::{Peer, server, server_with};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

/// Started again in a process of its own by the tests below.
#[test]
fn server_process() {
    serve_if_asked(|how, builder| match how.split_once(' ').unwrap_or((how, "")) {
        ("listeners", n) => (0..n.parse().unwrap()).fold(builder, |builder, _| builder.listen("127.0.0.1:0")),
        ("files", n) => {
            limit_files(n.parse().unwrap());
            builder.listen("127.0.0.1:0")
        }
        ("sigpipe", path) => {
            // SAFETY: no handler is installed, the default is.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            builder.listen("127.0.0.1:0").listen_unix(path)
        }
        ("memory", _) => builder.listen("127.0.0.1:0"),
        _ => panic!("{how}"),
    });
}

#[test]
fn gs_01_exactly_the_listeners_that_were_asked_for() {
    for n in 0..3 {
        let server = ServerProcess::start(&format!("listeners {n}"));
        assert_eq!(server.listeners(), n);
    }
}

#[test]
fn gs_09_several_listeners() {
    let path = std::env::temp_dir().join(format!("layshaft-gs09-{}", std::process::id()));
    let server = server_with(|builder| builder.listen("127.0.0.1:0").listen("[::1]:0").listen_unix(&path));
    assert_eq!(server.addresses().len(), 3);
    for address in server.addresses() {
        assert_eq!(Peer::at(*address).ask("version"), format!("OK {}", env!("CARGO_PKG_VERSION")));
    }
    assert!(Peer::over_unix(UnixStream::connect(&path).unwrap()).ask("version").starts_with("OK "));
    let taken = server.addresses()[0].to_string();
    let engine = Engine::builder().workers(1).start().unwrap();
    let error = Server::builder(&engine).listen(&taken).start().unwrap_err();
    assert!(error.to_string().contains(&taken), "{error}");
    drop(server);
    assert!(!path.exists());
}

/// So many are more than a turn may answer.
const QUESTIONS: usize = 6000;

/// The server's thread is held while all that waits; then it takes a batch of connections, and the busy client has its turn.
#[test]
fn gs_10_a_burst_of_connections_does_not_hold_up_a_client() {
    let engine = Engine::builder().workers(1).start().unwrap();
    let server = Server::builder(&engine).listen("127.0.0.1:0").accept_batch(10).start().unwrap();
    let (entered, enter) = mpsc::channel();
    let (leave, left) = mpsc::channel::<()>();
    let (entered, left) = (std::sync::Mutex::new(entered), std::sync::Mutex::new(left));
    let hold = engine.function("hold", |(): ()| ()).unwrap();
    let held = move |_: &[u8]| {
        entered.lock().unwrap().send(()).unwrap();
        left.lock().unwrap().recv().map_err(|error| error.to_string())
    };
    server.serve(&hold, held, |()| Answer::Result(Vec::new())).unwrap();

    let mut busy = Peer::new(&server);
    busy.expect_nothing();
    let mut holder = Peer::new(&server);
    holder.send(Kind::SubmitJob, &[b"hold", b"", b""]);
    enter.recv().unwrap();
    let crowd: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(server.addresses()[0]).unwrap()).collect();
    // More than one turn is allowed to answer: each of the next ones takes a batch of connections.
    busy.write("workers\n".repeat(QUESTIONS).as_bytes());
    leave.send(()).unwrap();
    let rows: Vec<usize> = (0..QUESTIONS).map(|_| busy.table().len()).collect();
    let most = rows.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    println!("{} to {} connections while 500 wait, at most {most} between two answers", rows[0], rows[QUESTIONS - 1]);
    assert!(rows[QUESTIONS - 1] > rows[0], "all in one turn");
    assert!(most <= 10, "{most} connections came between two answers");
    drop(crowd);
}

#[test]
fn gs_11_no_file_descriptors_left() {
    let server = ServerProcess::start("files 40");
    let mut old = Peer::at(server.address);
    old.expect_nothing();
    let crowd: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    // A second as the server measures it.
    let mut worker = old;
    worker.send(Kind::CanDoTimeout, &[b"clock", b"1000"]);
    worker.submit(Kind::SubmitJob, "clock", b"", b"");
    worker.grab();
    let before = server.worked();
    worker.expect(Kind::WorkFail);
    let worked = server.worked() - before;
    println!("{worked} hundredths of a second of work in one second, with {} files", server.descriptors());
    assert!(server.descriptors() >= 40, "{}", server.descriptors());
    assert!(worked < 20, "{worked}");
    drop(crowd);
    Peer::at(server.address).expect_nothing();
    worker.expect_nothing();
}

#[test]
fn gs_14_a_client_and_a_worker_without_a_port() {
    let engine = Engine::builder().workers(1).start().unwrap();
    let server = Server::builder(&engine).start().unwrap();
    assert!(server.addresses().is_empty());
    let mut client = Peer::over_unix(server.connect_local().unwrap());
    let mut worker = Peer::over_unix(server.connect_local().unwrap());
    worker.send(Kind::CanDo, &[b"f"]);
    worker.send(Kind::PreSleep, &[]);
    worker.settle();
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"abc");
    worker.expect(Kind::Noop);
    assert_eq!(worker.grab(), (handle.clone(), b"abc".to_vec()));
    worker.complete(&handle, b"cba");
    client.expect_packet(Kind::WorkComplete, &[&handle, b"cba"]);
    assert!(client.rows("workers").iter().all(|row| row.contains(" [local] - :")));
    server.end();
    server.wait();
    assert!(server.connect_local().is_err(), "there is nobody to connect to");
    client.expect_end();
}

/// A worker that speaks the protocol over its standard input and output, and ends when they do.
const STDIO_WORKER: &str = r#"
    exit 9 unless $ENV{GEARMAN_WORKER_USE_STDIO};
    binmode STDIN; binmode STDOUT; $SIG{PIPE} = sub { exit 0 };
    sub put { my ($type, $body) = @_; syswrite STDOUT, pack("a4NN", "\0REQ", $type, length $body) . $body }
    sub get { my $n = shift; my $all = ""; while (length $all < $n) { sysread(STDIN, $all, $n - length $all, length $all) or exit 0 } $all }
    put(1, "turn");
    put(9, "");
    while (1) {
        my (undef, $type, $n) = unpack "a4NN", get(12);
        my $body = get($n);
        if ($type == 10) { put(4, "") }
        elsif ($type == 6) { put(9, "") }
        elsif ($type == 11) { my ($h, $f, $x) = split /\0/, $body, 3; put(13, "$h\0" . reverse $x); put(9, "") }
    }
"#;

#[test]
fn gs_15_a_worker_over_its_standard_input_and_output() {
    let server = server();
    let mut command = Command::new("perl");
    command.args(["-e", STDIO_WORKER]);
    let mut child = server.spawn_worker(command).unwrap();
    let mut client = Peer::new(&server);
    let handle = client.submit(Kind::SubmitJob, "turn", b"", b"abc");
    client.expect_packet(Kind::WorkComplete, &[&handle, b"cba"]);
    assert!(client.rows("workers").iter().any(|row| row.contains(" [gearman_child] - : turn")));
    drop(server);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let missing = Server::builder(&Engine::builder().workers(1).start().unwrap()).start().unwrap();
    assert!(missing.spawn_worker(Command::new("/no/such/program")).is_err());
}

#[test]
fn gs_51_four_gigabytes_are_announced() {
    let server = ServerProcess::start("memory");
    Peer::at(server.address).expect_nothing();
    let before = server.resident();
    for _ in 0..50 {
        let mut peer = Peer::at(server.address);
        peer.write(b"\0REQ\0\0\0\x07\xff\xff\xff\xff");
        peer.write(&vec![b'x'; 5 << 20]);
        peer.expect_error("invalid_args");
        peer.half_close();
        peer.expect_end();
    }
    // What is announced and accepted takes memory as it comes.
    let mut waiting: Vec<Peer> = (0..50).map(|_| Peer::at(server.address)).collect();
    for peer in &mut waiting {
        peer.write(b"\0REQ\0\0\0\x07\x04\0\0\0");
    }
    // Piece by piece, each of which is read for itself.
    for _ in 0..3 {
        Peer::at(server.address).expect_nothing();
        waiting.iter_mut().for_each(|peer| peer.write(b"x"));
    }
    Peer::at(server.address).expect_nothing();
    let more = server.resident().saturating_sub(before);
    println!("{} KiB more than before", more >> 10);
    assert!(more < 4 << 20, "{more}");
}

#[test]
fn gs_51_large_payloads_both_ways() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let mut bystander = Peer::new(&server);
    for size in [100 << 10, 128 << 10, (128 << 10) + 10, 190 << 10, 1 << 20, 8 << 20, 64 << 20] {
        let payload: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        std::thread::scope(|scope| {
            let (client, payload) = (&mut client, &payload);
            let submitted = scope.spawn(move || client.submit(Kind::SubmitJob, "f", b"", payload));
            bystander.expect_nothing();
            let handle = submitted.join().unwrap();
            worker.send(Kind::GrabJob, &[]);
            assert!(worker.expect(Kind::JobAssign).args[2] == *payload, "{size} bytes");
            worker.complete(&handle, payload);
        });
        assert!(client.expect(Kind::WorkComplete).args[1] == payload, "{size} bytes");
    }
}

/// A large packet comes in pieces of any size.
#[test]
fn gs_51_large_payloads_in_pieces() {
    let server = server();
    let mut peer = Peer::new(&server);
    for (size, piece) in [(200 << 10, 1000), (140 << 10, 131_072 - 12), (300 << 10, 65_537), (131_060, 131_071)] {
        let mut packet = Vec::new();
        encode(&mut packet, Magic::Request, Kind::EchoReq, &[&vec![7; size]]);
        for part in packet.chunks(piece) {
            peer.write(part);
            Peer::new(&server).expect_nothing();
        }
        assert_eq!(peer.expect(Kind::EchoRes).args[0].len(), size);
    }
}

#[test]
fn gs_52_text_and_packets_on_one_port() {
    let server = server();
    let mut peer = Peer::new(&server);
    for odd in ["x", "!foo", "", " ", "\u{e9}", "\x1b"] {
        assert!(peer.ask(odd).starts_with("ERR UNKNOWN_COMMAND"), "{odd:?}");
        assert!(peer.ask("version").starts_with("OK "));
        peer.expect_nothing();
    }
    assert_eq!(peer.ask("VeRsIoN\r"), format!("OK {}", env!("CARGO_PKG_VERSION")));
    // A byte at a time, and the other kind right behind.
    let mut bytes = b"status\r\n".to_vec();
    encode(&mut bytes, Magic::Request, Kind::EchoReq, &[b"one\0two"]);
    bytes.extend_from_slice(b"x\nversion\n");
    for byte in &bytes {
        peer.write(&[*byte]);
        Peer::new(&server).expect_nothing();
    }
    assert_eq!(peer.line(), ".");
    peer.expect_packet(Kind::EchoRes, &[b"one\0two"]);
    assert!(peer.line().starts_with("ERR ") && peer.line().starts_with("OK "));
}

#[cfg(feature = "peers")]
#[test]
fn gs_53_nc_gets_its_answer() {
    let server = server();
    let port = server.addresses()[0].port();
    let mut command = Command::new("nc");
    let mut nc = command.args(["-N", "127.0.0.1", &port.to_string()]);
    nc = nc.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut nc = nc.spawn().unwrap();
    nc.stdin.take().unwrap().write_all(b"version\n").unwrap();
    let told = nc.wait_with_output().unwrap().stdout;
    assert_eq!(String::from_utf8(told).unwrap(), format!("OK {}\n", env!("CARGO_PKG_VERSION")));
}

/// More than fits on the way, and read late.
#[test]
fn gs_53_the_answers_come_after_a_half_close() {
    let server = server();
    let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
    let mut bytes = Vec::new();
    encode(&mut bytes, Magic::Request, Kind::CanDo, &[b"f"]);
    encode(&mut bytes, Magic::Request, Kind::EchoReq, &[&vec![1; 30 << 20]]);
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    Peer::new(&server).expect_nothing();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).unwrap();
    assert_eq!(told.len(), 12 + (30 << 20));
}

#[test]
fn gs_53_a_half_closed_client_hears_of_its_running_job() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    client.submit(Kind::SubmitJob, "f", b"", b"");
    let (handle, _) = worker.grab();
    client.half_close();
    worker.send(Kind::WorkData, &[&handle, b"part"]);
    worker.expect_nothing();
    worker.complete(&handle, b"done");
    client.expect_packet(Kind::WorkData, &[&handle, b"part"]);
    client.expect_packet(Kind::WorkComplete, &[&handle, b"done"]);
    client.expect_end();
}

/// The end that comes with more bytes than one read takes is seen.
#[test]
fn the_end_behind_many_bytes() {
    let server = server();
    let mut observer = Peer::new(&server);
    observer.expect_nothing();
    for _ in 0..20 {
        let mut peer = Peer::new(&server);
        let mut bytes = Vec::new();
        for _ in 0..20_000 {
            encode(&mut bytes, Magic::Request, Kind::CanDo, &[b"f"]);
        }
        peer.write(&bytes);
    }
    wait_for_connections(&mut observer, 1);
}

fn wait_for_connections(observer: &mut Peer, n: usize) {
    let start = std::time::Instant::now();
    while observer.rows("workers").len() != n {
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", observer.rows("workers"));
        std::thread::yield_now();
    }
}

#[test]
fn gs_68_peers_that_are_gone_while_they_are_answered() {
    let path = std::env::temp_dir().join(format!("layshaft-gs68-{}", std::process::id()));
    let mut server = ServerProcess::start(&format!("sigpipe {}", path.display()));
    let mut bytes = Vec::new();
    encode(&mut bytes, Magic::Request, Kind::EchoReq, &[&vec![1; 4 << 20]]);
    for _ in 0..10 {
        let mut tcp = TcpStream::connect(server.address).unwrap();
        tcp.write_all(&bytes).unwrap();
        tcp.read_exact(&mut [0; 12]).unwrap();
        drop(tcp);
        let mut unix = UnixStream::connect(&path).unwrap();
        unix.write_all(&bytes).unwrap();
        unix.read_exact(&mut [0; 12]).unwrap();
        drop(unix);
        Peer::at(server.address).expect_nothing();
    }
    assert!(server.is_alive());
}

#[test]
fn a_client_that_reads_nothing() {
    let server = server_with(|builder| builder.deadlines(Duration::from_secs(60), Duration::from_millis(500)));
    let mut observer = Peer::new(&server);
    let mut deaf = TcpStream::connect(server.addresses()[0]).unwrap();
    let mut bytes = Vec::new();
    encode(&mut bytes, Magic::Request, Kind::EchoReq, &[&vec![1; 16 << 20]]);
    deaf.write_all(&bytes).unwrap();
    observer.expect_nothing();
    // Others are served; and what it is sent it does not take in time.
    wait_for_connections(&mut observer, 1);
    assert_eq!(server.status().counters.slow_readers, 1);
}

#[test]
fn a_message_that_does_not_end() {
    let server = server_with(|builder| builder.deadlines(Duration::from_millis(300), Duration::from_secs(60)));
    let mut idle = Peer::new(&server);
    idle.expect_nothing();
    for bytes in [&b"\0"[..], b"\0REQ\0\0\0\x07\0\0", b"\0REQ\0\0\0\x07\0\0\0\x09abc", b"stat"] {
        let mut peer = Peer::new(&server);
        peer.write(bytes);
        if bytes.starts_with(b"\0") {
            peer.expect_error("too_slow");
        } else {
            assert!(peer.line().starts_with("ERR too_slow "));
        }
        peer.expect_end();
    }
    idle.expect_nothing();
    assert_eq!(server.status().counters.slow_senders, 4);
}

#[test]
fn connections_are_limited() {
    let server = server_with(|builder| builder.connections(3).connections_of_peer(2).listen("[::1]:0"));
    let mut first = Peer::new(&server);
    let mut second = Peer::new(&server);
    first.expect_nothing();
    second.expect_nothing();
    let mut third = Peer::new(&server);
    let told = third.expect_error("too_many_connections");
    assert_eq!(told, "there are 2 connections from this address already, and no more are accepted");
    third.expect_end();
    let mut other = Peer::at(server.addresses()[1]);
    other.expect_nothing();
    let mut fourth = Peer::over_unix(server.connect_local().unwrap());
    assert!(fourth.expect_error("too_many_connections").starts_with("there are 3 connections already"));
    fourth.expect_end();
    drop(second);
    wait_for_connections(&mut first, 2);
    Peer::new(&server).expect_nothing();
}
