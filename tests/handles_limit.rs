//! What happens when a process holds more handles than there are result slots?

mod common;

use common::{engine, watchdog};

/// Slots of one size: an index of 24 bits.
const SLOTS: usize = (1 << 24) - 1;

#[test]
fn more_handles_than_slots() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let kept = engine.consumer::<(), ()>("kept").unwrap();
    let error = kept.submit_batch((0..=SLOTS).map(|_| ())).unwrap_err();
    // Slots that other threads keep for their next jobs are not to be had.
    assert!(error.is_full() && error.accepted() > SLOTS - 10_000, "{error}");
    let accepted = error.accepted();
    let (handles, rest) = error.into_parts();
    assert_eq!((handles.len(), accepted + rest.len()), (accepted, SLOTS + 1));
    assert!(kept.submit(()).unwrap_err().is_full());
    assert!(kept.job(()).priority(layshaft::Priority::High).submit().unwrap_err().is_full());
    kept.send(()).unwrap();
    assert_eq!(kept.queued(), accepted + 1, "nothing is lost, and jobs without handles go on");
    drop(handles);
    engine.shutdown(layshaft::Shutdown::Discard);
    let other = layshaft::Engine::builder().workers(1).start().unwrap();
    assert!(other.function("again", |()| ()).unwrap().submit(()).is_ok(), "dropped handles make room");
}
