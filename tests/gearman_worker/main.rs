//! Does a remote worker do what its server says, whatever that says?
#![cfg(feature = "gearman")]

#[path = "../common/mod.rs"]
mod common;
mod failures;
mod fake;
#[cfg(feature = "peers")]
mod peers;
mod stops;
mod whole;

use common::{Gate, PATIENCE, engine, watchdog};
use fake::{Beside, Fake, SOON, worker_of};
use layshaft::gearman::packet::Kind;
use layshaft::gearman::worker::SetupError;
use layshaft::gearman::{Job, WorkError, Worker};
use std::time::Duration;

type Answer = Result<Vec<u8>, WorkError>;

pub(crate) fn echo(_: &Job, payload: Vec<u8>) -> Answer {
    Ok(payload)
}

#[test]
fn it_says_who_it_is_and_what_it_can_do() {
    let _dog = watchdog("an introduction");
    let (engine, fake) = (engine(2), Fake::new());
    let builder = worker_of(&engine, &fake).client_id("me").function("a", echo).function("b c", echo);
    let worker = Beside::run(builder.function_timeout("b c", Duration::from_millis(2500)));
    let mut peer = fake.accept();
    assert_eq!(peer.expect(Kind::SetClientId), [b"me"]);
    assert_eq!(peer.expect(Kind::CanDo), [b"a"]);
    assert_eq!(peer.expect(Kind::CanDoTimeout), [&b"b c"[..], b"2500"]);
    peer.expect(Kind::GrabJobUniq);
    peer.send_to_sleep();
    assert_eq!(peer.so_far(), []);
    peer.say(Kind::Noop, &[]);
    peer.expect(Kind::GrabJobUniq);
    worker.stop();
}

#[test]
fn gw_08_worker_prefix_is_before_a_tab() {
    let _dog = watchdog("a prefix");
    let (engine, fake) = (engine(1), Fake::new());
    let worker =
        Beside::run(worker_of(&engine, &fake).prefix("ns").function("f", |job: &Job, _| Ok(job.function().to_vec())));
    let mut peer = fake.accept();
    assert_eq!(peer.expect(Kind::CanDo), [b"ns\tf"]);
    peer.expect(Kind::GrabJobUniq);
    peer.assign("H:x:1", "ns\tf", b"");
    assert_eq!(peer.expect(Kind::WorkComplete), [&b"H:x:1"[..], b"ns\tf"]);
    worker.stop();
}

#[test]
fn gw_06_any_bytes_are_a_result() {
    let _dog = watchdog("results");
    let (engine, fake) = (engine(2), Fake::new());
    let worker = Beside::run(worker_of(&engine, &fake).function("echo", echo));
    let mut peer = fake.accept_asking();
    let results = [b"0".to_vec(), Vec::new(), vec![0; 1 << 20], (0..=255).collect(), b"\0".to_vec(), vec![7; 9 << 20]];
    for (i, result) in results.iter().enumerate() {
        let id = format!("H:x:{i}");
        peer.assign(&id, "echo", result);
        let answer = loop {
            match peer.next().expect("a packet") {
                (Kind::GrabJobUniq, _) => {}
                (kind, args) => break (kind, args),
            }
        };
        assert!(answer == (Kind::WorkComplete, vec![id.into_bytes(), result.clone()]), "result {i}");
    }
    assert_eq!(worker.stop().done, results.len() as u64);
}

/// Sent in one go or in pieces: whether it has all gone, nothing but the worker itself will tell it.
#[test]
fn a_large_result_is_followed_by_the_next_question() {
    let _dog = watchdog("large results");
    let (engine, fake) = (engine(1), Fake::new());
    let worker = Beside::run(worker_of(&engine, &fake).function("large", |_: &Job, _| Ok(vec![7; 9 << 20])));
    let mut peer = fake.accept_asking();
    for _ in 0..20 {
        peer.assign("H:x:1", "large", b"");
        peer.expect(Kind::WorkComplete);
        peer.expect(Kind::GrabJobUniq);
    }
    worker.stop();
}

