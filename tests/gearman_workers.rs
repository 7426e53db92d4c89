//! Workers of a Gearman server: who is woken, who gets which job, and what becomes of their time limits.
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;

use layshaft::gearman::packet::Kind;
use layshaft::gearman::{Compat, OnLoss, Server, ServerBuilder};
use peer::{Peer, server, server_with};
use std::time::{Duration, Instant};

fn sleepers(server: &Server, n: usize) -> Vec<Peer> {
    let mut sleepers: Vec<Peer> = (0..n).map(|_| Peer::worker(server, &["f"])).collect();
    for sleeper in &mut sleepers {
        sleeper.send(Kind::PreSleep, &[]);
        sleeper.expect_nothing();
    }
    sleepers
}

/// How many NOOPs each got since the last look.
fn noops(workers: &mut [Peer]) -> Vec<usize> {
    let count = |worker: &mut Peer| {
        let came = worker.sync();
        assert!(came.iter().all(|got| got.kind == Kind::Noop), "{came:?}");
        came.len()
    };
    workers.iter_mut().map(count).collect()
}

#[test]
fn gs_03_how_many_are_woken_for_a_job() {
    for (setting, expected) in [(0, 0), (1, 1), (3, 3), (usize::MAX, 8)] {
        let server = server_with(|builder| builder.wakeups(setting, None));
        let mut workers = sleepers(&server, 8);
        Peer::new(&server).submit(Kind::SubmitJobBg, "f", b"", b"");
        let woken: usize = noops(&mut workers).into_iter().sum();
        assert_eq!(woken, expected, "of 8, with {setting} a job");
    }
}

/// Three at once, three after the delay, then the other two; and no more once the job is taken.
#[test]
fn gs_04_behaviour_01_more_are_woken_after_a_delay() {
    let delay = Duration::from_millis(100);
    let server = server_with(|builder| builder.wakeups(3, delay));
    let mut workers = sleepers(&server, 8);
    let (start, mut client) = (Instant::now(), Peer::new(&server));
    client.submit(Kind::SubmitJobBg, "f", b"", b"");
    let mut woken = 0;
    while woken < 8 {
        assert!(start.elapsed() < Duration::from_secs(30), "{woken} woken");
        woken += noops(&mut workers).into_iter().sum::<usize>();
        // No more than had their time.
        let rounds = 1 + (start.elapsed().as_millis() / delay.as_millis()) as usize;
        assert!(woken <= 3 * rounds, "{woken} in {:?}", start.elapsed());
    }
    assert!(start.elapsed() >= 2 * delay);
    // With the queue empty nobody is woken any more, whatever the time.
    workers[0].grab();
    for worker in &mut workers {
        worker.send(Kind::PreSleep, &[]);
    }
    assert_eq!(noops(&mut workers), [0; 8]);
}

#[test]
fn gs_04_delays_of_nothing_and_of_ever() {
    for (delay, expected) in [(Some(Duration::ZERO), 8), (None, 2)] {
        let server = server_with(|builder| builder.wakeups(2, delay));
        let mut workers = sleepers(&server, 8);
        let mut client = Peer::new(&server);
        client.submit(Kind::SubmitJobBg, "f", b"", b"");
        let (start, mut woken) = (Instant::now(), 0);
        while woken < expected {
            woken += noops(&mut workers).into_iter().sum::<usize>();
            assert!(start.elapsed() < Duration::from_secs(30), "{woken} of {expected}");
        }
        assert_eq!(woken + noops(&mut workers).into_iter().sum::<usize>(), expected);
    }
}

/// For each of its functions, though it went to sleep after the other one.
#[test]
fn gs_05_who_did_something_is_woken_first() {
    for (busy_first, expected) in [(true, [1, 0]), (false, [0, 1])] {
        for function in ["f", "g"] {
            let server = server_with(|builder| builder.wake_busy_first(busy_first));
            let mut client = Peer::new(&server);
            let (mut busy, mut idle) = (Peer::worker(&server, &["f", "g"]), Peer::worker(&server, &["f", "g"]));
            client.submit(Kind::SubmitJobBg, "f", b"", b"");
            let handle = busy.grab().0;
            busy.complete(&handle, b"");
            for worker in [&mut idle, &mut busy] {
                worker.send(Kind::PreSleep, &[]);
                worker.expect_nothing();
            }
            client.submit(Kind::SubmitJobBg, function, b"", b"");
            assert_eq!(noops(&mut [busy, idle]), expected, "{function}, busy first: {busy_first}");
        }
    }
}

