//! What is measured.

/// One row of the table.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) kind: Kind,
    pub(crate) workers: usize,
    pub(crate) must: Option<f64>,
    pub(crate) stretch: Option<f64>,
}

/// How it is driven.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Fire and forget from this many producers, over this many functions.
    Send { producers: usize, functions: usize },
    /// Batches of 64, where there are such.
    Batch,
    /// Submit and wait with this many outstanding.
    Window(usize),
    /// Each job submits two, 2^20 - 1 jobs in all.
    Tree,
    /// Live bytes a queued job.
    Bytes,
    /// Allocations a job in steady state.
    Allocations,
}

const fn row(
    name: &'static str,
    unit: &'static str,
    kind: Kind,
    workers: usize,
    must: Option<f64>,
    stretch: Option<f64>,
) -> Workload {
    Workload { name, unit, kind, workers, must, stretch }
}

const fn send(producers: usize, functions: usize) -> Kind {
    Kind::Send { producers, functions }
}

pub(crate) const ALL: &[Workload] = &[
    row("send, 1 producer, 1 worker", "ns", send(1, 1), 1, Some(12.0), Some(8.0)),
    row("send, 2 producers, 2 workers", "ns", send(2, 1), 2, None, None),
    row("send in batches of 64", "ns", Kind::Batch, 1, None, Some(3.0)),
    row("submit and wait, 1,024 outstanding", "ns", Kind::Window(1024), 1, Some(16.0), Some(12.0)),
    row("submit and wait, 64 outstanding", "ns", Kind::Window(64), 1, None, Some(20.0)),
    row("one outstanding, hot", "ns", Kind::Window(1), 1, None, Some(230.0)),
    row("tree, 1 worker", "ns", Kind::Tree, 1, Some(6.0), Some(4.0)),
    row("tree, 2 workers", "ns", Kind::Tree, 2, Some(6.0), Some(4.0)),
    row("64 functions", "ns", send(1, 64), 1, None, None),
    row("1,024 functions", "ns", send(1, 1024), 1, None, None),
    row("16,384 functions", "ns", send(1, 16_384), 1, None, Some(25.0)),
    row("memory of a queued job", "bytes", Kind::Bytes, 1, Some(20.0), Some(17.0)),
    row("allocations a job, steady", "count", Kind::Allocations, 1, Some(0.001), Some(0.001)),
];

pub(crate) fn find(name: &str) -> &'static Workload {
    ALL.iter().find(|w| w.name == name).expect("the parent names a workload")
}
