//! Batches whose results are taken in the order in which their jobs end.

use super::driver::{Arg, Driver, Reply, pick};
use super::operation::Terms;
use super::runs::CHILD_BITS;
use crate::common::wake::CountingWaker;
use layshaft::{AsCompleted, Priority, WaitError};
use std::sync::Arc;
use std::task::{Context, Poll};

pub(super) struct Batch {
    completed: AsCompleted<Reply>,
    /// Numbers in the model of those that were not given out, with their indexes.
    left: Vec<(usize, usize)>,
    /// Ends up to this one came before anybody asked for the order.
    since: u64,
    /// The waker of a poll that was pending.
    parked: Option<Arc<CountingWaker>>,
}

impl Driver {
    pub(super) fn collect(&mut self, function: usize, jobs: u8) {
        let Some(at) = pick(&self.functions, function) else { return };
        let jobs = jobs.min(self.model.room_left(at, Priority::Normal));
        let (mut args, mut left) = (Vec::new(), Vec::new());
        let (first, mut is_open) = (self.next_id(), true);
        for n in 0..jobs {
            let id = first + (u64::from(n) << CHILD_BITS);
            args.push(Arg::new(id, n, &self.live));
            if is_open {
                match self.model.submit(at, id, n, Terms::default(), true) {
                    Ok(claim) => left.extend(claim.map(|claim| (claim, left.len()))),
                    Err(_) => is_open = false,
                }
            }
        }
        let made = self.functions[at].submit_batch(args).unwrap_or_else(|error| error.into_parts().0);
        assert_eq!(made.len(), left.len(), "jobs that were accepted");
        self.batches.push(Batch { completed: made.as_completed(), left, since: self.model.ends, parked: None });
    }

    /// The next of a batch to give out, by its place in `left`.
    fn next_of(&self, batch: &Batch) -> Option<usize> {
        let ended = batch.left.iter().enumerate().filter(|(_, (claim, _))| self.model.claims[*claim].end.is_some());
        let order = |claim: usize| match self.model.claims[claim].order {
            order if order <= batch.since => 0,
            order => order,
        };
        ended.min_by_key(|(_, (claim, index))| (order(*claim), *index)).map(|(at, _)| at)
    }

    pub(super) fn next(&mut self, batch: usize) {
        let Some(at) = pick(&self.batches, batch) else { return };
        let mut batch = self.batches.swap_remove(at);
        let expected = self.next_of(&batch);
        if let Some(parked) = batch.parked.take() {
            assert_eq!(parked.wakes(), usize::from(expected.is_some()), "wakes of a batch");
        }
        let (counter, waker) = CountingWaker::pair();
        match batch.completed.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                assert!(expected.is_none() && !batch.left.is_empty(), "a job of the batch has ended, or all have");
                batch.parked = Some(counter);
            }
            Poll::Ready(None) => assert!(batch.left.is_empty(), "more jobs of the batch are to come"),
            Poll::Ready(Some((index, end))) => {
                let (claim, of) = batch.left.remove(expected.expect("a job of the batch ended before its end"));
                assert_eq!(index, of, "another job of the batch was next");
                self.compare(claim, None, end);
            }
        }
        self.batches.push(batch);
    }

    pub(super) fn drop_batch(&mut self, batch: usize) {
        let Some(at) = pick(&self.batches, batch) else { return };
        let Batch { left, .. } = self.batches.swap_remove(at);
        left.into_iter().for_each(|(claim, _)| self.model.claims[claim].dropped = true);
    }

    /// All have ended: takes what is left of all batches.
    pub(super) fn finish_batches(&mut self) {
        for mut batch in std::mem::take(&mut self.batches) {
            while let Some((index, end)) = batch.completed.next() {
                let (claim, of) = batch.left.remove(self.next_of(&batch).expect("all have ended"));
                assert_eq!(index, of, "another job of the batch was next");
                let end = end.map_err(|error| match error {
                    WaitError::Job(error) => error,
                    other => panic!("{other}"),
                });
                self.compare(claim, None, end);
            }
            assert!(batch.left.is_empty(), "jobs of a batch are missing");
        }
    }
}