#[test]
fn gw_07_what_a_body_tells_is_whole() {
    let _dog = watchdog("updates");
    let (engine, fake) = (engine(1), Fake::new());
    let by_engine = engine
        .function("inside", |payload: Vec<u8>| -> Answer {
            let running = layshaft::current().expect("a job");
            running.progress(3, 10);
            running.data(b"da\0ta");
            running.warning(b"");
            Ok(payload)
        })
        .unwrap();
    let by_job = |job: &Job, payload: Vec<u8>| {
        assert_eq!(
            (job.id(), job.function(), job.unique(), job.reducer()),
            (&b"H:x:1"[..], &b"job"[..], &b"key"[..], &b""[..])
        );
        job.progress(3, 10);
        job.data(b"da\0ta");
        job.warning(b"");
        Ok(payload)
    };
    let worker = Beside::run(worker_of(&engine, &fake).function("job", by_job).serve("inside", &by_engine));
    let mut peer = fake.accept();
    peer.expect(Kind::CanDo);
    peer.expect(Kind::CanDo);
    peer.expect(Kind::GrabJobUniq);
    for function in ["job", "inside"] {
        peer.assign("H:x:1", function, b"z");
        assert_eq!(peer.expect(Kind::WorkStatus), [&b"H:x:1"[..], b"3", b"10"]);
        assert_eq!(peer.expect(Kind::WorkData), [&b"H:x:1"[..], b"da\0ta"]);
        assert_eq!(peer.expect(Kind::WorkWarning), [&b"H:x:1"[..], b""]);
        assert_eq!(peer.expect(Kind::WorkComplete), [&b"H:x:1"[..], b"z"]);
        peer.expect(Kind::GrabJobUniq);
    }
    worker.stop();
}

#[test]
fn gw_01_a_lost_wake_up_is_made_good() {
    let _dog = watchdog("a repoll");
    let (engine, fake) = (engine(2), Fake::new());
    let worker = Beside::run(worker_of(&engine, &fake).repoll(SOON..SOON * 2).function("echo", echo));
    let mut peer = fake.accept_asking();
    for _ in 0..3 {
        // A job comes now, and nobody tells.
        peer.send_to_sleep();
        peer.expect(Kind::GrabJobUniq);
    }
    peer.assign("H:x:1", "echo", b"x");
    while peer.next().expect("a result").0 != Kind::WorkComplete {}
    worker.stop();
}

#[test]
fn gw_02_it_can_be_asked_to_stop_when_idle() {
    let _dog = watchdog("idleness");
    let (engine, fake) = (engine(1), Fake::new());
    let worker = Beside::run_by(worker_of(&engine, &fake).function("echo", echo), |worker| {
        worker.run_until(|is_idle, last_job| is_idle && last_job >= SOON)
    });
    let mut peer = fake.accept_asking();
    peer.assign("H:x:1", "echo", b"x");
    peer.expect(Kind::WorkComplete);
    peer.expect(Kind::GrabJobUniq);
    peer.send_to_sleep();
    peer.expect_end();
    drop(peer);
    assert_eq!(worker.end().expect("a good end").done, 1);
}

#[test]
fn as_many_jobs_as_threads_and_no_more() {
    let _dog = watchdog("grabs");
    let (engine, fake, gate) = (engine(2), Fake::new(), Gate::new());
    let pass = gate.clone();
    let body = move |_: &Job, payload: Vec<u8>| {
        pass.pass();
        Ok(payload)
    };
    let worker = Beside::run(worker_of(&engine, &fake).function("wait", body));
    let mut peer = fake.accept_asking();
    assert_eq!(peer.so_far(), [], "one until it is known whether there are more");
    peer.assign("H:x:1", "wait", b"1");
    peer.expect(Kind::GrabJobUniq);
    peer.assign("H:x:2", "wait", b"2");
    gate.wait_entered(2);
    assert_eq!(peer.so_far(), []);
    gate.open();
    let mut kinds: Vec<Kind> = (0..4).map(|_| peer.next().expect("a packet").0).collect();
    kinds.sort_unstable_by_key(|kind| kind.code());
    assert_eq!(kinds, [Kind::WorkComplete, Kind::WorkComplete, Kind::GrabJobUniq, Kind::GrabJobUniq]);
    worker.stop();
}

