//! What does it cost to hand a job over that nobody waits for? Singly, in batches, and by the size of its argument.

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use layshaft::Function;
use std::time::Instant;
use support::tally::{self, Total};

/// Sends `jobs` arguments in calls of `batch`, and waits until the last has run.
fn send_all(function: &Function<u64, u64>, jobs: u64, batch: u64) {
    let done = Total::now().after(jobs, tally::sum_below(jobs));
    if batch == 1 {
        (0..jobs).for_each(|arg| function.send(arg).expect("the function is open"));
    } else {
        for at in (0..jobs).step_by(batch as usize) {
            function.send_batch(at..jobs.min(at + batch)).expect("the function is open");
        }
    }
    done.wait();
}

fn batches(criterion: &mut Criterion) {
    let engine = support::engine();
    let function = support::counted(&engine, "count");
    let mut group = criterion.benchmark_group("send, jobs a call");
    group.throughput(Throughput::Elements(1));
    for batch in [1, 8, 64, 1024] {
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter_custom(|jobs| {
                let started = Instant::now();
                send_all(&function, jobs, batch);
                started.elapsed()
            });
        });
    }
    group.finish();
}

/// Up to 512 bytes lie in the queue itself; larger arguments are boxed.
fn argument_sizes(criterion: &mut Criterion) {
    let engine = support::engine();
    let mut group = criterion.benchmark_group("send, bytes of argument");
    group.throughput(Throughput::Elements(1));
    sized::<1>(&mut group, &engine);
    sized::<6>(&mut group, &engine);
    sized::<25>(&mut group, &engine);
    sized::<64>(&mut group, &engine);
    sized::<65>(&mut group, &engine);
    group.finish();
}

fn sized<const WORDS: usize>(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    engine: &layshaft::Engine,
) {
    let function = engine
        .function(&format!("words-{WORDS}"), |arg: [u64; WORDS]| tally::count(arg[WORDS - 1]))
        .expect("the name is free");
    group.bench_function(BenchmarkId::from_parameter(WORDS * 8), |bencher| {
        bencher.iter_custom(|jobs| {
            let done = Total::now().after(jobs, tally::sum_below(jobs));
            let started = Instant::now();
            (0..jobs).for_each(|arg| function.send([arg; WORDS]).expect("the function is open"));
            done.wait();
            started.elapsed()
        });
    });
}

criterion_group! { name = benches; config = support::criterion(); targets = batches, argument_sizes }
criterion_main!(benches);
