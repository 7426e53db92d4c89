//! Peers that send or read too slowly, or ask again and again for nothing: what do they cost others?
#![cfg(feature = "gearman")]

#[path = "common/child.rs"]
mod child;
#[path = "common/peer.rs"]
mod peer;

use child::{ServerProcess, limit_files, serve_if_asked};
use layshaft::gearman::packet::{self, Kind, Magic};
use peer::{Peer, server};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// Connections that send a message byte by byte.
const SENDERS: usize = 2000;
/// Connections that do not read their answers.
const READERS: usize = 10;
/// Files that either side needs besides.
const OTHERS: usize = 100;
/// What a message may take, and how long a peer may read nothing.
const DEADLINE: Duration = Duration::from_secs(1);

/// Started again in a process of its own by the tests below.
#[test]
fn server_process() {
    serve_if_asked(|_, builder| {
        limit_files((SENDERS + READERS + OTHERS) as u64);
        builder.listen("127.0.0.1:0").deadlines(DEADLINE, DEADLINE)
    });
}

/// A peer that asks for one answer after the other, reads none, and has little room for them.
struct Deaf {
    stream: TcpStream,
    question: Vec<u8>,
    sent: usize,
}

impl Deaf {
    fn new(address: SocketAddr) -> Deaf {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut question = Vec::new();
        packet::encode(&mut question, Magic::Request, Kind::EchoReq, &[&[b'x'; 50_000]]);
        Deaf { stream: TcpStream::from(socket), question, sent: 0 }
    }

    /// Asks as much as there is room for: whether it is still heard.
    fn ask(&mut self) -> bool {
        loop {
            match self.stream.write(&self.question[self.sent % self.question.len()..]) {
                Ok(sent) => self.sent += sent,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }
}

/// A client's job, done by a worker that sleeps before.
fn serve_one(client: &mut Peer, worker: &mut Peer) {
    worker.send(Kind::PreSleep, &[]);
    worker.settle();
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    worker.expect(Kind::Noop);
    worker.grab();
    worker.complete(&handle, b"done");
    client.expect_packet(Kind::WorkComplete, &[&handle, b"done"]);
}

#[test]
fn f28_slow_peers_are_closed_and_the_others_served() {
    let files = limit_files((SENDERS + READERS + OTHERS) as u64) as usize;
    let senders = SENDERS.min(files - READERS - OTHERS);
    let server = ServerProcess::start("slow");
    let (mut client, mut worker) = (Peer::at(server.address), Peer::at(server.address));
    worker.send(Kind::CanDo, &[b"f"]);
    serve_one(&mut client, &mut worker);
    let before = server.descriptors();
    let mut slow: Vec<TcpStream> = (0..senders).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let mut deaf: Vec<Deaf> = (0..READERS).map(|_| Deaf::new(server.address)).collect();
    let (start, mut longest, mut most) = (Instant::now(), Duration::ZERO, 0);
    let mut bytes = b"\0REQ\0\0\0\x12\0\x10\0\0never\0\0".iter().copied().chain(std::iter::repeat(b'x'));
    loop {
        let byte = bytes.next().unwrap();
        // Those that are closed cannot send any more.
        slow.retain_mut(|stream| stream.write_all(&[byte]).is_ok());
        deaf.retain_mut(Deaf::ask);
        let now = Instant::now();
        serve_one(&mut client, &mut worker);
        longest = longest.max(now.elapsed());
        let there = server.descriptors() - before;
        most = most.max(there);
        if there == 0 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{there} slow peers are left");
    }
    println!("{senders} slow senders and {READERS} readers: {most} at once, all gone after {:?}", start.elapsed());
    println!("a job took {longest:?} at most");
    assert!(start.elapsed() >= DEADLINE, "nobody had the time that there is");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    assert_eq!(client.status("never"), None);
    serve_one(&mut client, &mut worker);
}

/// A worker that sleeps and asks in turns is not woken unless there is a job.
#[test]
fn f30_no_work_is_no_wake_up() {
    let server = server();
    let mut worker = Peer::worker(&server, &["f", "g"]);
    let mut others: Vec<Peer> = (0..10).map(|_| Peer::worker(&server, &["f"])).collect();
    for other in &mut others {
        other.send(Kind::PreSleep, &[]);
        other.settle();
    }
    for kind in [Kind::GrabJob, Kind::GrabJobUniq, Kind::GrabJobAll].into_iter().cycle().take(3000) {
        worker.send(Kind::PreSleep, &[]);
        worker.send(kind, &[]);
        worker.expect(Kind::NoJob);
    }
    others.iter_mut().for_each(Peer::expect_nothing);
    let counters = server.status().counters;
    assert_eq!((counters.wakes, counters.handed_out, counters.errors), (0, 0, 0));
    // The job that comes at last wakes one of them.
    worker.send(Kind::PreSleep, &[]);
    worker.settle();
    Peer::new(&server).submit(Kind::SubmitJobBg, "f", b"", b"");
    others.push(worker);
    assert_eq!(others.iter_mut().map(|worker| worker.sync().len()).sum::<usize>(), 1);
    assert_eq!(server.status().counters.wakes, 1);
}

/// With sleepers and a job in hand, for a second as the server measures it.
#[test]
fn f30_an_idle_server_does_nothing() {
    let server = server();
    let process = ServerProcess::start("idle");
    let mut kept = Vec::new();
    let mut clock = |address: SocketAddr| {
        for _ in 0..10 {
            let mut sleeper = Peer::at(address);
            sleeper.send(Kind::CanDo, &[b"f"]);
            sleeper.send(Kind::PreSleep, &[]);
            sleeper.settle();
            kept.push(sleeper);
        }
        let mut clock = Peer::at(address);
        clock.send(Kind::CanDoTimeout, &[b"clock", b"1000"]);
        clock.submit(Kind::SubmitJob, "clock", b"", b"");
        clock.grab();
        clock.expect_nothing();
        clock
    };
    let mut ticks = clock(server.addresses()[0]);
    let before = server.status().counters;
    ticks.expect(Kind::WorkFail);
    let after = server.status().counters;
    let turns = after.waits - before.waits;
    println!("{turns} turns, {} reads, {} writes", after.reads - before.reads, after.writes - before.writes);
    // The end of the job is one; and what was asked last may have been counted after it was answered.
    assert!(turns <= 5, "{turns}");
    assert!(after.reads - before.reads <= 2 && after.writes - before.writes <= 2, "{before:?} {after:?}");

    let mut ticks = clock(process.address);
    let before = process.worked();
    ticks.expect(Kind::WorkFail);
    let worked = process.worked() - before;
    println!("{worked} hundredths of a second of work in one second");
    assert!(worked <= 5, "{worked}");
}
