//! What do many functions cost? Jobs sent to each in turn, and to one while the others are idle.

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use layshaft::Function;
use std::time::Instant;
use support::tally::{self, Total};

fn spread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send, functions in turn");
    group.throughput(Throughput::Elements(1));
    for n in [1, 64, 1024, 16_384] {
        let engine = support::engine();
        let functions: Vec<Function<u64, u64>> = (0..n).map(|i| support::counted(&engine, &format!("f{i}"))).collect();
        group.bench_function(BenchmarkId::from_parameter(n), |bencher| {
            bencher.iter_custom(|jobs| {
                let done = Total::now().after(jobs, tally::sum_below(jobs));
                let started = Instant::now();
                // A stride that meets every function, and seldom neighbours.
                (0..jobs).for_each(|arg| functions[arg as usize * 7_919 % n].send(arg).expect("the function is open"));
                done.wait();
                started.elapsed()
            });
        });
    }
    group.finish();
}

fn registration(criterion: &mut Criterion) {
    let engine = support::engine();
    criterion.bench_function("register and remove a function", |bencher| {
        bencher.iter(|| {
            support::counted(&engine, "short-lived");
            assert!(engine.remove("short-lived"));
        });
    });
}

criterion_group! { name = benches; config = support::criterion(); targets = spread, registration }
criterion_main!(benches);
