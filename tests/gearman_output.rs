//! Is there a bound to what waits for peers to read it, whatever they ask for, and is it no bound for those who read?
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;

use layshaft::Overflow;
use layshaft::gearman::packet::{Kind, Magic, encode};
use layshaft::gearman::{FunctionSettings, Server};
use peer::{Peer, server_with};

const MIB: usize = 1 << 20;

/// One that does not read what it is sent; its socket holds little.
fn deaf(server: &Server) -> Peer {
    Peer::over_unix(server.connect_local().unwrap())
}

fn too_slow(server: &Server) -> u64 {
    server.status().counters.slow_readers
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
    let mut deaf = deaf(&server);
    let mut worker = Peer::worker(&server, &["f"]);
    deaf.send(Kind::SubmitJob, &[b"f", b"", b""]);
    worker.wait_for_status("f", [1, 0, 1]);
    let (job, _) = worker.grab();
    let part = vec![b'x'; 64 << 10];
    for _ in 0..100 {
        worker.send(Kind::WorkData, &[&job, &part]);
    }
    worker.expect_nothing();
    assert_eq!(too_slow(&server), 1);
    assert_eq!(server.status().connections, 1, "it is closed by then");
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
    let server = server_with(|builder| builder.all_output_bytes(12 * MIB));
    let mut worker = Peer::worker(&server, &["f"]);
    let result = vec![b'x'; 8 * MIB];
    let mut deaf: Vec<Peer> = (0..3).map(|_| deaf(&server)).collect();
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

#[test]
fn a_reducer_is_a_name_and_counts() {
    let server = server_with(|builder| builder.job_bytes(1000));
    let mut client = Peer::new(&server);
    client.send(Kind::SubmitReduceJobBackground, &[b"f", b"", &[b'r'; 513], b"", b"x"]);
    assert!(client.expect_error("invalid_args").contains("513 bytes; 512 are the most"));
    client.send(Kind::SubmitReduceJobBackground, &[b"f", b"", &[b'r'; 512], b"", b"x"]);
    client.expect(Kind::JobCreated);
    assert!(server.status().job_bytes >= 640, "{}", server.status().job_bytes);
    client.send(Kind::SubmitReduceJobBackground, &[b"f", b"", &[b'r'; 512], b"", b"x"]);
    client.expect_error("queue_full");
    let mut worker = Peer::worker(&server, &["f"]);
    let (job, _) = worker.grab();
    worker.complete(&job, b"");
    worker.expect_nothing();
    assert_eq!(server.status().job_bytes, 0);
}

#[test]
fn numbers_are_passed_on_as_they_are_and_kept_where_they_are_short() {
    let server = server_with(|builder| builder);
    let mut client = Peer::new(&server);
    let job = client.submit(Kind::SubmitJob, "f", b"", b"");
    let mut worker = Peer::worker(&server, &["f"]);
    worker.grab();
    let before = server.status().job_bytes;
    let long = vec![b'7'; 1 << 20];
    for (done, total) in [(&b"1"[..], &b"2"[..]), (&long, b"9"), (b"9", &long)] {
        worker.send(Kind::WorkStatus, &[&job, done, total]);
        client.expect_packet(Kind::WorkStatus, &[&job, done, total]);
        client.send(Kind::GetStatus, &[&job]);
        client.expect_packet(Kind::StatusRes, &[&job, b"1", b"1", b"1", b"2"]);
    }
    assert_eq!(server.status().job_bytes, before + 2);
    worker.complete(&job, b"");
    worker.expect_nothing();
    assert_eq!(server.status().job_bytes, 0);
}

#[test]
fn jobs_that_are_given_up_leave_nothing_though_their_function_is_paused() {
    let server = server_with(|builder| builder);
    let mut worker = Peer::worker(&server, &["f"]);
    worker.send(Kind::PreSleep, &[]);
    worker.expect_nothing();
    server.pause("f").unwrap();
    let mut client = Peer::new(&server);
    for payload in [b"1", b"2"] {
        client.submit(Kind::SubmitJobBg, "f", b"", payload);
    }
    let mut submit = Vec::new();
    encode(&mut submit, Magic::Request, Kind::SubmitJob, &[b"f", b"", b""]);
    for _ in 0..4 {
        let mut fickle = Peer::new(&server);
        fickle.write(&submit.repeat(2000));
        assert_eq!(fickle.sync().len(), 2000);
        drop(fickle);
        client.wait_for_status("f", [2, 0, 1]);
    }
    let tickets = client.rows("gladiator all").into_iter().find(|row| row.contains("tickets of jobs"));
    let tickets: usize = tickets.expect("a row").trim().split(' ').next().unwrap().parse().unwrap();
    assert!(tickets < 2000, "{tickets}");
    // Nobody was woken, and what is left has kept its order.
    worker.expect_nothing();
    server.resume("f").unwrap();
    worker.expect(Kind::Noop);
    assert_eq!([worker.grab().1, worker.grab().1], [b"1", b"2"]);
}

#[test]
fn functions_that_nobody_needs_make_room() {
    let own = FunctionSettings::new().max_queue(5);
    let server = server_with(|builder| builder.most_functions(5).function("own", own));
    let mut client = Peer::new(&server);
    client.submit(Kind::SubmitJobBg, "queued", b"", b"x");
    assert_eq!(client.ask("create function created"), "OK");
    let mut worker = Peer::worker(&server, &["done", "own"]);
    for function in ["own", "done"] {
        client.submit(Kind::SubmitJobBg, function, b"", b"x");
        let (job, _) = worker.grab();
        worker.complete(&job, b"");
    }
    worker.send(Kind::CantDo, &[b"own"]);
    worker.expect_nothing();
    for i in 0..100 {
        let mut other = Peer::worker(&server, &[&format!("any-{i}")]);
        other.expect_nothing();
        drop(other);
        client.wait_for_status(&format!("any-{i}"), [0, 0, 0]);
    }
    let names: Vec<String> =
        server.status().functions.iter().map(|f| String::from_utf8(f.name.clone()).unwrap()).collect();
    assert_eq!(names, ["any-99", "created", "done", "own", "queued"]);
    client.submit(Kind::SubmitJobBg, "last", b"", b"x");
    client.send(Kind::SubmitJobBg, &[b"one too many", b"", b"x"]);
    assert!(client.expect_error("server_error").contains("5 functions"));
}

#[test]
fn who_forgets_all_it_can_do_in_its_sleep_is_woken_for_what_it_can_do_next() {
    let server = server_with(|builder| builder);
    let mut worker = Peer::worker(&server, &["f", "g"]);
    worker.send(Kind::PreSleep, &[]);
    worker.send(Kind::ResetAbilities, &[]);
    worker.expect_nothing();
    let mut client = Peer::new(&server);
    for function in ["f", "h"] {
        client.submit(Kind::SubmitJobBg, function, b"", b"x");
    }
    worker.expect_nothing();
    worker.send(Kind::CanDo, &[b"h"]);
    worker.expect(Kind::Noop);
    worker.grab();
    worker.grab_nothing();
}

#[test]
fn a_table_that_is_too_long_is_refused() {
    let server = server_with(|builder| builder.output_bytes(10_000));
    let mut client = Peer::new(&server);
    for i in 0..50 {
        client.submit(Kind::SubmitJobBg, &format!("{i}{}", "f".repeat(400)), b"", b"");
    }
    assert!(client.ask("status").starts_with("ERR TOO_LONG"));
    client.expect_nothing();
}

#[test]
fn who_waits_for_a_job_counts() {
    let server = server_with(|builder| builder.job_bytes(128 + 1 + 2 * 64));
    let mut clients: Vec<Peer> = (0..4).map(|_| Peer::new(&server)).collect();
    for client in &mut clients[..3] {
        // Twice of the same one is no more.
        client.submit(Kind::SubmitJob, "f", b"k", b"");
        client.submit(Kind::SubmitJob, "f", b"k", b"");
    }
    assert_eq!(server.status().job_bytes, 257);
    clients[3].send(Kind::SubmitJob, &[b"f", b"k", b""]);
    clients[3].expect_error("queue_full");
    clients[3].submit(Kind::SubmitJobBg, "f", b"k", b"");
    drop(clients.remove(0));
    let mut worker = Peer::worker(&server, &["f"]);
    let (job, _) = worker.grab();
    while server.status().job_bytes != 193 {
        worker.expect_nothing();
    }
    worker.complete(&job, b"");
    worker.expect_nothing();
    assert_eq!(server.status().job_bytes, 0);
}

#[test]
fn jobs_that_make_room_are_counted() {
    let server = server_with(|builder| builder.max_queue(2, Overflow::EvictOldest));
    let mut client = Peer::new(&server);
    for _ in 0..5 {
        client.submit(Kind::SubmitJobBg, "f", b"", b"x");
    }
    let status = server.status();
    assert_eq!((status.functions[0].evicted, status.functions[0].failed), (3, 3));
    assert_eq!(client.status("f"), Some([2, 0, 0]));
}
