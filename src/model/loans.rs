//! Workers lent to a borrower that is no rayon.

use crate::sched::loan::{self, Loan};

/// Something that runs on some thread.
pub type Run = Box<dyn FnOnce() + Send>;

/// A thread of the borrower.
struct Thread {
    run: Run,
    apart: fn(Run),
}

impl loan::Thread for Thread {
    fn run(self) {
        (self.run)();
    }

    fn apart(&self) -> fn(Run) {
        self.apart
    }
}

/// A lent worker's job, before it runs. Dropping it discards it.
pub struct Seat(loan::Seat<Thread>);

impl Seat {
    /// Runs its thread.
    pub fn take(self) {
        self.0.take();
    }
}

/// Lends a worker for each of these threads, whose loops end when `pool` is dropped, while `f` runs: what it returns, or `None`
/// if all their jobs, which go to `queue`, are discarded. A thread whose job is discarded is run by `apart`.
pub fn lend<P, T>(
    threads: Vec<Run>,
    apart: fn(Run),
    pool: P,
    queue: impl Fn(Seat),
    f: impl FnOnce(&P) -> T,
) -> Option<T> {
    let (n, loan) = (threads.len(), Loan::new(threads.len()));
    threads.into_iter().for_each(|run| queue(Seat(loan::Seat::new(Thread { run, apart }, &loan))));
    loan.run(n, pool, f).0.map(|result| result.expect("no panic"))
}
