//! Workers that are lent out: the borrower's work begins when one has come, nobody is at it after its end, whatever becomes of
//! the engine meanwhile, and somebody is always left to run jobs.
#![cfg(layshaft_loom)]

use layshaft::Shutdown;
use layshaft::model::loans::{Run, Seat, lend};
use layshaft::model::workers::{Loan, Steps, engine, engine_with_spares, work};
use layshaft_loom_tests::{Threads, explore};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::cell::RefCell;

/// What the borrower's threads run on: they wait until it is over, and read what the lender has on its stack until then.
#[derive(Clone)]
struct Pool(Arc<Shared>);

struct Shared {
    is_over: Mutex<bool>,
    ended: Condvar,
    /// What the lender owns. Who comes after the end does not look at it.
    data: UnsafeCell<usize>,
}

// SAFETY: loom checks that nobody reads what the lender writes.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Pool {
    fn new() -> Pool {
        let (is_over, ended) = (Mutex::new(false), Condvar::new());
        Pool(Arc::new(Shared { is_over, ended, data: UnsafeCell::new(0) }))
    }

    /// The loop of a thread.
    fn thread(&self) -> Run {
        let Pool(pool) = self.clone();
        Box::new(move || {
            let mut is_over = pool.is_over.lock().unwrap();
            if *is_over {
                return;
            }
            while !*is_over {
                is_over = pool.ended.wait(is_over).unwrap();
            }
            drop(is_over);
            // SAFETY: the lender writes when all loops have ended.
            pool.data.with(|data| assert_eq!(unsafe { *data }, 0));
        })
    }

    /// Lends as many workers as there are threads in the pool, whose jobs go to `queue`: whether the work was done.
    fn lend(&self, threads: usize, queue: impl Fn(Seat)) -> bool {
        let apart = |run| drop(thread::spawn(run));
        let threads = (0..threads).map(|_| self.thread()).collect();
        let done = lend(threads, apart, Over(self.clone()), queue, |_| ()).is_some();
        // SAFETY: the loan is over; loom checks that.
        self.0.data.with_mut(|data| unsafe { *data += 1 });
        done
    }
}

/// Ends the loops when it is dropped.
struct Over(Pool);

impl Drop for Over {
    fn drop(&mut self) {
        *self.0.0.is_over.lock().unwrap() = true;
        self.0.0.ended.notify_all();
    }
}

/// A worker takes the job of a whole engine, which drains then.
#[test]
fn a_loan_of_an_engine() {
    explore("lent, a loan of an engine's worker", Threads::Two, || {
        let (engine, seat) = engine(1);
        let worker = thread::spawn(move || work(seat, 0));
        let function = engine.function("loan", Seat::take).unwrap();
        assert!(Pool::new().lend(1, |seat| function.send(seat).unwrap()));
        assert!(engine.shutdown(Shutdown::Drain).complete);
        worker.join().unwrap();
    });
}

/// Two workers are lent. One may come late: after the end of the loan it finds nothing to do.
#[test]
fn a_loan_against_its_end() {
    explore("lent, a loan of two workers against its end", Threads::Three, || {
        let workers = RefCell::new(Vec::new());
        assert!(Pool::new().lend(2, |seat| workers.borrow_mut().push(thread::spawn(|| seat.take()))));
        workers.into_inner().into_iter().for_each(|worker| worker.join().unwrap());
    });
}

/// All jobs are discarded: the loan is refused.
#[test]
fn a_loan_that_is_discarded() {
    explore("lent, a loan that is discarded", Threads::Three, || {
        let discards = RefCell::new(Vec::new());
        assert!(!Pool::new().lend(1, |seat| discards.borrow_mut().push(thread::spawn(|| drop(seat)))));
        discards.into_inner().into_iter().for_each(|discard| discard.join().unwrap());
    });
}

/// Two borrow the only worker: one after the other, and each has its work done.
#[test]
fn two_loans_of_the_only_worker() {
    explore("lent, two loans of the only worker", Threads::Three, || {
        let queue = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let lender = || {
            let queue = Arc::clone(&queue);
            move || {
                let put = |seat| {
                    queue.0.lock().unwrap().push(seat);
                    queue.1.notify_one();
                };
                assert!(Pool::new().lend(1, put));
            }
        };
        let worker = {
            let queue = Arc::clone(&queue);
            let next = move || -> Seat {
                let mut seats = queue.0.lock().unwrap();
                loop {
                    match seats.pop() {
                        Some(seat) => return seat,
                        None => seats = queue.1.wait(seats).unwrap(),
                    }
                }
            };
            thread::spawn(move || (0..2).for_each(|_| next().take()))
        };
        let other = thread::spawn(lender());
        lender()();
        other.join().unwrap();
        worker.join().unwrap();
    });
}

/// Two of two workers, without spares, would wait inside their jobs: one at a time, for the other has to run jobs.
#[test]
fn two_waits_for_the_last_worker() {
    explore("lent, two waits for the last worker", Threads::Two, || {
        let granted = two_waits(2, [None, None]);
        assert!(granted.contains(&true), "both were refused");
    });
}

/// The same where each is lent out: the other one's loan ends by itself.
#[test]
fn two_loans_wait_for_the_last_worker() {
    explore("lent, two loans wait for the last worker", Threads::Two, || {
        let granted = two_waits(2, [1, 1].map(|threads| Some(Loan::new(threads))));
        assert!(granted.contains(&true), "both were refused");
    });
}

/// Both are of one loan: neither is of help to the other.
#[test]
fn one_loan_waits_for_itself() {
    explore("lent, one loan waits for itself", Threads::Two, || {
        let loan = Loan::new(2);
        assert_eq!(two_waits(2, [Some(loan.clone()), Some(loan)]), [false, false]);
    });
}

/// A third worker, which may be lent out to the same loan and has not come yet, is of no help; one that is not is all there is.
#[test]
fn a_loan_and_a_worker_wait() {
    explore("lent, a loan and a worker wait", Threads::Two, || {
        let granted = two_waits(3, [Some(Loan::new(2)), None]);
        assert!(granted.contains(&true), "both were refused");
    });
}

/// Two of an engine's workers, lent out or not, wait inside their jobs, if they may: whether each did. Not both at a time.
fn two_waits(workers: usize, loans: [Option<Loan>; 2]) -> [bool; 2] {
    let (engine, seat) = engine_with_spares(workers, 0);
    let waiting = Arc::new(AtomicUsize::new(0));
    let mut index = 0;
    let [this, other] = loans.map(|loan| {
        let (steps, waiting) = (Steps::new(&seat, index), Arc::clone(&waiting));
        index += 1;
        move || {
            let mut waited = false;
            let mut wait = || {
                waited = steps.block(|| {
                    assert_eq!(waiting.fetch_add(1, Ordering::Relaxed), 0, "nobody is left");
                    waiting.fetch_sub(1, Ordering::Relaxed);
                });
            };
            match loan {
                Some(loan) => steps.lend(&loan, wait),
                None => wait(),
            }
            waited
        }
    });
    let other = thread::spawn(other);
    let granted = [this(), other.join().unwrap()];
    assert_eq!(seat.running_and_blocked(), (workers, 0));
    // It would wait for its workers.
    std::mem::forget(engine);
    granted
}