#[test]
fn gs_06_gs_36_going_to_sleep_with_work_waiting() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    client.submit(Kind::SubmitJobBg, "f", b"", b"1");
    worker.send(Kind::PreSleep, &[]);
    worker.expect(Kind::Noop);
    worker.grab();
    worker.send(Kind::PreSleep, &[]);
    worker.expect_nothing();
    client.submit(Kind::SubmitJobBg, "f", b"", b"2");
    worker.expect(Kind::Noop);
    worker.expect_nothing();
}

/// A sleeper that goes takes nobody's wake-up with it: asleep, or just woken.
#[test]
fn gs_07_a_sleeper_leaves() {
    let server = server();
    let mut client = Peer::new(&server);
    let mut workers = sleepers(&server, 3);
    drop(workers.remove(1));
    client.wait_for_status("f", [0, 0, 2]);
    client.submit(Kind::SubmitJobBg, "f", b"", b"");
    let woken = noops(&mut workers);
    assert_eq!(woken.iter().sum::<usize>(), 1);
    // The woken one goes without a grab: the other one is woken.
    let at = woken.iter().position(|n| *n == 1).unwrap();
    drop(workers.remove(at));
    workers[0].expect(Kind::Noop);
    workers[0].grab();
}

/// One that is woken and takes nothing leaves the job to be announced again.
#[test]
fn a_woken_worker_that_grabs_nothing() {
    let server = server();
    let mut client = Peer::new(&server);
    let mut workers = sleepers(&server, 2);
    client.submit(Kind::SubmitJobBg, "f", b"", b"");
    let at = noops(&mut workers).iter().position(|n| *n == 1).unwrap();
    workers[at].send(Kind::ResetAbilities, &[]);
    workers[at].grab_nothing();
    workers[1 - at].expect(Kind::Noop);
    // And so does one that goes to sleep again: it is told at once.
    workers[1 - at].send(Kind::PreSleep, &[]);
    workers[1 - at].expect(Kind::Noop);
}

/// The first one to have the wake-up, and the others.
fn woken_and_others(workers: Vec<Peer>) -> (Peer, Vec<Peer>) {
    let mut workers = workers;
    let counts = noops(&mut workers);
    assert_eq!(counts.iter().sum::<usize>(), 1, "{counts:?}");
    let at = counts.iter().position(|n| *n == 1).unwrap();
    (workers.remove(at), workers)
}

/// One that is woken and does nothing at all, as when it hangs or its machine is gone, does not keep the job from others:
/// the default is a second, here it is less.
#[test]
fn a_woken_worker_that_hangs() {
    let server = server();
    let mut client = Peer::new(&server);
    client.submit(Kind::SubmitJobBg, "f", b"", b"");
    let mut first = Peer::worker(&server, &["f"]);
    first.grab();
    let workers = sleepers(&server, 2);
    client.submit(Kind::SubmitJobBg, "f", b"", b"");
    let (_hangs, mut others) = woken_and_others(workers);
    others[0].expect(Kind::Noop);
    others[0].grab();
}

