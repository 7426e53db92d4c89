//! What does a handle cost beside the job? Dropped, cancelled, and by the size of the result.

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::Instant;
use support::tally::{self, Total};

/// Against `send`: what making and dropping a handle adds.
fn dropped(criterion: &mut Criterion) {
    let engine = support::engine();
    let function = support::counted(&engine, "count");
    let mut group = criterion.benchmark_group("a job whose handle is");
    group.throughput(Throughput::Elements(1));
    group.bench_function("not made", |bencher| {
        bencher.iter_custom(|jobs| {
            let done = Total::now().after(jobs, tally::sum_below(jobs));
            let started = Instant::now();
            (0..jobs).for_each(|arg| function.send(arg).expect("the function is open"));
            done.wait();
            started.elapsed()
        });
    });
    group.bench_function("dropped", |bencher| {
        bencher.iter_custom(|jobs| {
            let done = Total::now().after(jobs, tally::sum_below(jobs));
            let started = Instant::now();
            (0..jobs).for_each(|arg| drop(function.submit(arg).expect("the function is open")));
            done.wait();
            started.elapsed()
        });
    });
    // Whether a job is cancelled in time is a race with the worker: both ends are counted.
    group.bench_function("cancelled", |bencher| {
        bencher.iter(|| function.submit(0).expect("the function is open").cancel());
    });
    group.finish();
}

/// Up to 240 bytes lie in the slot; larger results are boxed.
fn result_sizes(criterion: &mut Criterion) {
    let engine = support::engine();
    let mut group = criterion.benchmark_group("submit and wait in batches of 64, bytes of result");
    group.throughput(Throughput::Elements(64));
    sized::<1>(&mut group, &engine);
    sized::<6>(&mut group, &engine);
    sized::<30>(&mut group, &engine);
    sized::<31>(&mut group, &engine);
    group.finish();
}

fn sized<const WORDS: usize>(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    engine: &layshaft::Engine,
) {
    let function = engine.function(&format!("words-{WORDS}"), |arg: u64| [arg; WORDS]).expect("the name is free");
    group.bench_function(BenchmarkId::from_parameter(WORDS * 8), |bencher| {
        bencher.iter(|| {
            let results = function.submit_batch(0..64).expect("the function is open").wait();
            assert_eq!(results.len(), 64);
        });
    });
}

criterion_group! { name = benches; config = support::criterion(); targets = dropped, result_sizes }
criterion_main!(benches);
