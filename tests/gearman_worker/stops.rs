//! The end: what is in hand is answered, and nothing is lost.

use super::common::{Gate, engine, watchdog};
use super::fake::{Beside, Fake, SOON, worker_of};
use super::{Answer, echo};
use layshaft::gearman::Job;
use layshaft::gearman::packet::Kind;
use layshaft::{Engine, Limits, Overflow, Shutdown};

/// A body that waits at a gate.
fn waiting(gate: &Gate) -> impl Fn(&Job, Vec<u8>) -> Answer + Send + Sync + 'static {
    let gate = gate.clone();
    move |_: &Job, payload| {
        gate.pass();
        Ok(payload)
    }
}

/// A worker with one job in its hands, and the server that handed it out.
fn with_one_in_hand(engine: &Engine, gate: &Gate) -> (Beside, super::fake::Peer) {
    let fake = Fake::new();
    let builder = worker_of(engine, &fake).function("wait", waiting(gate)).function("echo", echo);
    let worker = Beside::run(builder);
    let mut peer = fake.accept();
    peer.expect(Kind::CanDo);
    peer.expect(Kind::CanDo);
    peer.expect(Kind::GrabJobUniq);
    peer.assign("H:x:1", "wait", b"x");
    gate.wait_entered(1);
    (worker, peer)
}

#[test]
fn a_stop_answers_what_is_in_hand() {
    let _dog = watchdog("a stop");
    let (engine, gate) = (engine(1), Gate::new());
    let (worker, mut peer) = with_one_in_hand(&engine, &gate);
    worker.stopper.stop();
    // Not for the function of the job in hand: some servers would take that back.
    assert_eq!(peer.expect(Kind::CantDo), [b"echo"]);
    assert_eq!(peer.so_far(), []);
    gate.open();
    assert_eq!(peer.expect(Kind::WorkComplete), [&b"H:x:1"[..], b"x"]);
    peer.expect_end();
    drop(peer);
    assert_eq!(worker.end().expect("a good end").done, 1);
}

/// A server may wake one worker for a job, and count on it.
#[test]
fn a_wake_up_during_a_stop_is_handed_back() {
    let _dog = watchdog("a wake-up");
    let (engine, gate, fake) = (engine(2), Gate::new(), Fake::new());
    let worker = Beside::run(worker_of(&engine, &fake).function("wait", waiting(&gate)));
    let mut peer = fake.accept_asking();
    peer.assign("H:x:1", "wait", b"x");
    gate.wait_entered(1);
    peer.expect(Kind::GrabJobUniq);
    peer.send_to_sleep();
    worker.stopper.stop();
    for _ in 0..2 {
        peer.say(Kind::Noop, &[]);
        peer.expect(Kind::PreSleep);
        assert_eq!(peer.expect(Kind::EchoReq), [b"awake"]);
        // There is no job any more: the next wake-up is for another one.
        peer.say(Kind::EchoRes, &[b"awake"]);
    }
    peer.say(Kind::Noop, &[]);
    peer.expect(Kind::PreSleep);
    peer.expect(Kind::EchoReq);
    // Nobody else is there who could take it. That is all that can be said.
    peer.say(Kind::Noop, &[]);
    peer.say(Kind::EchoRes, &[b"awake"]);
    assert_eq!(peer.so_far(), []);
    gate.open();
    peer.expect(Kind::WorkComplete);
    peer.expect_end();
    drop(peer);
    worker.end().expect("a good end");
}

#[test]
fn a_job_that_is_on_its_way_is_not_lost() {
    let _dog = watchdog("a late job");
    let (engine, gate, fake) = (engine(2), Gate::new(), Fake::new());
    let worker = Beside::run(worker_of(&engine, &fake).function("wait", waiting(&gate)));
    let mut peer = fake.accept_asking();
    worker.stopper.stop();
    assert_eq!(peer.so_far(), []);
    peer.assign("H:x:1", "wait", b"x");
    gate.wait_entered(1);
    assert_eq!(peer.so_far(), []);
    gate.open();
    assert_eq!(peer.expect(Kind::WorkComplete), [&b"H:x:1"[..], b"x"]);
    peer.expect_end();
    drop(peer);
    assert_eq!(worker.end().expect("a good end").done, 1);
}

#[test]
fn a_server_that_reads_nothing_keeps_no_worker_from_its_end() {
    let _dog = watchdog("a stop");
    let (engine, gate, fake) = (engine(1), Gate::new(), Fake::new());
    let pass = gate.clone();
    let body = move |_: &Job, _| -> Answer {
        pass.pass();
        Ok(vec![7; 40 << 20])
    };
    let worker = Beside::run(worker_of(&engine, &fake).answer_timeout(SOON * 5).function("large", body));
    let mut peer = fake.accept_asking();
    peer.assign("H:x:1", "large", b"");
    gate.wait_entered(1);
    worker.stopper.stop();
    gate.open();
    assert_eq!(worker.end().expect("a good end").done, 1);
    drop(peer);
}

#[test]
fn a_second_stop_does_not_wait() {
    let _dog = watchdog("a second stop");
    let (engine, gate) = (engine(1), Gate::new());
    let (worker, mut peer) = with_one_in_hand(&engine, &gate);
    worker.stopper.stop();
    peer.expect(Kind::CantDo);
    worker.stopper.stop();
    peer.expect_end();
    assert_eq!(worker.end().expect("a good end").done, 0);
    gate.open();
}