/// Whatever brought the job into the queue, and whoever comes later.
#[test]
fn a_woken_worker_that_hangs_when_a_job_comes_back() {
    let soon = || server_with(|builder| builder.wakeups(1, Duration::from_millis(20)));
    // Its worker is gone.
    let server = soon();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    client.submit(Kind::SubmitJobBg, "f", b"", b"");
    worker.grab();
    let mut workers = sleepers(&server, 2);
    drop(worker);
    workers.iter_mut().for_each(|worker| _ = worker.expect(Kind::Noop));

    // It was paused.
    let server = soon();
    let mut client = Peer::new(&server);
    assert_eq!(client.ask("pause f"), "OK");
    client.submit(Kind::SubmitJobBg, "f", b"", b"");
    let mut workers = sleepers(&server, 2);
    assert_eq!(noops(&mut workers), [0, 0]);
    // The timer of the submit finds nobody who could take the job, and is not there any more.
    let before = server.status().counters.waits;
    std::thread::park_timeout(Duration::from_millis(100));
    assert!(server.status().counters.waits <= before + 2);
    assert_eq!(client.ask("resume f"), "OK");
    workers.iter_mut().for_each(|worker| _ = worker.expect(Kind::Noop));

    // Nobody else was there.
    let server = soon();
    let mut client = Peer::new(&server);
    let mut hangs = sleepers(&server, 1);
    client.submit(Kind::SubmitJobBg, "f", b"", b"");
    hangs[0].expect(Kind::Noop);
    std::thread::park_timeout(Duration::from_millis(100));
    let mut later = Peer::worker(&server, &["f"]);
    later.send(Kind::PreSleep, &[]);
    later.expect(Kind::Noop);
    later.grab();
}

/// It was not the setting, and then is.
#[test]
fn more_are_woken_from_when_that_is_set() {
    let server = server_with(|builder| builder.wakeups(1, None));
    let mut client = Peer::new(&server);
    let workers = sleepers(&server, 2);
    client.submit(Kind::SubmitJobBg, "f", b"", b"");
    let (_hangs, mut others) = woken_and_others(workers);
    let engine = layshaft::Engine::builder().workers(1).start().unwrap();
    server.reconfigure(layshaft::gearman::Server::builder(&engine).wakeups(1, Duration::from_millis(1)));
    others[0].expect(Kind::Noop);
}

#[test]
fn gs_08_sleeping_several_times() {
    let server = server_with(|builder| builder.wakeups(usize::MAX, None));
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    for _ in 0..5 {
        worker.send(Kind::PreSleep, &[]);
    }
    worker.expect_nothing();
    client.submit(Kind::SubmitJobBg, "f", b"", b"");
    worker.expect(Kind::Noop);
    worker.expect_nothing();
}

#[test]
fn gs_30_a_grab_of_nothing_leaves_nothing() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::new(&server));
    worker.grab_nothing();
    worker.send(Kind::CantDo, &[b"unknown"]);
    assert_eq!(worker.rows("status"), [""; 0]);
    // And with functions that have no job: never had one, or have none any more, of which one was never taken.
    for function in [b"f", b"g"] {
        worker.send(Kind::CanDo, &[function]);
    }
    worker.grab_nothing();
    client.submit(Kind::SubmitJobBg, "f", b"key", b"");
    let cancelled = client.submit(Kind::SubmitJobBg, "g", b"key", b"");
    assert_eq!(client.ask(&format!("cancel job {}", cancelled.escape_ascii())), "OK");
    let (handle, _) = worker.grab();
    worker.complete(&handle, b"");
    for kind in [Kind::GrabJob, Kind::GrabJobUniq, Kind::GrabJobAll] {
        worker.send(kind, &[]);
        worker.expect(Kind::NoJob);
    }
    assert_eq!(worker.rows("status"), ["f\t0\t0\t1", "g\t0\t0\t1"]);
    let status = server.status();
    assert_eq!((status.functions.len(), status.job_bytes, status.queued, status.running), (2, 0, 0, 0));
    assert!(server.jobs().is_empty());
}

#[test]
fn gs_32_abilities_are_listed() {
    let server = server();
    let mut worker = Peer::worker(&server, &["b", "a"]);
    worker.send(Kind::SetClientId, &[b"me"]);
    worker.send(Kind::CanDo, &[b"a"]);
    let rows = worker.rows("workers");
    assert_eq!(rows.len(), 1);
    assert!(rows[0].ends_with(" 127.0.0.1 me : a b"), "{rows:?}");
    assert_eq!(worker.rows("status"), ["a\t0\t0\t1", "b\t0\t0\t1"]);
}

fn worker_with_limit(server: &Server, limit: &str) -> Peer {
    let mut worker = Peer::new(server);
    worker.send(Kind::CanDoTimeout, &[b"f", limit.as_bytes()]);
    worker.sync();
    worker
}

