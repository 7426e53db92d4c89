//! Is there a bound to what waits for peers to read it, whatever they ask for, and is it no bound for those who read?
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;

use layshaft::gearman::Server;
use layshaft::gearman::packet::{Kind, Magic, encode};
use peer::{Peer, server_with};

const MIB: usize = 1 << 20;

fn too_slow(server: &Server) -> u64 {
    server.status().counters.too_slow
}

#[test]
fn a_result_is_not_multiplied_by_those_who_joined() {
    for how in [Kind::WorkComplete, Kind::WorkException] {
        let server = server_with(|builder| builder.output_bytes(MIB));
        let mut client = Peer::new(&server);
        client.send(Kind::OptionReq, &[b"exceptions"]);
        client.expect(Kind::OptionRes);
        let mut submit = Vec::new();
        encode(&mut submit, Magic::Request, Kind::SubmitJob, &[b"f", b"k", b""]);
        let mut duplicate = client.duplicate();
        std::thread::scope(|scope| {
            scope.spawn(move || duplicate.write(&submit.repeat(10_000)));
            (0..10_000).for_each(|_| _ = client.expect(Kind::JobCreated));
        });
        let mut worker = Peer::worker(&server, &["f"]);
        let (job, _) = worker.grab();
        worker.send(how, &[&job, &vec![b'x'; MIB / 4]]);
        worker.expect_nothing();
        assert!(client.expect_error("output_full").contains("may wait"), "{how}");
        client.expect_end();
        assert_eq!(too_slow(&server), 1);
        worker.expect_nothing();
    }
}

#[test]
fn who_does_not_read_is_cut_off_at_once() {
    let server = server_with(|builder| builder.output_bytes(MIB));
    let mut deaf = Peer::new(&server);
    let mut worker = Peer::worker(&server, &["f"]);
    deaf.send(Kind::SubmitJob, &[b"f", b"", b""]);
    worker.wait_for_status("f", [1, 0, 1]);
    let (job, _) = worker.grab();
    let part = vec![b'x'; 64 << 10];
    // More than sockets hold.
    for _ in 0..1000 {
        worker.send(Kind::WorkData, &[&job, &part]);
    }
    worker.expect_nothing();
    assert_eq!(too_slow(&server), 1);
    let start = server.status().connections;
    assert_eq!(start, 1, "it is closed by then");
}

#[test]
fn a_single_packet_may_be_larger_than_the_bound() {
    let server = server_with(|builder| builder.output_bytes(1 << 10));
    let mut client = Peer::new(&server);
    let mut worker = Peer::worker(&server, &["f"]);
    for _ in 0..3 {
        client.submit(Kind::SubmitJob, "f", b"", b"");
        let (job, _) = worker.grab();
        let result = vec![b'x'; 20 * MIB];
        worker.send(Kind::WorkStatus, &[&job, b"1", b"2"]);
        worker.complete(&job, &result);
        worker.expect_nothing();
        // What is small and comes behind it does no harm.
        let mut duplicate = client.duplicate();
        std::thread::scope(|scope| {
            scope.spawn(move || duplicate.send(Kind::EchoReq, &[b"behind"]));
            client.expect(Kind::WorkStatus);
            assert!(client.expect(Kind::WorkComplete).args[1] == result);
            client.expect_packet(Kind::EchoRes, &[b"behind"]);
        });
    }
    client.expect_nothing();
    assert_eq!(too_slow(&server), 0);
}

#[test]
fn all_together_have_a_bound_and_who_reads_is_not_cut_off() {
    let server = server_with(|builder| builder.all_output_bytes(40 * MIB));
    let mut worker = Peer::worker(&server, &["f"]);
    let result = vec![b'x'; 30 * MIB];
    let mut deaf: Vec<Peer> = (0..3).map(|_| Peer::new(&server)).collect();
    for peer in &mut deaf {
        peer.submit(Kind::SubmitJob, "f", b"", b"");
        let (job, _) = worker.grab();
        worker.complete(&job, &result);
        worker.expect_nothing();
    }
    assert_eq!(too_slow(&server), 2, "each made room for the next one");
    let mut client = Peer::new(&server);
    for _ in 0..3 {
        client.submit(Kind::SubmitJob, "f", b"", b"");
        let (job, _) = worker.grab();
        worker.complete(&job, &result);
        assert!(client.expect(Kind::WorkComplete).args[1] == result);
    }
    client.expect_nothing();
    assert_eq!(too_slow(&server), 3);
}

#[test]
fn a_result_for_many_does_not_outgrow_the_bound() {
    let server = server_with(|builder| builder.all_output_bytes(10 * MIB));
    let mut clients: Vec<Peer> = (0..30).map(|_| Peer::new(&server)).collect();
    for client in &mut clients {
        client.submit(Kind::SubmitJob, "f", b"k", b"");
    }
    let mut worker = Peer::worker(&server, &["f"]);
    let (job, _) = worker.grab();
    worker.complete(&job, &vec![b'x'; MIB]);
    worker.expect_nothing();
    let ends = clients.iter_mut().map(|client| client.next().map(|got| got.kind));
    let ends: Vec<Option<Kind>> = ends.collect();
    let told = ends.iter().filter(|end| **end == Some(Kind::WorkComplete)).count();
    let cut = ends.iter().filter(|end| **end == Some(Kind::Error)).count();
    assert!(told >= 9 && cut >= 20 && told + cut == 30, "{ends:?}");
}
