//! What a server does for a job, counted: calls into the kernel, and wake-ups.
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;

use layshaft::gearman::packet::{self, Kind, Magic};
use layshaft::gearman::{Server, ServerCounters};
use peer::{Peer, server};

const JOBS: u64 = 1000;

fn counters(server: &Server) -> ServerCounters {
    server.status().counters
}

/// Everything that comes at once is read at once, and everything that there is to say is said at once.
#[test]
fn answers_leave_once_a_turn() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    worker.sync();
    let before = counters(&server);

    // 42 kB in one piece.
    let mut bytes = Vec::new();
    (0..JOBS).for_each(|_| packet::encode(&mut bytes, Magic::Request, Kind::SubmitJob, &[b"f", b"", b"0123456789"]));
    client.write(&bytes);
    let handles: Vec<Vec<u8>> = (0..JOBS).map(|_| client.expect(Kind::JobCreated).args.remove(0)).collect();
    let mut bytes = Vec::new();
    (0..JOBS).for_each(|_| packet::encode(&mut bytes, Magic::Request, Kind::GrabJob, &[]));
    worker.write(&bytes);
    (0..JOBS).for_each(|_| _ = worker.expect(Kind::JobAssign));
    let mut bytes = Vec::new();
    handles.iter().for_each(|handle| packet::encode(&mut bytes, Magic::Request, Kind::WorkComplete, &[handle, b"r"]));
    worker.write(&bytes);
    (0..JOBS).for_each(|_| _ = client.expect(Kind::WorkComplete));

    // Flushing for each packet would be 3,000 writes.
    let after = counters(&server);
    let (reads, writes, waits) = (after.reads - before.reads, after.writes - before.writes, after.waits - before.waits);
    println!("{JOBS} jobs: {reads} reads, {writes} writes, {waits} waits");
    assert!(reads < JOBS / 10, "{reads} reads");
    assert!(writes < JOBS / 10, "{writes} writes");
    assert!(waits < JOBS / 10, "{waits} waits");
}

/// A job at a time costs what it must: a read of each of the three messages that come one after the other, and a write of each
/// answer.
#[test]
fn a_job_at_a_time() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    worker.sync();
    let before = counters(&server);
    for _ in 0..100 {
        client.submit(Kind::SubmitJob, "f", b"", b"");
        let (handle, _) = worker.grab();
        worker.complete(&handle, b"");
        client.expect(Kind::WorkComplete);
    }
    let after = counters(&server);
    let calls = (after.reads - before.reads, after.writes - before.writes, after.waits - before.waits);
    assert_eq!(calls, (300, 300, 300));
}

/// However many sleep: 400 are as many as any process may have connections.
#[test]
fn one_wake_up_a_job() {
    let server = server();
    let mut workers: Vec<Peer> = (0..400).map(|_| Peer::worker(&server, &["f"])).collect();
    for worker in &mut workers {
        worker.send(Kind::PreSleep, &[]);
        worker.sync();
    }
    let mut client = Peer::new(&server);
    let before = counters(&server);
    for n in 1..=100 {
        client.submit(Kind::SubmitJobBg, "f", b"", b"");
        assert_eq!(counters(&server).wakes - before.wakes, n);
    }
}

/// Jobs wait, and nobody sleeps who could be woken for them: the server looks for that once, and does nothing.
#[test]
fn a_server_with_busy_workers_sleeps() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    (0..10).for_each(|_| _ = client.submit(Kind::SubmitJobBg, "f", b"", b""));
    worker.grab();
    client.sync();
    let before = counters(&server);
    std::thread::park_timeout(std::time::Duration::from_millis(3500));
    let after = counters(&server);
    assert_eq!((after.reads, after.wakes), (before.reads, before.wakes));
    // The end of one more may have been on its way.
    assert!(after.waits <= before.waits + 2, "{} waits", after.waits - before.waits);
}

/// Nobody asks for anything: the server does nothing.
#[test]
fn an_idle_server_sleeps() {
    let server = server();
    let mut workers: Vec<Peer> = (0..50).map(|_| Peer::worker(&server, &["f"])).collect();
    for worker in &mut workers {
        worker.send(Kind::PreSleep, &[]);
        worker.sync();
    }
    let before = counters(&server);
    // Longer than any of its own intervals.
    std::thread::park_timeout(std::time::Duration::from_millis(2500));
    let after = counters(&server);
    assert_eq!(after.reads, before.reads);
    // One more may have been on its way. What a turn writes is counted with the next one.
    assert!(after.writes <= before.writes + 1, "{} writes", after.writes - before.writes);
    assert!(after.waits <= before.waits + 1, "{} waits", after.waits - before.waits);
}
