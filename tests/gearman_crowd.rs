//! Ten thousand connections: what each takes, and whether anybody else notices.
#![cfg(feature = "gearman")]

#[path = "common/child.rs"]
mod child;
#[path = "common/peer.rs"]
mod peer;

use child::{ServerProcess, limit_files, serve_if_asked};
use layshaft::gearman::packet::Kind;
use peer::Peer;
use std::time::{Duration, Instant};

const CROWD: usize = 10_000;
/// Files that either side needs besides.
const OTHERS: usize = 100;

/// Started again in a process of its own by the tests below.
#[test]
fn server_process() {
    serve_if_asked(|_, builder| {
        limit_files((CROWD + OTHERS) as u64);
        builder.listen("127.0.0.1:0")
    });
}

#[test]
fn ten_thousand_connections() {
    let files = limit_files((CROWD + OTHERS) as u64) as usize;
    let crowd = CROWD.min(files - OTHERS);
    let server = ServerProcess::start("crowd");
    let mut bystander = Peer::at(server.address);
    // Whoever is greeted is accepted; what is counted is what stays.
    let greeted = |peer: &mut Peer| peer.send(Kind::EchoReq, &[b"hello"]);
    let mut warm: Vec<Peer> = (0..100).map(|_| Peer::at(server.address)).collect();
    warm.iter_mut().for_each(Peer::expect_nothing);
    drop(warm);
    bystander.expect_nothing();
    let before = server.resident();
    let mut peers = Vec::with_capacity(crowd);
    let mut longest = Duration::ZERO;
    for _ in 0..crowd / 100 {
        let mut some: Vec<Peer> = (0..100).map(|_| Peer::at(server.address)).collect();
        some.iter_mut().for_each(greeted);
        let start = Instant::now();
        bystander.expect_nothing();
        longest = longest.max(start.elapsed());
        some.iter_mut().for_each(|peer| _ = peer.expect(Kind::EchoRes));
        peers.append(&mut some);
    }
    let each = server.resident().saturating_sub(before) / peers.len();
    println!("{} connections: {each} bytes each; a bystander waited {longest:?} at most", peers.len());
    assert!(each <= 4096, "{each} bytes for an idle connection");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    assert_eq!(bystander.rows("workers").len(), peers.len() + 1);
    // Idle ones cost nothing.
    bystander.send(Kind::CanDoTimeout, &[b"clock", b"1000"]);
    bystander.submit(Kind::SubmitJob, "clock", b"", b"");
    bystander.grab();
    let worked = server.worked();
    bystander.expect(Kind::WorkFail);
    let worked = server.worked() - worked;
    println!("{worked} hundredths of a second of work in one second");
    assert!(worked < 20, "{worked}");

    // All at once are workers, and one of them is woken.
    for peer in &mut peers {
        peer.send(Kind::CanDo, &[b"f"]);
        peer.send(Kind::PreSleep, &[]);
    }
    peers.iter_mut().for_each(Peer::settle);
    assert_eq!(bystander.status("f"), Some([0, 0, peers.len()]));
    let each = server.resident().saturating_sub(before) / peers.len();
    println!("{each} bytes each as sleeping workers");
    assert!(each <= 8192, "{each} bytes for a sleeping worker");
    let handle = bystander.submit(Kind::SubmitJob, "f", b"", b"");
    let woken: Vec<usize> = (0..peers.len()).filter(|n| !peers[*n].sync().is_empty()).collect();
    assert_eq!(woken.len(), 1);
    let worker = &mut peers[woken[0]];
    worker.grab();
    worker.complete(&handle, b"");
    bystander.expect(Kind::WorkComplete);

    drop(peers);
    let start = Instant::now();
    while bystander.rows("workers").len() > 1 {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    assert_eq!(bystander.status("f"), Some([0, 0, 0]));
    assert!(server.descriptors() < 40, "{}", server.descriptors());
}

/// What comes and goes leaves nothing behind.
#[test]
fn gs_28_memory_stays_the_same() {
    let server = ServerProcess::start("visitors");
    let mut bystander = Peer::at(server.address);
    let mut visits = |n: usize| {
        for i in 0..n {
            let mut peer = Peer::at(server.address);
            peer.submit(Kind::SubmitJob, "f", format!("{i}").as_bytes(), &[b'x'; 1000]);
            peer.submit(Kind::SubmitJob, &format!("g{}", i % 7), b"", b"");
        }
        bystander.wait_for_status("f", [0, 0, 0]);
        server.resident()
    };
    let before = visits(2000);
    let after = visits(10_000);
    println!("{} KiB, and {} KiB after 10,000 visitors", before >> 10, after >> 10);
    assert!(after < before + (1 << 20), "{before} {after}");
}
