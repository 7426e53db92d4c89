//! What does a result cost? By how many jobs are outstanding, and by how their results are awaited.

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_lite::future::block_on;
use layshaft::{Function, JobHandle};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Fills the window, then takes results until it is half empty, and so on.
fn window(function: &Function<u64, u64>, jobs: u64, outstanding: usize) -> Duration {
    let mut handles: VecDeque<JobHandle<u64>> = VecDeque::with_capacity(outstanding);
    let (mut next, mut received) = (0, 0);
    let started = Instant::now();
    while received < jobs {
        while handles.len() < outstanding && next < jobs {
            handles.push_back(function.submit(next).expect("the function is open"));
            next += 1;
        }
        for handle in handles.drain(..handles.len().min(outstanding.div_ceil(2))) {
            received += 1;
            assert_eq!(handle.wait().expect("the job returns"), received);
        }
    }
    started.elapsed()
}

fn outstanding(criterion: &mut Criterion) {
    let engine = support::engine();
    let function = support::counted(&engine, "count");
    let mut group = criterion.benchmark_group("submit and wait, jobs outstanding");
    group.throughput(Throughput::Elements(1));
    for outstanding in [1, 8, 64, 1024] {
        group.bench_function(BenchmarkId::from_parameter(outstanding), |bencher| {
            bencher.iter_custom(|jobs| window(&function, jobs, outstanding));
        });
    }
    group.finish();
}

fn one(criterion: &mut Criterion) {
    let engine = support::engine();
    let function = support::counted(&engine, "count");
    let mut group = criterion.benchmark_group("one job, awaited by");
    group.bench_function("wait", |bencher| bencher.iter(|| function.call(1).expect("the job returns")));
    group.bench_function("a future, parking", |bencher| {
        bencher.iter(|| block_on(function.submit(1).expect("the function is open")).expect("the job returns"));
    });
    group.bench_function("a batch of 64, each job", |bencher| {
        bencher.iter_custom(|jobs| {
            let started = Instant::now();
            for at in (0..jobs).step_by(64) {
                let batch = function.submit_batch(at..jobs.min(at + 64)).expect("the function is open");
                assert!(batch.wait().iter().all(Result::is_ok));
            }
            started.elapsed()
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = support::criterion(); targets = outstanding, one }
criterion_main!(benches);