#[test]
fn quick_jobs_are_taken_ahead_up_to_a_limit() {
    let _dog = watchdog("grabs ahead");
    let (engine, fake) = (engine(1), Fake::new());
    let worker = Beside::run(worker_of(&engine, &fake).ahead(3, PATIENCE).function("echo", echo));
    let mut peer = fake.accept_asking();
    // Answers to nothing before it has heard all: the worker goes as far as it wants to.
    let (mut most, mut asked, mut given) = (0, 1, 0);
    while given < 40 {
        most = most.max(asked);
        for _ in 0..asked {
            given += 1;
            peer.assign(&format!("H:x:{given}"), "echo", b"");
        }
        let (mut ended, mut grabs) = (0, 0);
        while ended < asked {
            match peer.next().expect("a packet").0 {
                Kind::WorkComplete => ended += 1,
                _ => grabs += 1,
            }
        }
        grabs += peer.so_far().len();
        asked = grabs;
    }
    assert_eq!(most, 4, "one for the thread, and three ahead");
    worker.stop();
}

#[test]
fn nothing_is_taken_ahead_of_jobs_that_do_not_end() {
    let _dog = watchdog("no grabs ahead");
    let (engine, fake, gate) = (engine(2), Fake::new(), Gate::new());
    let pass = gate.clone();
    let body = move |_: &Job, payload: Vec<u8>| {
        if payload == b"wait" {
            pass.pass();
        }
        Ok(payload)
    };
    let worker = Beside::run(worker_of(&engine, &fake).ahead(64, PATIENCE).function("f", body));
    let mut peer = fake.accept_asking();
    let (mut given, mut ended) = (0, 0);
    while ended < 100 {
        // Answers everything: the worker learns that the function is quick.
        while peer.grabs() > 0 && given < 100 {
            given += 1;
            peer.assign(&format!("H:x:{given}"), "f", b"quick");
        }
        ended += usize::from(peer.next().expect("a packet").0 == Kind::WorkComplete);
    }
    peer.deny_all();
    for running in 1..=2 {
        peer.say(Kind::Noop, &[]);
        peer.expect(Kind::GrabJobUniq);
        peer.assign(&format!("H:x:1{running}"), "f", b"wait");
        gate.wait_entered(running);
        if running == 1 {
            peer.deny_all();
        }
    }
    // Both threads are busy: no job, and no wake-up, please.
    assert_eq!(peer.so_far(), []);
    peer.say(Kind::Noop, &[]);
    assert_eq!(peer.so_far(), []);
    gate.open();
    worker.stop();
}

#[test]
fn a_wake_up_that_finds_all_threads_busy_is_handed_back() {
    let _dog = watchdog("a wake-up");
    let (engine, fakes, gate) = (engine(1), [Fake::new(), Fake::new()], Gate::new());
    let pass = gate.clone();
    let body = move |_: &Job, payload: Vec<u8>| {
        pass.pass();
        Ok(payload)
    };
    let builder = worker_of(&engine, &fakes[0]).server(fakes[1].address()).function("wait", body);
    let worker = Beside::run(builder);
    let [mut first, mut second] = fakes.each_ref().map(Fake::accept_asking);
    first.send_to_sleep();
    second.send_to_sleep();
    first.say(Kind::Noop, &[]);
    first.expect(Kind::GrabJobUniq);
    first.assign("H:x:1", "wait", b"x");
    gate.wait_entered(1);
    second.say(Kind::Noop, &[]);
    second.expect(Kind::PreSleep);
    second.expect(Kind::EchoReq);
    // No other worker is there: when a thread is idle, it is this one's turn.
    second.say(Kind::Noop, &[]);
    second.say(Kind::EchoRes, &[b"awake"]);
    assert_eq!(second.so_far(), []);
    gate.open();
    second.expect(Kind::GrabJobUniq);
    worker.stop();
}

