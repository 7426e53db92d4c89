//! Workers that die and connections that break: is any job lost, or ended twice?
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;
#[path = "common/proxy.rs"]
mod proxy;
// Not all of it is used here.
#[allow(dead_code)]
#[path = "common/rng.rs"]
mod rng;

use layshaft::Engine;
use layshaft::gearman::packet::{self, Kind, Magic};
use layshaft::gearman::worker::Backoff;
use layshaft::gearman::{Address, Client, Server, Worker};
use peer::{Peer, server};
use proxy::{Faults, Proxy};
use rng::Rng;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Workers that die with a job in hand.
const DEATHS: u64 = 10_000;
/// Jobs of the client that are not done, at any time.
const OUTSTANDING: usize = 40;

/// Ends the worker that does what is left.
const LAST: &[u8] = b"last";

/// What a job's result is to be.
fn result_of(payload: &[u8]) -> Vec<u8> {
    payload.iter().rev().copied().collect()
}

/// Connects, takes jobs, does some of them, and is gone in the middle of something.
fn live_and_die(server: &Server, rng: &mut Rng, done: &AtomicU64) {
    let mut worker = Peer::worker(server, &["f"]);
    let jobs = 1 + rng.below(3);
    (0..jobs).for_each(|_| worker.send(Kind::GrabJob, &[]));
    let mut answer = Vec::new();
    for _ in 0..jobs {
        let got = worker.next().expect("the server is there");
        if got.kind == Kind::NoJob {
            continue;
        }
        let (handle, result) = (&got.args[0], result_of(&got.args[2]));
        if rng.one_in(3) {
            packet::encode(&mut answer, Magic::Request, Kind::WorkStatus, &[handle, b"1", b"2"]);
        }
        if rng.one_in(4) {
            packet::encode(&mut answer, Magic::Request, Kind::WorkData, &[handle, b"part"]);
        }
        if rng.one_in(2) {
            packet::encode(&mut answer, Magic::Request, Kind::WorkComplete, &[handle, &result]);
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    // At any byte of that.
    let cut = rng.below(answer.len() as u64 + 1) as usize;
    worker.write(&answer[..cut]);
}

#[test]
fn workers_killed_ten_thousand_times() {
    let (server, seed) = (server(), rng::seed("workers_killed_ten_thousand_times"));
    let (deaths, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let killers: Vec<_> = (0..4)
            .map(|n| {
                let (server, deaths, done) = (&server, &deaths, &done);
                scope.spawn(move || {
                    let mut rng = Rng::new(seed + n);
                    while deaths.fetch_add(1, Ordering::Relaxed) < DEATHS {
                        live_and_die(server, &mut rng, done);
                    }
                })
            })
            .collect();
        // Does what they leave.
        let (server, is_over) = (&server, &is_over);
        let honest = scope.spawn(move || {
            killers.into_iter().for_each(|killer| killer.join().unwrap());
            is_over.store(true, Ordering::Release);
            let mut worker = Peer::worker(server, &["f"]);
            worker.send(Kind::GrabJob, &[]);
            while let Some(got) = worker.next() {
                match got.kind {
                    Kind::JobAssign if got.args[2] == LAST => return worker.complete(&got.args[0], &result_of(LAST)),
                    Kind::JobAssign => worker.complete(&got.args[0], &result_of(&got.args[2])),
                    Kind::NoJob => worker.send(Kind::PreSleep, &[]),
                    kind => assert_eq!(kind, Kind::Noop),
                }
                if got.kind != Kind::NoJob {
                    worker.send(Kind::GrabJob, &[]);
                }
            }
        });
        let mut client = Peer::new(server);
        let mut waiting: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut ended = HashSet::new();
        let mut submitted = 0u64;
        loop {
            let goes_on = !is_over.load(Ordering::Acquire);
            while goes_on && waiting.len() < OUTSTANDING {
                let payload = submitted.to_be_bytes();
                let handle = submit(&mut client, &payload, &mut waiting, &mut ended);
                assert!(waiting.insert(handle, payload.to_vec()).is_none());
                submitted += 1;
            }
            if waiting.is_empty() {
                break;
            }
            hear(&mut client, &mut waiting, &mut ended);
        }
        assert_eq!(ended.len() as u64, submitted, "every job has ended");
        assert_eq!(client.status("f").map(|[total, running, _]| (total, running)), Some((0, 0)));
        client.submit(Kind::SubmitJobBg, "f", b"", LAST);
        honest.join().unwrap();
        println!("{submitted} jobs, {DEATHS} deaths, {} results by the dying", done.load(Ordering::Relaxed));
    });
}

/// Submits; what else comes meanwhile is heard.
fn submit(
    client: &mut Peer,
    payload: &[u8],
    waiting: &mut HashMap<Vec<u8>, Vec<u8>>,
    ended: &mut HashSet<Vec<u8>>,
) -> Vec<u8> {
    client.send(Kind::SubmitJob, &[b"f", b"", payload]);
    loop {
        let got = client.next().expect("the server is there");
        if got.kind == Kind::JobCreated {
            return got.args[0].clone();
        }
        look_at(got, waiting, ended);
    }
}

/// Hears of something.
fn hear(client: &mut Peer, waiting: &mut HashMap<Vec<u8>, Vec<u8>>, ended: &mut HashSet<Vec<u8>>) {
    look_at(client.next().expect("the server is there"), waiting, ended);
}

fn look_at(got: peer::Got, waiting: &mut HashMap<Vec<u8>, Vec<u8>>, ended: &mut HashSet<Vec<u8>>) {
    let handle = got.args[0].clone();
    match got.kind {
        Kind::WorkStatus | Kind::WorkData => assert!(waiting.contains_key(&handle), "{got:?} of a job that is over"),
        Kind::WorkComplete => {
            let payload = waiting.remove(&handle).expect("the first end of a job that was submitted");
            assert_eq!(got.args[1], result_of(&payload));
            assert!(ended.insert(handle), "a second end");
        }
        kind => panic!("{kind}: {got:?}"),
    }
}

/// Clients and workers of this library over connections that are cut to pieces, stalled and broken off: each job has the right
/// result, once.
#[test]
fn jobs_over_broken_connections() {
    let seed = rng::seed("jobs_over_broken_connections");
    let server = server();
    let faults = Faults { piece: 60, stall: 20, reset: 500 };
    let proxy = Proxy::new(server.addresses()[0], faults, seed);
    let engine = Engine::builder().workers(2).start().unwrap();
    let at = || Address::list(&proxy.address.to_string()).unwrap();
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let engine = Engine::builder().workers(2).start().unwrap();
            let worker = Worker::builder(&engine)
                .servers(at())
                .backoff(Backoff::always(Duration::from_millis(1)))
                .function("f", |_, payload| Ok(result_of(&payload)))
                .build()
                .unwrap();
            let stopper = worker.stopper();
            (stopper, thread::spawn(move || worker.run()))
        })
        .collect();
    let client = Client::builder().servers(at()).backoff_max(Duration::from_millis(10)).start().unwrap();
    // In waves: a job that many connections break with is taken to be the cause of it, and given up.
    for wave in 0..60u64 {
        let handles: Vec<_> = (0..25u64)
            .map(|n| {
                let payload = (25 * wave + n).to_be_bytes();
                let handle = client.job("f", payload).unique(format!("key-{wave}-{n}")).submit().unwrap();
                (payload, handle)
            })
            .collect();
        for (payload, handle) in handles {
            assert_eq!(handle.wait().unwrap(), result_of(&payload));
        }
    }
    println!("1500 jobs, {} connections broken off", proxy.resets());
    assert!(proxy.resets() > 0, "nothing was broken");
    for (stopper, worker) in workers {
        stopper.stop_now();
        let _ = worker.join().unwrap();
    }
    drop((client, engine));
}
