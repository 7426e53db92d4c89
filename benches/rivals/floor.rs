//! Yardsticks: what the kernel takes to wake a sleeping thread, and the machine to move a cache line, with nothing around
//! them.

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

/// Nanoseconds that a cache line takes from one core to the other. On a shared machine it may change while figures are
/// taken, and all that crosses cores with it.
pub(crate) fn line_transfer() -> f64 {
    const TRIPS: u32 = 20_000;
    let line = AtomicU32::new(0);
    let turn = |core: usize| {
        pin(core);
        let started = Instant::now();
        for n in (core as u32..2 * TRIPS).step_by(2) {
            // Another process may have this core: then the figure is high, and says so.
            while line.load(Ordering::Acquire) != n {
                spin_loop();
            }
            line.store(n + 1, Ordering::Release);
        }
        started.elapsed().as_nanos() as f64
    };
    let turn = &turn;
    thread::scope(|scope| {
        scope.spawn(move || turn(1));
        scope.spawn(move || turn(0)).join().expect("it only counts") / f64::from(2 * TRIPS)
    })
}