#[test]
fn servers_are_asked_in_turns() {
    let _dog = watchdog("turns");
    let (engine, fakes) = (engine(1), [Fake::new(), Fake::new(), Fake::new()]);
    let mut builder = worker_of(&engine, &fakes[0]).function("echo", echo);
    builder = builder.server(fakes[1].address()).server(fakes[2].address());
    let worker = Beside::run(builder);
    let mut peers = fakes.each_ref().map(Fake::accept);
    peers.iter_mut().for_each(|peer| drop(peer.expect(Kind::CanDo)));
    let mut given = [0; 3];
    for i in 0..30 {
        // One job at a time: whoever is asked is asked alone.
        let asked = peers.iter_mut().position(|peer| peer.so_far().contains(&Kind::GrabJobUniq));
        let Some(asked) = asked else { continue };
        given[asked] += 1;
        peers[asked].assign(&format!("H:x:{i}"), "echo", b"");
        peers[asked].expect(Kind::WorkComplete);
    }
    let (least, most) = (given.iter().min().unwrap(), given.iter().max().unwrap());
    assert!(most - least <= 1 && *least > 0, "{given:?}");
    worker.stop();
}

#[test]
fn functions_of_any_type_are_served() {
    let _dog = watchdog("a codec");
    let (engine, fake) = (engine(1), Fake::new());
    let half = engine.function("half of", |n: u32| n / 2).unwrap();
    let decode = |payload: &[u8]| {
        let text = std::str::from_utf8(payload).map_err(|_| WorkError::Fail)?;
        assert!(text != "panic", "what a mess");
        text.parse().map_err(|error| WorkError::exception(format!("{text:?}: {error}")))
    };
    let builder = worker_of(&engine, &fake).serve_with("half", &half, decode, |n| Ok(n.to_string().into_bytes()));
    let worker = Beside::run(builder);
    let mut peer = fake.accept_asking();
    let mut call = |payload: &[u8]| {
        peer.assign("H:x:1", "half", payload);
        let (kind, mut args) = peer.next().expect("an answer");
        if kind == Kind::WorkException {
            peer.expect(Kind::WorkFail);
        }
        peer.expect(Kind::GrabJobUniq);
        (kind, String::from_utf8(args.pop().expect("a payload")).expect("text"))
    };
    assert_eq!(call(b"84"), (Kind::WorkComplete, "42".to_owned()));
    assert_eq!(call(b"x"), (Kind::WorkException, "\"x\": invalid digit found in string".to_owned()));
    assert_eq!(call(b"panic"), (Kind::WorkException, "what a mess".to_owned()));
    assert_eq!(call(b"\xff"), (Kind::WorkFail, "H:x:1".to_owned()));
    assert_eq!(worker.stop().failed, 3);
    assert_eq!(engine.lookup::<u32, u32>("half of").unwrap().call(6).unwrap(), 3, "it stays");
}

#[test]
fn reducers_are_told_when_asked_for() {
    let _dog = watchdog("a reducer");
    let (engine, fake) = (engine(1), Fake::new());
    let body = |job: &Job, _| Ok([job.unique(), b"/", job.reducer()].concat());
    let worker = Beside::run(worker_of(&engine, &fake).reducers(true).function("f", body));
    let mut peer = fake.accept();
    peer.expect(Kind::CanDo);
    peer.expect(Kind::GrabJobAll);
    peer.say(Kind::JobAssignAll, &[b"H:x:1", b"f", b"u", b"r", b"p"]);
    assert_eq!(peer.expect(Kind::WorkComplete)[1], b"u/r");
    peer.expect(Kind::GrabJobAll);
    worker.stop();
}

#[test]
fn settings_that_make_no_sense_are_told() {
    let engine = engine(1);
    let builder = || Worker::builder(&engine).server("127.0.0.1:1");
    assert!(matches!(Worker::builder(&engine).function("f", echo).build(), Err(SetupError::NoServer)));
    assert!(matches!(builder().build(), Err(SetupError::NoFunction)));
    let wrong = builder().server("nowhere:x").function("f", echo).build();
    assert!(matches!(wrong, Err(SetupError::Address(_))), "{wrong:?}");
    let twice = builder().function("f", echo).function("f", echo).build();
    assert!(matches!(twice, Err(SetupError::Register(_))), "{twice:?}");
    assert!(matches!(builder().function("a\0b", echo).build(), Err(SetupError::Register(_))));
    let unknown = builder().function("f", echo).function_timeout("g", SOON).build();
    assert!(matches!(unknown, Err(SetupError::UnknownFunction(name)) if name == "g"));
    assert_eq!(engine.stats().functions, 0, "what was registered is removed again");
    drop(builder().function("f", echo).build().expect("a worker"));
    assert_eq!(engine.stats().functions, 0, "so it is when the worker goes");
}
