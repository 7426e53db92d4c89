//! What does a job cost that a job submits? Sent, and submitted and awaited inside the body.

mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use layshaft::{Engine, Function};
use std::sync::OnceLock;
use std::time::Instant;
use support::tally::{self, Total};

/// Jobs of a tree whose root has argument 12.
const DEPTH: u64 = 12;
const TREE: u64 = (1 << (DEPTH + 1)) - 1;

static TREES: OnceLock<Function<u64, u64>> = OnceLock::new();
static SUMS: OnceLock<Function<u64, u64>> = OnceLock::new();

/// Each job sends two until the argument is zero.
fn branch(arg: u64) -> u64 {
    tally::count(arg);
    if arg > 0 {
        let tree = TREES.get().expect("set before the first job");
        tree.send(arg - 1).expect("the function is open");
        tree.send(arg - 1).expect("the function is open");
    }
    arg
}

/// Each job waits for two.
fn sum(arg: u64) -> u64 {
    let function = SUMS.get().expect("set before the first job");
    if arg == 0 {
        return 1;
    }
    let left = function.submit(arg - 1).expect("the function is open");
    let right = function.call(arg - 1).expect("the job returns");
    left.wait().expect("the job returns") + right + 1
}

fn nested(criterion: &mut Criterion) {
    let engine: Engine = support::engine();
    let tree = TREES.get_or_init(|| engine.function("tree", branch).expect("the name is free"));
    let sums = SUMS.get_or_init(|| engine.function("sum", sum).expect("the name is free"));
    let mut group = criterion.benchmark_group("a tree of 8,191 jobs");
    group.throughput(Throughput::Elements(TREE));
    group.bench_function("each sends two", |bencher| {
        bencher.iter_custom(|trees| {
            let sum = (0..=DEPTH).map(|arg| arg << (DEPTH - arg)).sum::<u64>();
            let done = Total::now().after(trees * TREE, trees * sum);
            let started = Instant::now();
            (0..trees).for_each(|_| tree.send(DEPTH).expect("the function is open"));
            done.wait();
            started.elapsed()
        });
    });
    group.bench_function("each waits for two", |bencher| {
        bencher.iter(|| assert_eq!(sums.call(DEPTH).expect("the job returns"), TREE));
    });
    group.finish();
}

criterion_group! { name = benches; config = support::criterion(); targets = nested }
criterion_main!(benches);
