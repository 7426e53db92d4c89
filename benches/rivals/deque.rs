//! crossbeam-deque as a user would build on it: an injector, a deque and a stealer a worker, and a sleep that loses no job.

use crate::peers::{Body, Job, Patience, Peer, Table, at_home, receive, table};
use crossbeam_deque::{Injector, Steal, Stealer, Worker};
use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

/// Looks of a worker that found nothing before it sleeps: about 5 microseconds.
const LOOKS: u32 = 200;

thread_local! {
    static OWN: Cell<Option<&'static Worker<Job<u64>>>> = const { Cell::new(None) };
}

#[derive(Default)]
struct Sleepers {
    asleep: usize,
    /// Sleepers that were told to wake and have not yet.
    woken: usize,
}

struct Shared {
    injector: Injector<Job<u64>>,
    stealers: Vec<Stealer<Job<u64>>>,
    /// `Sleepers::asleep`, for those that only look.
    asleep: AtomicUsize,
    sleepers: Mutex<Sleepers>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().expect("nobody panics with the lock held")
    }

    /// After a push.
    #[inline(always)]
    fn notify(&self) {
        // Ordering: SeqCst, with the fence in `sleep`: either the sleeper sees the job or this sees the sleeper.
        fence(Ordering::SeqCst);
        // Ordering: Relaxed, after the fence.
        if self.asleep.load(Ordering::Relaxed) > 0 {
            self.wake_one();
        }
    }

    #[cold]
    fn wake_one(&self) {
        let mut sleepers = self.lock();
        if sleepers.asleep > 0 {
            sleepers.asleep -= 1;
            sleepers.woken += 1;
            // Ordering: Relaxed, written with the lock held.
            self.asleep.store(sleepers.asleep, Ordering::Relaxed);
            self.wake.notify_one();
        }
    }

    fn sleep(&self) {
        let mut sleepers = self.lock();
        sleepers.asleep += 1;
        // Ordering: Relaxed, before the fence.
        self.asleep.store(sleepers.asleep, Ordering::Relaxed);
        // Ordering: SeqCst, with the fence in `notify`.
        fence(Ordering::SeqCst);
        if self.has_jobs() {
            sleepers.asleep -= 1;
            // Ordering: Relaxed, written with the lock held.
            self.asleep.store(sleepers.asleep, Ordering::Relaxed);
            return;
        }
        while sleepers.woken == 0 {
            sleepers = self.wake.wait(sleepers).expect("nobody panics with the lock held");
        }
        sleepers.woken -= 1;
    }

    fn has_jobs(&self) -> bool {
        !self.injector.is_empty() || self.stealers.iter().any(|stealer| !stealer.is_empty())
    }

    fn find(&self, own: &Worker<Job<u64>>, number: usize) -> Option<Job<u64>> {
        if let Some(job) = own.pop() {
            return Some(job);
        }
        loop {
            let others = self.stealers.iter().enumerate().filter(|(i, _)| *i != number);
            let from_others = || others.map(|(_, stealer)| stealer.steal_batch_and_pop(own)).collect();
            match self.injector.steal_batch_and_pop(own).or_else(from_others) {
                Steal::Success(job) => return Some(job),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }

    fn work(&self, own: &'static Worker<Job<u64>>, number: usize, table: &[fn(u64) -> u64]) {
        OWN.set(Some(own));
        loop {
            let mut looks = 0;
            while looks < LOOKS {
                if let Some(job) = self.find(own, number) {
                    job.run(table);
                    looks = 0;
                } else {
                    looks += 1;
                    if looks % 64 == 0 { thread::yield_now() } else { spin_loop() }
                }
            }
            self.sleep();
        }
    }
}

pub(crate) struct CrossbeamDeque(Arc<Shared>);

impl CrossbeamDeque {
    #[inline(always)]
    fn inject(&self, job: Job<u64>) {
        self.0.injector.push(job);
        self.0.notify();
    }
}

impl Peer<u64> for CrossbeamDeque {
    type Handle = oneshot::Receiver<u64>;

    fn start<B: Body<u64>>(workers: usize, functions: usize) -> Self {
        let owned: Vec<Worker<Job<u64>>> = (0..workers).map(|_| Worker::new_lifo()).collect();
        let shared = Arc::new(Shared {
            injector: Injector::new(),
            stealers: owned.iter().map(Worker::stealer).collect(),
            asleep: AtomicUsize::new(0),
            sleepers: Mutex::default(),
            wake: Condvar::new(),
        });
        let table: Table<u64> = table::<u64, B>(functions);
        for (number, own) in owned.into_iter().enumerate() {
            let (shared, table) = (shared.clone(), table.clone());
            // Leaked: the thread runs until the process ends, and bodies reach the deque without a check.
            thread::spawn(move || shared.work(Box::leak(Box::new(own)), number, &table));
        }
        CrossbeamDeque(shared)
    }

    #[inline(always)]
    fn send(&self, arg: u64) {
        self.send_to(0, arg);
    }

    #[inline(always)]
    fn send_to(&self, function: usize, arg: u64) {
        self.inject(Job { function: function as u32, arg, reply: None });
    }

    #[inline(always)]
    fn send_nested(&self, arg: u64) {
        let own = OWN.get().expect("bodies run on workers");
        own.push(Job { function: 0, arg, reply: None });
        self.0.notify();
    }

    #[inline(always)]
    fn submit(&self, arg: u64) -> Self::Handle {
        let (reply, handle) = oneshot::channel();
        self.inject(Job { function: 0, arg, reply: Some(reply) });
        handle
    }

    #[inline(always)]
    fn wait(handle: Self::Handle, patience: Patience) -> u64 {
        receive(handle, patience)
    }
}

at_home!(CrossbeamDeque);
