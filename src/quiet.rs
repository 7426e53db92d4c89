//! Foreign code whose panic concerns nobody who could be told: drops, and wakers.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Calls `f`; a panic ends there.
pub(crate) fn quietly(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        swallow(payload);
    }
}

/// Wakes a task: a waker that panics harms its own task alone.
pub(crate) fn wake(waker: Waker) {
    quietly(|| waker.wake());
}

/// Drops a panic payload whose own drop may panic.
pub(crate) fn swallow(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
        && let Err(third) = catch_unwind(AssertUnwindSafe(|| drop(second)))
    {
        // Panics all the way down: leaking the last is what is left.
        std::mem::forget(third);
    }
}
