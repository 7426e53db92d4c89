//! A waker that counts.

use super::PATIENCE;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Wake, Waker};

/// Counts its wakes, and lets a thread wait for them.
#[derive(Default)]
pub(crate) struct CountingWaker {
    wakes: Mutex<usize>,
    woken: Condvar,
}

impl CountingWaker {
    pub(crate) fn pair() -> (Arc<CountingWaker>, Waker) {
        let counter = Arc::new(CountingWaker::default());
        let waker = Waker::from(counter.clone());
        (counter, waker)
    }

    pub(crate) fn wakes(&self) -> usize {
        *self.wakes.lock().unwrap()
    }

    /// Waits until this waker was woken `count` times.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) {
        let wakes = self.wakes.lock().unwrap();
        let (wakes, _) = self.woken.wait_timeout_while(wakes, PATIENCE, |wakes| *wakes < count).unwrap();
        assert!(*wakes >= count, "woken {} times, not {count}, within {PATIENCE:?}: a wake was lost", *wakes);
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        *self.wakes.lock().unwrap() += 1;
        self.woken.notify_all();
    }
}
