//! A claim: every job is started by exactly one thread, though the rest of a claim can be taken from its owner.
#![cfg(layshaft_loom)]

use layshaft::model::queues::Claims;
use layshaft_loom_tests::{Threads, explore};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
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

fn own(claims: &Claims, jobs: &Jobs, start: usize, len: usize) {
    let mut open = claims.open(start, len);
    while let Some(i) = claims.start(&mut open) {
        jobs.start(i);
    }
    claims.close();
}

fn revoker(claims: &Arc<Claims>, jobs: &Arc<Jobs>) -> thread::JoinHandle<()> {
    let (claims, jobs) = (Arc::clone(claims), Arc::clone(jobs));
    thread::spawn(move || {
        if let Some((start, len)) = claims.revoke() {
            (start..start + len).for_each(|i| jobs.start(i));
        }
    })
}

#[test]
fn one_revoker() {
    explore("claim, one revoker", Threads::Two, || {
        let (claims, jobs) = (Arc::new(Claims::new()), Jobs::new(3));
        let thief = revoker(&claims, &jobs);
        own(&claims, &jobs, 0, 3);
        thief.join().unwrap();
        jobs.check();
    });
}

#[test]
fn two_revokers() {
    explore("claim, two revokers", Threads::Three, || {
        let (claims, jobs) = (Arc::new(Claims::new()), Jobs::new(3));
        let thieves = [revoker(&claims, &jobs), revoker(&claims, &jobs)];
        own(&claims, &jobs, 0, 3);
        thieves.into_iter().for_each(|thief| thief.join().unwrap());
        jobs.check();
    });
}

/// A revocation that began in one claim does not reach into the next.
#[test]
fn closed_and_opened_again() {
    explore("claim, closed and opened again", Threads::Two, || {
        let (claims, jobs) = (Arc::new(Claims::new()), Jobs::new(4));
        let thief = revoker(&claims, &jobs);
        own(&claims, &jobs, 0, 2);
        own(&claims, &jobs, 2, 2);
        thief.join().unwrap();
        jobs.check();
    });
}
