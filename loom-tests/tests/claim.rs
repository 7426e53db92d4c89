//! A claim: every job is started by exactly one thread, though the rest of a claim can be taken from its owner.
#![cfg(layshaft_loom)]

use layshaft::model::queues::Claims;
use layshaft_loom_tests::{Threads, explore};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

/// Jobs that count their starts; a cell each, so that two starts are a race as well.
struct Jobs(Vec<UnsafeCell<u32>>);

// SAFETY: loom's cells report unsynchronised access.
unsafe impl Sync for Jobs {}
// SAFETY: as above.
unsafe impl Send for Jobs {}

impl Jobs {
    fn new(n: usize) -> Arc<Jobs> {
        Arc::new(Jobs((0..n).map(|_| UnsafeCell::new(0)).collect()))
    }

    fn start(&self, i: usize) {
        // SAFETY: the claim gives each job to one thread; loom checks it.
        self.0[i].with_mut(|starts| unsafe { *starts += 1 });
    }

    fn check(&self) {
        for (i, job) in self.0.iter().enumerate() {
            // SAFETY: all threads are joined.
            job.with(|starts| assert_eq!(unsafe { *starts }, 1, "starts of job {i}"));
        }
    }
}

/// Jobs of a lot: a claim that goes on behind another has other jobs, of another function in another block.
const LOT: usize = 2;

fn own(claims: &Claims, jobs: &Jobs, lot: usize, start: usize, len: usize) {
    let mut open = claims.open(lot, start, len);
    let mut last = None;
    while let Some(i) = claims.start(&mut open) {
        assert!(last < Some(i), "the owner starts in order");
        last = Some(i);
        jobs.start(i);
    }
    claims.close();
}

/// Revokes up to `times` times and starts what it gets.
fn revoker(claims: &Arc<Claims>, jobs: &Arc<Jobs>, times: usize) -> thread::JoinHandle<()> {
    let (claims, jobs) = (Arc::clone(claims), Arc::clone(jobs));
    thread::spawn(move || {
        for (lot, start, len) in (0..times).filter_map(|_| claims.revoke()) {
            assert!(lot == 0 || lot == start / LOT, "jobs {start} and on are not of lot {lot}");
            (start..start + len).for_each(|i| jobs.start(i));
        }
    })
}

#[test]
fn one_revoker() {
    explore("claim, one revoker", Threads::Two, || {
        let (claims, jobs) = (Arc::new(Claims::new()), Jobs::new(4));
        let thief = revoker(&claims, &jobs, 2);
        own(&claims, &jobs, 0, 0, 4);
        thief.join().unwrap();
        jobs.check();
    });
}

#[test]
fn two_revokers() {
    explore("claim, two revokers", Threads::Three, || {
        let (claims, jobs) = (Arc::new(Claims::new()), Jobs::new(3));
        let thieves = [revoker(&claims, &jobs, 1), revoker(&claims, &jobs, 1)];
        own(&claims, &jobs, 0, 0, 3);
        thieves.into_iter().for_each(|thief| thief.join().unwrap());
        jobs.check();
    });
}

/// A revocation that began in one claim neither reaches into the next nor mixes the two.
#[test]
fn closed_and_opened_again() {
    explore("claim, closed and opened again", Threads::Two, || {
        let (claims, jobs) = (Arc::new(Claims::new()), Jobs::new(4));
        let thief = revoker(&claims, &jobs, 2);
        own(&claims, &jobs, 0, 0, 2);
        own(&claims, &jobs, 1, 2, 2);
        thief.join().unwrap();
        jobs.check();
    });
}

#[test]
fn opened_again_with_two_revokers() {
    explore("claim, opened again, two revokers", Threads::Three, || {
        let (claims, jobs) = (Arc::new(Claims::new()), Jobs::new(4));
        let thieves = [revoker(&claims, &jobs, 1), revoker(&claims, &jobs, 1)];
        own(&claims, &jobs, 0, 0, 2);
        own(&claims, &jobs, 1, 2, 2);
        thieves.into_iter().for_each(|thief| thief.join().unwrap());
        jobs.check();
    });
}

/// What a revoker has taken is its own claim now, and can be taken from it.
#[test]
fn revoked_from_the_revoker() {
    explore("claim, revoked from the revoker", Threads::Three, || {
        let (first, second, jobs) = (Arc::new(Claims::new()), Arc::new(Claims::new()), Jobs::new(4));
        let middle = {
            let (first, second, jobs) = (Arc::clone(&first), Arc::clone(&second), Arc::clone(&jobs));
            thread::spawn(move || {
                if let Some((lot, start, len)) = first.revoke() {
                    own(&second, &jobs, lot, start, len);
                }
            })
        };
        let last = revoker(&second, &jobs, 1);
        own(&first, &jobs, 0, 0, 4);
        middle.join().unwrap();
        last.join().unwrap();
        jobs.check();
    });
}

/// A lot of which every job was started has none left, whichever claim its worker opens next.
fn next_claim(first: usize, next: usize, len: usize) {
    let (claims, jobs, told) = (Arc::new(Claims::new()), Jobs::new(4), Arc::new(AtomicBool::new(false)));
    let owner = {
        let (claims, jobs, told) = (Arc::clone(&claims), Arc::clone(&jobs), Arc::clone(&told));
        thread::spawn(move || {
            let mut open = claims.open(0, first, 1);
            jobs.start(claims.start(&mut open).unwrap());
            told.store(true, Ordering::Release);
            claims.close();
            let mut open = claims.open(1, next, len);
            while let Some(i) = claims.start(&mut open) {
                jobs.start(i);
            }
            claims.close();
        })
    };
    if told.load(Ordering::Acquire) {
        assert_eq!(claims.unstarted(0), 0, "jobs of the next claim pass for those of the one before");
    }
    owner.join().unwrap();
    jobs.check();
}

#[test]
fn nothing_is_left_before_the_next_claim() {
    explore("claim, what is left before the next", Threads::Two, || next_claim(0, 1, 3));
}

#[test]
fn nothing_is_left_behind_the_next_claim() {
    explore("claim, what is left behind the next", Threads::Two, || next_claim(3, 0, 3));
}
