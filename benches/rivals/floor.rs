//! A yardstick: what the kernel takes to wake a sleeping thread, with nothing around it.

use crate::machine;
use crate::system::pin;
use crate::workload::Effort;
use std::hint::spin_loop;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

static CALL: AtomicU32 = AtomicU32::new(0);
static REPLY: AtomicU32 = AtomicU32::new(0);

/// Median nanoseconds from the wake to the woken thread's reply, each after a pause.
pub(crate) fn futex_wake(effort: Effort, pause: Duration) -> f64 {
    pin(1);
    thread::spawn(sleeper);
    pin(0);
    let trips = if effort == Effort::Full { 250 } else { 50 };
    let once = |n: u32| {
        thread::sleep(pause);
        let started = Instant::now();
        CALL.store(n, Ordering::SeqCst);
        // SAFETY: the word is a static.
        unsafe { libc::syscall(libc::SYS_futex, CALL.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
        while REPLY.load(Ordering::SeqCst) != n {
            spin_loop();
        }
        started.elapsed().as_nanos() as f64
    };
    machine::median((1..=trips).map(once).collect())
}

fn sleeper() {
    let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let mut seen = 0;
    loop {
        while CALL.load(Ordering::SeqCst) == seen {
            let forever = ptr::null::<libc::timespec>();
            // SAFETY: the word is a static, and a null timeout is none.
            unsafe { libc::syscall(libc::SYS_futex, CALL.as_ptr(), wait, seen, forever) };
        }
        seen = CALL.load(Ordering::SeqCst);
        REPLY.store(seen, Ordering::SeqCst);
    }
}