/// The unit is a setting; a job that runs too long fails, and its worker goes on.
#[test]
fn gs_33_time_limits() {
    let perl = |builder: ServerBuilder| builder.compat(Compat::Perl);
    let own = |builder: ServerBuilder| builder;
    for (limit, is_perl) in [("100", false), ("0.1", true)] {
        let server = if is_perl { server_with(perl) } else { server_with(own) };
        let (mut client, mut worker) = (Peer::new(&server), worker_with_limit(&server, limit));
        let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
        let start = Instant::now();
        worker.grab();
        client.expect_packet(Kind::WorkFail, &[&handle]);
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
        assert_eq!(client.status("f"), Some([0, 0, 1]));
        // The late result is nobody's, and no mistake.
        worker.complete(&handle, b"late");
        worker.expect_nothing();
        client.expect_nothing();
        // However slow this machine is.
        worker.send(Kind::CanDo, &[b"f"]);
        let next = client.submit(Kind::SubmitJob, "f", b"", b"");
        assert_eq!(worker.grab().0, next);
        worker.complete(&next, b"in time");
        client.expect_packet(Kind::WorkComplete, &[&next, b"in time"]);
    }
}

/// C queues the job again.
#[test]
fn gs_33_a_job_whose_time_is_up_can_be_queued_again() {
    let server = server_with(|builder| builder.on_timeout(OnLoss::Requeue));
    let mut client = Peer::new(&server);
    let (mut slow, mut quick) = (worker_with_limit(&server, "50"), Peer::worker(&server, &["f"]));
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    slow.grab();
    quick.send(Kind::PreSleep, &[]);
    quick.expect(Kind::Noop);
    assert_eq!(quick.grab().0, handle);
    slow.complete(&handle, b"late");
    slow.expect_nothing();
    quick.complete(&handle, b"quick");
    client.expect_packet(Kind::WorkComplete, &[&handle, b"quick"]);
    client.expect_nothing();
}

/// What becomes of a job whose time is up has nothing to do with what becomes of one whose worker is gone.
#[test]
fn gs_33_gs_50_time_and_loss_are_two_settings() {
    let server = server_with(|builder| builder.on_worker_lost(OnLoss::Fail).on_timeout(OnLoss::Requeue));
    let (mut client, mut worker) = (Peer::new(&server), worker_with_limit(&server, "100"));
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    worker.grab();
    let mut other = Peer::worker(&server, &["f"]);
    other.send(Kind::PreSleep, &[]);
    other.expect(Kind::Noop);
    assert_eq!(other.grab().0, handle);
    drop(other);
    client.expect_packet(Kind::WorkFail, &[&handle]);
}

#[test]
fn gs_33_limits_that_are_none() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), worker_with_limit(&server, "0"));
    worker.send_raw(Kind::CanDoTimeout.code(), b"g");
    worker.send(Kind::CanDoTimeout, &[b"h", b"never"]);
    worker.expect_error("invalid_args");
    worker.send(Kind::CanDoTimeout, &[b"h", b"-1"]);
    worker.expect_error("invalid_args");
    let handles = ["f", "g"].map(|function| client.submit(Kind::SubmitJob, function, b"", b""));
    worker.grab();
    worker.grab();
    // Longer than the clock's tick that a limit of nothing would end them in.
    let mut other = worker_with_limit(&server, "20");
    let third = client.submit(Kind::SubmitJob, "f", b"", b"");
    assert_eq!(other.grab().0, third);
    client.expect_packet(Kind::WorkFail, &[&third]);
    for handle in &handles {
        worker.complete(handle, b"");
        client.expect_packet(Kind::WorkComplete, &[handle, b""]);
    }
}

