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
