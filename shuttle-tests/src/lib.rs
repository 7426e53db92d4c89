//! Random schedules of whole engines. The models are in `tests/`; this is how they run.
#![cfg(layshaft_shuttle)]

use layshaft::Engine;
use layshaft::model::workers::{Seat, engine_with_spares, work, work_when_called};
use shuttle::scheduler::{
    PctScheduler, RandomScheduler, ReplayScheduler, Scheduler, UncontrolledNondeterminismCheckScheduler,
};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// Bugs that need one preemption less than this are what `pct` schedules look for.
const DEPTH: usize = 4;
/// Schedules that are run twice, to see that a model does the same again.
const REPEATED: usize = 5;
/// Steps of a schedule. Beyond that it is taken for one that never ends.
const STEPS: usize = 2_000_000;

/// Runs `model` under `schedules` random schedules, and as many of `pct`, which lets one thread run until it must wait,
/// but for a few preemptions. Prints the seeds, and fails when a schedule deadlocks, never ends, or does not do the same
/// when it is run again: then its seed would not show it again.
///
/// `SHUTTLE_RANDOM_SEED` sets the seeds, `LAYSHAFT_SCHEDULES` the number of schedules, and `LAYSHAFT_REPLAY` names the file
/// of the only one to run: a schedule that fails is written to one, whose name is printed.
pub fn explore(name: &str, schedules: usize, model: impl Fn() + Send + Sync + 'static) {
    let model = Arc::new(model);
    let asked = |variable| std::env::var(variable).ok();
    let schedules = asked("LAYSHAFT_SCHEDULES").map_or(schedules, |n| n.parse().expect("a number of schedules"));
    if let Some(path) = asked("LAYSHAFT_REPLAY") {
        return run(name, "replayed", 1, ReplayScheduler::new_from_file(path).expect("a schedule's file"), &model);
    }
    let seed = asked("SHUTTLE_RANDOM_SEED").map_or_else(fresh_seed, |seed| seed.parse().expect("a seed"));
    println!("model {name}: SHUTTLE_RANDOM_SEED={seed}");
    let random = |n| RandomScheduler::new_from_seed(seed, n);
    run(name, "repeated", 2 * REPEATED, UncontrolledNondeterminismCheckScheduler::new(random(REPEATED)), &model);
    run(name, "random", schedules, random(schedules), &model);
    run(name, "pct", schedules, PctScheduler::new_from_seed(seed, DEPTH, schedules), &model);
}

/// A seed that nobody has chosen.
fn fresh_seed() -> u64 {
    RandomState::new().hash_one(0)
}

fn run<M>(name: &str, kind: &str, expected: usize, scheduler: impl Scheduler + 'static, model: &Arc<M>)
where
    M: Fn() + Send + Sync + 'static,
{
    let started = Instant::now();
    let ran = Arc::new(AtomicUsize::new(0));
    let (count, model) = (Arc::clone(&ran), Arc::clone(model));
    let races = layshaft::model::races();
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.silence_warnings = true;
    config.failure_persistence = FailurePersistence::File(Some(std::env::temp_dir()));
    Runner::new(scheduler, config).run(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
        assert_eq!(layshaft::model::races(), races, "plain data was touched by two threads at once");
    });
    let ran = ran.load(Ordering::Relaxed);
    assert_eq!(ran, expected, "model {name}: {ran} of {expected} {kind} schedules ran");
    println!("model {name}: {ran} {kind} schedules in {:.1} s", started.elapsed().as_secs_f32());
}

/// An engine whose workers are the model's threads.
pub fn start(workers: usize) -> (Engine, Vec<JoinHandle<()>>) {
    let (engine, _, threads) = start_with_spares(workers, 0);
    (engine, threads)
}

/// The same with spares, and what it takes to have the clock go on.
pub fn start_with_spares(workers: usize, spares: usize) -> (Engine, Seat, Vec<JoinHandle<()>>) {
    let (engine, seat) = engine_with_spares(workers, spares);
    let start = |index| {
        let seat = seat.clone();
        let run = if index < workers { work } else { work_when_called };
        thread::spawn(move || run(seat, index))
    };
    let threads = (0..workers + spares).map(start).collect();
    (engine, seat, threads)
}

/// Waits for the ends of threads.
pub fn join<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("no thread of a model panics")).collect()
}

/// Wakes a thread of the model. Not `thread::unpark`: who is parked may wake up by chance, which hides a lost wake-up.
#[derive(Default)]
struct Alarm {
    rang: Mutex<bool>,
    rings: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.rang.lock().unwrap() = true;
        self.rings.notify_one();
    }
}

/// Polls until something is ready, asleep meanwhile. A lost wake-up is a deadlock.
pub fn wait_for<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(Arc::clone(&alarm));
    let mut cx = Context::from_waker(&waker);
    loop {
        match poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => {
                let mut rang = alarm.rang.lock().unwrap();
                while !*rang {
                    rang = alarm.rings.wait(rang).unwrap();
                }
                *rang = false;
            }
        }
    }
}

/// The value of a future.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    wait_for(|cx| future.as_mut().poll(cx))
}