/// Two jobs on one connection: each has its own time.
#[test]
fn gs_34_behaviour_04_the_limit_is_the_jobs() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), worker_with_limit(&server, "500"));
    let (first, second) =
        (client.submit(Kind::SubmitJob, "f", b"", b"1"), client.submit(Kind::SubmitJob, "f", b"", b"2"));
    worker.grab();
    worker.grab();
    worker.complete(&first, b"");
    client.expect_packet(Kind::WorkComplete, &[&first, b""]);
    client.expect_packet(Kind::WorkFail, &[&second]);
    // Long after both: the first one's time does nothing more.
    let third = client.submit(Kind::SubmitJob, "f", b"", b"3");
    worker.grab();
    client.expect_packet(Kind::WorkFail, &[&third]);
    client.expect_nothing();
    // One without a limit that was taken before stays in hand.
    worker.send(Kind::CanDo, &[b"unlimited"]);
    let stays = client.submit(Kind::SubmitJob, "unlimited", b"", b"");
    worker.grab();
    let fourth = client.submit(Kind::SubmitJob, "f", b"", b"4");
    worker.grab();
    client.expect_packet(Kind::WorkFail, &[&fourth]);
    worker.complete(&stays, b"done");
    client.expect_packet(Kind::WorkComplete, &[&stays, b"done"]);
}

#[test]
fn gs_35_abilities_go() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f", "g", "h"]));
    worker.send(Kind::PreSleep, &[]);
    worker.send(Kind::CantDo, &[b"f"]);
    worker.expect_nothing();
    client.submit(Kind::SubmitJobBg, "f", b"", b"");
    worker.expect_nothing();
    assert_eq!(client.rows("status"), ["f\t1\t0\t0", "g\t0\t0\t1", "h\t0\t0\t1"]);
    worker.send(Kind::ResetAbilities, &[]);
    worker.sync();
    client.submit(Kind::SubmitJobBg, "g", b"", b"");
    worker.grab_nothing();
    assert_eq!(client.rows("status"), ["f\t1\t0\t0", "g\t1\t0\t0", "h\t0\t0\t0"]);
}

/// What runs goes on, and counts.
#[test]
fn an_ability_goes_while_its_job_runs() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    worker.grab();
    worker.send(Kind::CantDo, &[b"f"]);
    worker.complete(&handle, b"done");
    client.expect_packet(Kind::WorkComplete, &[&handle, b"done"]);
}

#[test]
fn gs_37_behaviour_06_functions_take_turns() {
    let server = server();
    let mut client = Peer::new(&server);
    for function in ["a", "b", "c"] {
        for n in 0..3u8 {
            client.submit(Kind::SubmitJobBg, function, b"", &[n]);
        }
    }
    let mut worker = Peer::worker(&server, &["a", "b", "c"]);
    for round in 0..3u8 {
        let mut served: Vec<String> = (0..3)
            .map(|_| {
                worker.send(Kind::GrabJob, &[]);
                let got = worker.expect(Kind::JobAssign);
                assert_eq!(got.args[2], [round]);
                got.text(1).to_owned()
            })
            .collect();
        served.sort();
        assert_eq!(served, ["a", "b", "c"], "round {round}");
    }
}

/// Several requests at once are answered in order, each with a job while there are any.
#[test]
fn several_grabs_in_flight() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let handles: Vec<Vec<u8>> = (0..3u8).map(|n| client.submit(Kind::SubmitJob, "f", b"", &[n])).collect();
    for _ in 0..5 {
        worker.send(Kind::GrabJobUniq, &[]);
    }
    for handle in &handles {
        assert_eq!(worker.expect(Kind::JobAssignUniq).args[0], *handle);
    }
    worker.expect(Kind::NoJob);
    worker.expect(Kind::NoJob);
    // In any order.
    for handle in handles.iter().rev() {
        worker.complete(handle, b"");
        client.expect_packet(Kind::WorkComplete, &[handle, b""]);
    }
}

/// Some workers answer with the magic of a server.
#[test]
fn results_with_the_magic_of_a_response() {
    let server = server();
    let (mut client, mut worker) = (Peer::new(&server), Peer::worker(&server, &["f"]));
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"");
    worker.grab();
    let mut bytes = Vec::new();
    layshaft::gearman::packet::encode(
        &mut bytes,
        layshaft::gearman::packet::Magic::Response,
        Kind::WorkFail,
        &[&handle],
    );
    worker.write(&bytes);
    client.expect_packet(Kind::WorkFail, &[&handle]);
    worker.expect_nothing();
}
