//! How do functions come and go while the engine runs?

mod common;

use common::{Gate, Held, Live, Tally, engine, outcome, value, watchdog};
use layshaft::{Engine, Function, JobError, JobHandle, RegisterError, Shutdown};
use std::sync::Arc;

#[test]
fn registered_while_jobs_run() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let gate = Gate::new();
    let pass = gate.clone();
    let slow = engine.function("slow", move |()| pass.pass()).unwrap();
    let running = slow.submit(()).unwrap();
    gate.wait_entered(1);
    let late = engine.function("late", |n: u64| n + 1).unwrap();
    assert_eq!(value(late.submit(1).unwrap()), 2);
    assert_eq!(engine.stats().functions, 2);
    gate.open();
    value(running);
}

#[test]
fn registered_and_removed_inside_jobs() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let make = engine.function("make", |name: String| {
        let engine = layshaft::current().unwrap().engine();
        let made = engine.function(&name, |n: u64| n + 1).unwrap();
        let result = made.submit(1).unwrap();
        assert!(engine.remove(&name));
        assert!(made.is_closed());
        result
    });
    let make = make.unwrap();
    for n in 0..100 {
        let inner = value(make.submit(format!("made {}", n % 3)).unwrap());
        assert_eq!(value(inner), 2);
    }
    assert_eq!(engine.stats().functions, 1);
}

#[test]
fn removed_inside_its_own_body() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let live = Live::default();
    let token = live.token();
    let once = engine.function("once", move |n: u64| {
        let _token = &token;
        layshaft::current().unwrap().engine().remove("once");
        n
    });
    let once = once.unwrap();
    assert_eq!(value(once.submit(4).unwrap()), 4);
    assert_eq!(once.send(5).unwrap_err().into_arg(), 5);
    drop((engine, once));
    live.assert_balanced();
}

#[test]
fn removal_lets_queued_jobs_run() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let done = Tally::new();
    let count = done.clone();
    let note = held.engine.function("note", move |n: u64| count.add(n)).unwrap();
    let handles: Vec<_> = (0..100).map(|n| note.submit(n).unwrap()).collect();
    note.send_batch(0..100).unwrap();
    assert!(held.engine.remove("note"));
    assert!(!held.engine.remove("note"), "it is gone already");
    assert!(note.is_closed());
    assert_eq!(note.queued(), 200);
    assert_eq!(note.send(1).unwrap_err().into_arg(), 1);
    assert_eq!(note.submit(2).err().unwrap().into_arg(), 2);
    let _engine = held.release();
    handles.into_iter().for_each(value);
    done.wait_for(200);
    assert_eq!(done.sum(), 2 * 4_950);
}

/// The name is free at once, for other types too, and the old function keeps its own jobs.
#[test]
fn a_removed_name_is_free_at_once() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let first = held.engine.function("f", |n: u64| n + 1).unwrap();
    let old = first.submit(1).unwrap();
    assert!(held.engine.remove("f"));
    let second = held.engine.function("f", |text: String| text.len()).unwrap();
    let new = second.submit("four".to_owned()).unwrap();
    assert!(matches!(held.engine.function("f", |n: u64| n).err(), Some(RegisterError::NameTaken(_))));
    assert!(held.engine.remove("f"));
    let third = held.engine.consumer::<u64, u64>("f").unwrap();
    assert!(first.is_closed() && second.is_closed() && !third.is_closed());
    let _engine = held.release();
    assert_eq!(value(old), 2);
    assert_eq!(value(new), 4);
}

#[test]
fn queued_is_exact() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (note, other) = (held.engine.function("note", |n: u64| n), held.engine.function("other", |n: u64| n));
    let (note, other) = (note.unwrap(), other.unwrap());
    for n in 0..500 {
        assert_eq!(note.queued(), n);
        note.send(n as u64).unwrap();
    }
    note.send_batch(0..500).unwrap();
    let last = note.submit(0).unwrap();
    assert_eq!((note.queued(), other.queued()), (1_001, 0));
    assert!(last.cancel());
    assert_eq!(note.queued(), 1_000);
    held.release().shutdown(Shutdown::Drain);
    assert_eq!(note.queued(), 0);
}

