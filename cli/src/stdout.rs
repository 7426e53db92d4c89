//! Whether there is a standard output. Rust opens `/dev/null` in the place of one that is closed, before `main`; only who
//! looks earlier can tell results that go nowhere from results that are thrown away on purpose.

use std::sync::atomic::{AtomicBool, Ordering};

static IS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Runs before Rust's own beginning, of which it uses nothing: one system call.
#[cfg(target_os = "linux")]
#[ctor::ctor]
fn look() {
    let is_closed = rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err();
    // Ordering: Relaxed, there is only one thread.
    IS_CLOSED.store(is_closed, Ordering::Relaxed);
}

/// Whether the command was started without one.
pub(crate) fn is_closed() -> bool {
    // Ordering: Relaxed, stored before there were other threads.
    IS_CLOSED.load(Ordering::Relaxed)
}
