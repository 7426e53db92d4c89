//! Does everybody who listens to a job hear what it tells, in order?

mod common;

use common::{Gate, Held, engine, value, watchdog};
use layshaft::Update;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

fn data(n: u64) -> Update {
    Update::Data(n.to_le_bytes().as_slice().into())
}

#[test]
fn behaviour_08_in_order() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(2);
    let tell = engine.function("tell", |n: u64| {
        let running = layshaft::current().unwrap();
        (0..n).for_each(|i| running.data(&i.to_le_bytes()));
        running.progress(n, n);
        running.warning(b"that was all");
    });
    let tell = tell.unwrap();
    let (hears, heard) = mpsc::channel();
    let handle = tell.job(100).on_update(move |update| hears.send(update.clone()).unwrap()).submit().unwrap();
    value(handle);
    let mut expected: Vec<_> = (0..100).map(data).collect();
    expected.push(Update::Progress { done: 100, total: 100 });
    expected.push(Update::Warning(b"that was all".as_slice().into()));
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), expected, "all of it before the end");
    value(tell.submit(3).unwrap());
    tell.send(3).unwrap();
}

/// Who joins later hears the rest; a listener that panics harms nobody.
#[test]
fn several_listeners() {
    let _watchdog = watchdog("the end of the job");
    let held = Held::new(1);
    let (first, second) = (Gate::new(), Gate::new());
    let gates = [first.clone(), second.clone()];
    let tell = held.engine.function("tell", move |()| {
        let running = layshaft::current().unwrap();
        running.progress(1, 2);
        gates.iter().for_each(Gate::pass);
        running.progress(2, 2);
    });
    let tell = tell.unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listen = |who: u8| {
        let heard = Arc::clone(&heard);
        let on_update = move |update: &Update| {
            let Update::Progress { done, .. } = update else { panic!("{update:?}") };
            heard.lock().unwrap().push((who, *done));
            if who == 1 {
                std::panic::resume_unwind(Box::new("meant"));
            }
        };
        tell.job(()).unique(*b"key").on_update(on_update).submit().unwrap()
    };
    let handles = [listen(1), listen(2)];
    held.open();
    first.wait_entered(1);
    let late = listen(3);
    first.open();
    second.wait_entered(1);
    second.open();
    _ = handles.map(value);
    value(late);
    let mut heard = heard.lock().unwrap().clone();
    heard.sort_unstable();
    assert_eq!(heard, [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2)]);
}

/// A consumer tells, too; what a job tells whose time is up is for nobody.
#[test]
fn from_a_consumer() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let remote = engine.consumer::<u64, u64>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let (hears, heard) = mpsc::channel();
    let also = hears.clone();
    let handle = remote.job(1).on_update(move |update| hears.send(update.clone()).unwrap()).submit().unwrap();
    let (arg, completer) = set.try_next().unwrap().take();
    completer.progress(1, 3);
    completer.data(b"part");
    completer.complete(arg);
    assert_eq!(value(handle), 1);
    let late =
        remote.job(2).timeout(Duration::from_millis(10)).on_update(move |update| also.send(update.clone()).unwrap());
    let late = late.submit().unwrap();
    let (_, completer) = set.try_next().unwrap().take();
    common::outcome(late).unwrap_err();
    completer.warning(b"too late");
    let part = Update::Data(b"part".as_slice().into());
    assert_eq!(heard.iter().take(2).collect::<Vec<_>>(), [Update::Progress { done: 1, total: 3 }, part]);
    assert!(heard.try_recv().is_err());
}

/// A listener asks the function while another submit joins the job: neither holds up the other.
#[test]
fn a_listener_may_call_whatever_it_likes() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let tell = engine.function("tell", |n: u64| {
        let running = layshaft::current().unwrap();
        running.progress(n, n);
        n
    });
    let tell = tell.unwrap();
    let (gate, asked) = (Gate::new(), tell.clone());
    let pass = gate.clone();
    let ask = move |_: &Update| {
        pass.pass();
        assert!(asked.stats().running >= 1 && asked.queued() == 0);
        asked.send(7).unwrap();
    };
    let first = tell.job(1).unique("key").on_update(ask).submit().unwrap();
    gate.wait_entered(1);
    // These would wait for the listener, if it ran under a lock of the function.
    let joined = tell.job(1).unique("key").on_update(|_| ()).submit().unwrap();
    assert_eq!(tell.call(2).unwrap(), 2);
    gate.open();
    assert_eq!([first, joined].map(value), [1, 1]);
    while tell.stats().done < 3 {
        std::thread::yield_now();
    }
}

/// What a listener tells comes after what it was told, for all.
#[test]
fn a_listener_that_tells() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let tell = engine.function("tell", |()| {
        let running = layshaft::current().unwrap();
        running.progress(0, 2);
        running.progress(2, 2);
    });
    let tell = tell.unwrap();
    let (hears, heard) = mpsc::channel();
    let on_update = move |update: &Update| {
        hears.send(update.clone()).unwrap();
        if matches!(update, Update::Progress { done: 0, .. }) {
            layshaft::current().unwrap().progress(1, 2);
        }
    };
    value(tell.job(()).on_update(on_update).submit().unwrap());
    let step = |done| Update::Progress { done, total: 2 };
    assert_eq!(heard.iter().collect::<Vec<_>>(), [0, 1, 2].map(step));
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("in a drop"));
    }
}

/// A listener that panics when it is dropped: nobody's end is lost, no clock stops, and nothing is counted twice.
#[test]
fn a_listener_that_panics_when_dropped() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let slow = engine.consumer::<u64, u64>("slow").unwrap();
    let quick = engine.function("quick", |n: u64| n).unwrap();
    let short = Duration::from_millis(20);
    fn bombed(function: &layshaft::Function<u64, u64>, n: u64) -> layshaft::Submit<'_, u64, u64> {
        let bomb = Bomb;
        function.job(n).on_update(move |_| _ = &bomb)
    }
    let ends = [bombed(&slow, 1), slow.job(2), bombed(&slow, 3)].map(|job| job.deadline(short).submit().unwrap());
    for end in ends {
        assert!(matches!(common::outcome(end), Err(layshaft::JobError::TimedOut)));
    }
    // The clock goes on.
    assert_eq!(value(quick.job(4).after(short).submit().unwrap()), 4);
    assert_eq!(value(bombed(&quick, 5).submit().unwrap()), 5);
    bombed(&quick, 6).send().unwrap();
    while quick.stats().ended() < 3 {
        std::thread::yield_now();
    }
    assert_eq!((quick.stats().accepted(), quick.stats().panicked, slow.stats().timed_out), (3, 0, 3));
}