#[test]
fn jobs_of_one_function_start_in_order() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (tell, told) = std::sync::mpsc::channel();
    let note = held.engine.function("note", move |n: u64| tell.send(n).unwrap()).unwrap();
    for n in (0..600).step_by(3) {
        note.send(n).unwrap();
        drop(note.submit(n + 1).unwrap());
        note.send_batch([n + 2]).unwrap();
    }
    held.release().shutdown(Shutdown::Drain);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), (0..600).collect::<Vec<_>>());
}

/// No function is left behind, however many have work at once.
#[test]
fn twenty_thousand_functions_with_work_at_once() {
    const FUNCTIONS: u64 = 20_000;
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(2);
    let done = Tally::new();
    let register = |n: u64| {
        let count = done.clone();
        held.engine.function(&format!("function {n}"), move |m: u64| count.add(n * m)).unwrap()
    };
    let functions: Vec<_> = (0..FUNCTIONS).map(register).collect();
    assert_eq!(held.engine.stats().functions as u64, FUNCTIONS + 1);
    for function in functions.iter().rev() {
        function.send(1).unwrap();
    }
    for function in &functions {
        function.send(2).unwrap();
    }
    let _engine = held.release();
    done.wait_for(2 * FUNCTIONS);
    assert_eq!(done.sum(), 3 * (FUNCTIONS - 1) * FUNCTIONS / 2);
}

fn come_and_go(engine: &Engine, thread: u64, rounds: u64, done: &Tally, live: &Live) {
    let mut alive: Vec<(String, Function<u64, ()>)> = Vec::new();
    for round in 0..rounds {
        let name = format!("{thread}-{}", round % 97);
        let (count, token) = (done.clone(), live.token());
        let body = move |n| {
            let _token = &token;
            count.add(n);
        };
        let function = engine.function(&name, body).unwrap();
        function.send(round).unwrap();
        if alive.len() > 60 {
            let (name, oldest) = alive.remove((round % 7) as usize);
            oldest.send(1).unwrap();
            assert!(engine.remove(&name));
            assert_eq!(oldest.send(9).unwrap_err().into_arg(), 9);
        }
        if alive.iter().all(|(other, _)| *other != name) && round % 3 != 0 {
            alive.push((name, function));
        } else {
            assert!(engine.remove(&name));
        }
        alive.retain(|(other, function)| {
            let clash = *other == format!("{thread}-{}", (round + 1) % 97);
            assert!(!function.is_closed());
            !clash || !engine.remove(other)
        });
    }
    for (name, _) in alive {
        assert!(engine.remove(&name));
    }
}

#[test]
fn tens_of_thousands_come_and_go() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let (done, live) = (Tally::new(), Live::default());
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (engine, done, live) = (&engine, &done, &live);
            scope.spawn(move || come_and_go(engine, thread, 10_000, done, live));
        }
    });
    assert_eq!(engine.stats().functions, 0);
    assert!(engine.shutdown(Shutdown::Drain).complete);
    drop(engine);
    assert!(done.count() > 30_000, "{} jobs", done.count());
    live.assert_balanced();
}

