//! The jobs of a batch, in the order in which they end.

use crate::error::{JobError, WaitError};
use crate::handle::JobHandle;
use crate::job::slot::spin_until;
use crate::quiet;
use crate::sched::worker::Worker;
use crate::sync::{AtomicBool, Condvar, Mutex, Ordering};
use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::mem;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// The outcomes of a batch's jobs in the order in which they end, each with the index of its argument: made by
/// [`Batch::as_completed`](crate::Batch::as_completed).
///
/// As an iterator it blocks, and waits as [`JobHandle::wait`] does: inside a job it runs jobs of the batch that are in the
/// worker's own deque, newest first, then has a spare take its place. Where such a wait would be refused, it gives the oldest
/// handle back, in [`WaitError::WouldNeverEnd`], and goes on with the others when it is called again. [`poll_next`] does not
/// block, and needs no runtime. Both may be used in turn.
///
/// Dropping it detaches the jobs that it has not given out.
///
/// [`poll_next`]: Self::poll_next
#[must_use = "dropping it detaches the jobs"]
pub struct AsCompleted<R> {
    /// By the index of the argument; `None` once it was given out.
    handles: Vec<Option<JobHandle<R>>>,
    /// How many are left.
    left: usize,
    /// Those before this one were given out.
    oldest: usize,
    /// Which have ended, and are yet to be given out.
    found: VecDeque<usize>,
    helped: Helped,
    ended: Arc<Ended>,
}

/// How far a worker has looked for jobs in its own deque. Jobs never come to a deque later on.
#[derive(Default)]
struct Helped {
    /// Which worker: the address of its seat.
    seat: usize,
    /// Handles from this one on were looked for.
    from: usize,
}

/// What has ended, told by those who ended it.
struct Ended {
    news: Mutex<News>,
    told: Condvar,
    /// Whether there is news: a hint for who spins.
    is_told: AtomicBool,
}

#[derive(Default)]
struct News {
    indexes: VecDeque<usize>,
    waker: Option<Waker>,
}

/// Tells of the end of one job.
struct Notice {
    index: usize,
    ended: Arc<Ended>,
}

impl Wake for Notice {
    fn wake(self: Arc<Self>) {
        self.ended.tell(self.index);
    }
}

impl Ended {
    fn new() -> Self {
        Ended { news: Mutex::new(News::default()), told: Condvar::new(), is_told: AtomicBool::new(false) }
    }

    fn tell(&self, index: usize) {
        let waker = {
            let mut news = self.news.lock();
            news.indexes.push_back(index);
            // Ordering: Relaxed, a hint.
            self.is_told.store(true, Ordering::Relaxed);
            news.waker.take()
        };
        self.told.notify_one();
        // Without the lock: it is others' code.
        waker.into_iter().for_each(quiet::wake);
    }

    /// Moves the news to where there is nothing.
    fn fetch(&self, found: &mut VecDeque<usize>) {
        let mut news = self.news.lock();
        // Ordering: Relaxed, a hint.
        self.is_told.store(false, Ordering::Relaxed);
        mem::swap(&mut news.indexes, found);
    }

    /// Has `waker` woken by the next job that ends, unless one has ended since the last look.
    fn register(&self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut news = self.news.lock();
        if !news.indexes.is_empty() {
            return false;
        }
        let old = news.waker.replace(waker);
        drop(news);
        drop(old);
        true
    }

    fn spin(&self) -> bool {
        // Ordering: Relaxed, a hint.
        spin_until(|| self.is_told.load(Ordering::Relaxed))
    }

    fn wait(&self) {
        let mut news = self.news.lock();
        while news.indexes.is_empty() {
            self.told.wait(&mut news);
        }
    }
}

impl<R> AsCompleted<R> {
    pub(crate) fn new(handles: Vec<JobHandle<R>>) -> Self {
        let ended = Arc::new(Ended::new());
        let mut found = VecDeque::new();
        for (index, handle) in handles.iter().enumerate() {
            if handle.is_done() {
                found.push_back(index);
                continue;
            }
            let waker = Waker::from(Arc::new(Notice { index, ended: Arc::clone(&ended) }));
            if handle.watch(&Context::from_waker(&waker)) {
                found.push_back(index);
            }
        }
        let left = handles.len();
        let handles = handles.into_iter().map(Some).collect();
        AsCompleted { handles, left, oldest: 0, found, helped: Helped::default(), ended }
    }

