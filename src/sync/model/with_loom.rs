//! Loom: every schedule of few threads. Sees races on plain data, and what weak orderings allow.

pub(crate) use loom::cell::UnsafeCell;
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
pub(crate) use loom::thread::yield_now;
pub(crate) use loom::{lazy_static, thread_local};

/// No wait times out: a model that needs a timer has a thread for it.
pub(crate) const TIME_PASSES: bool = false;

pub(crate) fn is_over() -> bool {
    false
}