/// Removal races with submits: each argument is handed back, or its job runs.
#[test]
fn removal_in_a_race() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let mut accepted_in_all = 0;
    for round in 0..200 {
        let done = Tally::new();
        let count = done.clone();
        let f = engine.function("f", move |n: u64| count.add(n)).unwrap();
        let gate = Gate::new();
        let accepted: u64 = std::thread::scope(|scope| {
            let submit = |from: u64| {
                let (f, gate) = (f.clone(), gate.clone());
                move || {
                    gate.pass();
                    (from..from + 200).filter(|n| f.send(*n).is_ok()).count() as u64
                }
            };
            let threads = [scope.spawn(submit(0)), scope.spawn(submit(200))];
            gate.wait_entered(2);
            gate.open();
            for _ in 0..round * 20 {
                std::hint::spin_loop();
            }
            assert!(engine.remove("f"));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        done.wait_for(accepted);
        assert_eq!((f.queued(), f.is_closed()), (0, true));
        accepted_in_all += accepted;
    }
    println!("{accepted_in_all} of {} jobs were accepted", 200 * 400);
}

/// A body is dropped once, when nothing can call it any more.
#[test]
fn bodies_are_dropped_once() {
    let _watchdog = watchdog("the end of the jobs");
    let live = Live::default();
    let engine = engine(2);
    let register = |name: &str| {
        let token = Arc::new(live.token());
        engine.function(name, move |n: u64| n + Arc::strong_count(&token) as u64).unwrap()
    };
    let (removed, kept) = (register("removed"), register("kept"));
    assert_eq!(value(removed.submit(1).unwrap()), 2);
    engine.remove("removed");
    engine.shutdown(Shutdown::Drain);
    assert!(matches!(kept.submit(1).map(outcome), Err(error) if error.is_closed()));
    drop(engine);
    drop((removed, kept));
    live.assert_balanced();
}

/// Bodies that are removed while they run finish, and their waiters learn the result.
#[test]
fn removal_while_the_body_runs() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let (gate, live) = (Gate::new(), Live::default());
    let (pass, token) = (gate.clone(), live.token());
    let body = move |fail: bool| {
        pass.pass();
        if fail { std::panic::resume_unwind(Box::new("meant")) } else { token.number() }
    };
    let slow = engine.function("slow", body).unwrap();
    let (fine, failed) = (slow.submit(false).unwrap(), slow.submit(true).unwrap());
    gate.wait_entered(1);
    assert!(engine.remove("slow"));
    drop(slow);
    assert_eq!(live.dropped(), 0, "the body runs");
    gate.open();
    assert_eq!(value(fine), 1);
    assert!(matches!(outcome(failed), Err(JobError::Panicked(_))));
    drop(engine);
    live.assert_balanced();
}

/// A function that was removed while its last job ran is dropped although nothing else happens in the engine.
#[test]
fn a_removed_body_goes_while_the_engine_is_idle() {
    let _watchdog = watchdog("the drop of the body");
    for workers in [1, 2, 3] {
        let engine = engine(workers);
        let (gate, (kept, gone)) = (Gate::new(), std::sync::mpsc::channel::<()>());
        let pass = gate.clone();
        let body = move |()| {
            let _ = &kept;
            pass.pass();
        };
        let slow = engine.function("slow", body).unwrap();
        slow.send(()).unwrap();
        gate.wait_entered(1);
        assert!(engine.remove("slow"));
        drop(slow);
        gate.open();
        assert_eq!(gone.recv(), Err(std::sync::mpsc::RecvError), "the body is dropped, and its channel with it");
    }
}

/// Jobs that a worker has claimed are queued until they start, and a cancelled one is not, wherever it lies.
#[test]
fn claimed_jobs_are_queued() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let gate = Gate::new();
    let pass = gate.clone();
    let slow = engine
        .function("slow", move |wait| {
            if wait {
                pass.pass()
            }
        })
        .unwrap();
    let handles: Vec<_> = slow.submit_batch((0..6).map(|n| n == 0)).unwrap().into_iter().collect();
    gate.wait_entered(1);
    assert_eq!(slow.queued(), 5);
    assert!(handles[1..].iter().all(JobHandle::cancel));
    assert!(handles[1..].iter().all(JobHandle::cancel), "asking again changes nothing");
    assert_eq!(slow.queued(), 0);
    slow.send_batch([false; 5]).unwrap();
    assert_eq!(slow.queued(), 5);
    gate.open();
    engine.shutdown(Shutdown::Drain);
    assert_eq!(slow.queued(), 0);
}

/// What a removed function's body does when it is dropped, on a worker that has nothing else to do.
struct SubmitsWhenDropped(Function<u64, ()>);

impl Drop for SubmitsWhenDropped {
    fn drop(&mut self) {
        self.0.send(7).unwrap();
    }
}

#[test]
fn a_dropped_body_submits() {
    let _watchdog = watchdog("the end of the job");
    let held = Held::new(1);
    let done = Tally::new();
    let count = done.clone();
    let note = held.engine.function("note", move |n: u64| count.add(n)).unwrap();
    let last = SubmitsWhenDropped(note);
    drop(held.engine.function("old", move |()| drop(last.0.clone())).unwrap());
    held.engine.remove("old");
    let _engine = held.release();
    done.wait_for(1);
    assert_eq!(done.sum(), 7);
}
