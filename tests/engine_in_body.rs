//! A body that holds its own engine: the cycle ends with an explicit shutdown, and nothing waits for itself.

mod common;

use common::{engine, watchdog};
use layshaft::Shutdown;
use std::sync::mpsc;

/// Tells when it is dropped, after trying to submit from there.
struct Last {
    engine: layshaft::Engine,
    function: Option<layshaft::Function<u32, u32>>,
    told: mpsc::Sender<bool>,
}

impl Drop for Last {
    fn drop(&mut self) {
        let refused = self.function.take().is_none_or(|f| f.send(1).is_err());
        let workers = self.engine.workers();
        let _ = self.told.send(refused && workers > 0);
    }
}

#[test]
fn a_body_that_holds_the_last_handle() {
    let _watchdog = watchdog("the end of the engine");
    let (told, heard) = mpsc::channel();
    let engine = engine(2);
    let other = engine.function("other", |n: u32| n).unwrap();
    let last = Last { engine: engine.clone(), function: Some(other), told };
    let holder = engine
        .function("holder", move |n: u32| {
            let _ = &last;
            n
        })
        .unwrap();
    assert_eq!(holder.call(3).unwrap(), 3);
    assert!(engine.shutdown(Shutdown::Drain).complete);
    drop(engine);
    assert_eq!(heard.recv(), Ok(true), "dropped once, and its submit was refused");
}