    /// The next job that ends: its index, and its outcome; `None` when all were given out. When none has ended since, the waker
    /// of `cx` is woken by the next one that does.
    ///
    /// ```
    /// use std::future::poll_fn;
    ///
    /// # let runtime = futures_lite::future::block_on(async {
    /// let engine = layshaft::Engine::builder().workers(2).start()?;
    /// let square = engine.function("square", |n: u64| n * n)?;
    /// let mut squares = square.submit_batch([1, 2, 3])?.as_completed();
    /// while let Some((index, outcome)) = poll_fn(|cx| squares.poll_next(cx)).await {
    ///     assert_eq!(outcome?, (index as u64 + 1).pow(2));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// # });
    /// # runtime?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Result<R, JobError>)>> {
        while self.left > 0 {
            if let Some((index, handle)) = self.next_ended() {
                return Poll::Ready(Some((index, handle.into_outcome())));
            }
            if self.ended.register(cx.waker()) {
                return Poll::Pending;
            }
        }
        Poll::Ready(None)
    }

    /// Takes out the next handle whose job has ended.
    fn next_ended(&mut self) -> Option<(usize, JobHandle<R>)> {
        loop {
            if self.found.is_empty() {
                self.ended.fetch(&mut self.found);
            }
            let index = self.found.pop_front()?;
            // It is gone if its wait was refused.
            if let Some(handle) = self.take(index) {
                return Some((index, handle));
            }
        }
    }

    fn take(&mut self, index: usize) -> Option<JobHandle<R>> {
        let handle = self.handles[index].take()?;
        self.left -= 1;
        Some(handle)
    }

    /// Index of the oldest handle that is left. There is one.
    fn oldest(&mut self) -> usize {
        while self.handles[self.oldest].is_none() {
            self.oldest += 1;
        }
        self.oldest
    }

    /// Runs the newest job that is in this worker's own deque: whether there was one.
    fn help(&mut self, worker: &Worker) -> bool {
        let seat = ptr::from_ref(worker.me()).addr();
        if self.helped.seat != seat {
            self.helped = Helped { seat, from: self.handles.len() };
        }
        while let Some(index) = self.helped.from.checked_sub(1) {
            self.helped.from = index;
            if self.handles[index].as_ref().is_some_and(JobHandle::help) {
                return true;
            }
        }
        false
    }

    /// Waits until one more has ended, maybe by running it: `false` at once when that would never be.
    fn wait(&mut self) -> bool {
        Worker::with_current(|worker| {
            let Some(worker) = worker else {
                if !self.ended.spin() {
                    self.ended.wait();
                }
                return true;
            };
            let oldest = self.oldest();
            let mut left = self.handles[oldest..].iter().flatten();
            // All are jobs of one function.
            let is_own = self.handles[oldest].as_ref().is_some_and(|handle| handle.is_run_by(worker));
            if is_own && left.all(JobHandle::is_on_this_stack) {
                return false;
            }
            if (is_own && self.help(worker)) || self.ended.spin() {
                return true;
            }
            let blocked = worker.block(!is_own);
            blocked.inspect(|_| self.ended.wait()).is_some()
        })
    }
}

impl<R> Iterator for AsCompleted<R> {
    type Item = (usize, Result<R, WaitError<R>>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            if let Some((index, handle)) = self.next_ended() {
                return Some((index, handle.into_outcome().map_err(WaitError::Job)));
            }
            if !self.wait() {
                let index = self.oldest();
                let handle = self.take(index)?;
                return Some((index, Err(WaitError::WouldNeverEnd(handle))));
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<R> ExactSizeIterator for AsCompleted<R> {}

impl<R> FusedIterator for AsCompleted<R> {}

impl<R> fmt::Debug for AsCompleted<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("left", &self.left).finish_non_exhaustive()
    }
}