#[test]
fn a_worker_without_jobs_stops_at_once() {
    let _dog = watchdog("a stop");
    let (engine, fake, nobody) = (engine(1), Fake::new(), Fake::new());
    let address = nobody.address();
    drop(nobody);
    let worker = Beside::run(worker_of(&engine, &fake).server(address).function("echo", echo));
    let mut peer = fake.accept_asking();
    peer.send_to_sleep();
    worker.stopper.stop();
    peer.expect_end();
    drop(peer);
    worker.end().expect("a good end");
}

#[test]
fn a_stop_before_the_start_counts() {
    let engine = engine(1);
    let worker =
        super::Worker::builder(&engine).server("127.0.0.1:1").function("echo", echo).build().expect("a worker");
    worker.stopper().stop();
    worker.run().expect("a good end");
}

/// What never ran is left unanswered: the server gives it to another worker when the connection closes.
#[test]
fn the_end_of_the_engine_is_one_of_the_worker() {
    let _dog = watchdog("the engine's end");
    let (engine, gate, fake) = (engine(1), Gate::new(), Fake::new());
    let worker = Beside::run(worker_of(&engine, &fake).jobs(3).function("wait", waiting(&gate)));
    let mut peer = fake.accept_asking();
    peer.assign("H:x:1", "wait", b"x");
    gate.wait_entered(1);
    peer.expect(Kind::GrabJobUniq);
    peer.expect(Kind::GrabJobUniq);
    peer.assign("H:x:2", "wait", b"behind it");
    assert_eq!(peer.so_far(), []);
    let ending = std::thread::spawn({
        let engine = engine.clone();
        move || engine.shutdown(Shutdown::Discard)
    });
    let discarded = || engine.function_stats().iter().any(|stats| stats.cancelled == 1);
    while !discarded() {
        std::thread::yield_now();
    }
    // With the discarded job unanswered, the worker takes no more over this connection.
    peer.say(Kind::NoJob, &[]);
    gate.open();
    let rest: Vec<_> = std::iter::from_fn(|| peer.next()).filter(|(kind, _)| *kind != Kind::PreSleep).collect();
    assert_eq!(rest, [(Kind::WorkComplete, vec![b"H:x:1".to_vec(), b"x".to_vec()])]);
    ending.join().unwrap();
    // It would come back; the engine takes nothing.
    let mut peer = fake.accept_asking();
    peer.assign("H:x:2", "wait", b"again");
    peer.expect_end();
    drop(peer);
    let served = worker.end().expect("a good end");
    assert_eq!((served.done, served.not_run), (1, 2));
}

#[test]
fn a_full_function_holds_jobs_back() {
    for overflow in [Overflow::Reject, Overflow::Block] {
        jobs_are_held_back(overflow);
    }
}

fn jobs_are_held_back(overflow: Overflow) {
    let _dog = watchdog("a full queue");
    let (engine, gate, fake) = (engine(1), Gate::new(), Fake::new());
    let pass = gate.clone();
    let slow = engine
        .function("slow", move |payload: Vec<u8>| -> Answer {
            pass.pass();
            Ok(payload)
        })
        .unwrap();
    slow.set_limits(Limits::new().capacity(1).overflow(overflow));
    let worker = Beside::run(worker_of(&engine, &fake).jobs(8).serve("slow", &slow));
    let mut peer = fake.accept_asking();
    let (mut asked, mut given) = (1, 0);
    while given < asked {
        given += 1;
        peer.assign(&format!("H:x:{given}"), "slow", b"x");
        gate.wait_entered(1);
        asked += peer.so_far().iter().filter(|kind| **kind == Kind::GrabJobUniq).count();
    }
    assert!((3..8).contains(&given), "{given}: one runs, one is queued, one too many came");
    gate.open();
    let mut done = 0;
    while done < given {
        done += usize::from(peer.next().expect("a result").0 == Kind::WorkComplete);
    }
    worker.stop();
}

/// It never ran, so it is left to another worker, unanswered.
#[test]
fn a_job_that_makes_room_for_another_is_not_failed() {
    let _dog = watchdog("an eviction");
    let (engine, gate, fake) = (engine(1), Gate::new(), Fake::new());
    let pass = gate.clone();
    let slow = engine
        .function("slow", move |payload: Vec<u8>| -> Answer {
            pass.pass();
            Ok(payload)
        })
        .unwrap();
    slow.set_limits(Limits::new().capacity(1).overflow(Overflow::EvictOldest));
    let worker = Beside::run(worker_of(&engine, &fake).jobs(3).serve("slow", &slow));
    let mut peer = fake.accept_asking();
    for (i, asks) in ["H:x:1", "H:x:2", "H:x:3"].into_iter().zip([2, 0, 0]) {
        peer.assign(i, "slow", b"x");
        gate.wait_entered(1);
        (0..asks).for_each(|_| drop(peer.expect(Kind::GrabJobUniq)));
    }
    while slow.stats().evicted == 0 {
        std::thread::yield_now();
    }
    gate.open();
    let rest: Vec<_> = std::iter::from_fn(|| peer.next()).map(|(kind, mut args)| (kind, args.remove(0))).collect();
    assert_eq!(rest, [(Kind::WorkComplete, b"H:x:1".to_vec()), (Kind::WorkComplete, b"H:x:3".to_vec())]);
    fake.accept_asking();
    let served = worker.stop();
    assert_eq!((served.done, served.failed, served.not_run), (2, 0, 1));
}
