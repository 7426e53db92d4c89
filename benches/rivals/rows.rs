//! The rows of the table, and what each is held against.

use crate::peers::Patience::{Park, Spin};
use crate::workload::Workload;
use std::time::Duration;

pub(crate) const OURS: &str = "layshaft";
pub(crate) const FUTEX: &str = "bare futex";

/// The columns: ours, the rivals, and a yardstick.
pub(crate) const CONTESTANTS: [&str; 8] =
    [OURS, "rayon-core", "tokio", "crossbeam-channel", "crossbeam-deque", "kanal", "flume", FUTEX];

/// What a figure must reach.
pub(crate) enum Bar {
    AtMost(f64),
    /// Less than one in two thousand: a queue may still grow once.
    Nothing,
    /// The rival's figure over ours, with either allocator.
    Times(&'static str, f64),
    /// The same where the allocator matters: with mimalloc, with the system's.
    TimesBy(&'static str, f64, f64),
    /// Our figure over the yardstick's.
    Within(&'static str, f64),
}

/// One workload.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) workload: Workload,
    pub(crate) musts: &'static [Bar],
    pub(crate) goals: &'static [Bar],
}

impl Row {
    /// Who has a figure here.
    pub(crate) fn has(&self, contestant: &str) -> bool {
        match self.workload {
            // Only typed queues can carry it without a box.
            Workload::Parcel => [OURS, "crossbeam-channel", "kanal"].contains(&contestant),
            Workload::RoundTrip { pause, .. } if !pause.is_zero() => true,
            _ => contestant != FUTEX,
        }
    }

    /// Digits behind the point.
    pub(crate) fn digits(&self) -> usize {
        match self.workload {
            Workload::Allocations { .. } => 3,
            Workload::RoundTrip { .. } => 0,
            _ => 1,
        }
    }

    pub(crate) fn unit(&self) -> &'static str {
        match self.workload {
            Workload::Allocations { .. } => "allocations a job",
            Workload::QueuedBytes => "bytes a job",
            Workload::RoundTrip { .. } => "ns, p50",
            _ => "ns a job",
        }
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);

const fn row(name: &'static str, workload: Workload, musts: &'static [Bar], goals: &'static [Bar]) -> Row {
    Row { name, workload, musts, goals }
}

const fn functions(name: &'static str, functions: usize, is_skewed: bool, goals: &'static [Bar]) -> Row {
    row(name, Workload::Functions { functions, is_skewed }, &[], goals)
}

const fn window(
    name: &'static str,
    outstanding: usize,
    is_spinning: bool,
    musts: &'static [Bar],
    goals: &'static [Bar],
) -> Row {
    row(name, Workload::Window { outstanding, patience: if is_spinning { Spin } else { Park } }, musts, goals)
}

const fn round_trip(name: &'static str, pause: Duration, is_spinning: bool, goals: &'static [Bar]) -> Row {
    row(name, Workload::RoundTrip { pause, patience: if is_spinning { Spin } else { Park } }, &[], goals)
}

const SEND_GOALS: &[Bar] = &[
    Bar::AtMost(8.0),
    Bar::Times("rayon-core", 28.0),
    Bar::TimesBy("tokio", 25.0, 60.0),
    Bar::Times("crossbeam-channel", 8.0),
    Bar::Times("kanal", 2.0),
];
const TREE_GOALS: &[Bar] = &[Bar::AtMost(4.0), Bar::Times("rayon-core", 11.0), Bar::Times("crossbeam-deque", 5.0)];

pub(crate) const ROWS: &[Row] = &[
    row(
        "send, 1 worker, 1 producer",
        Workload::Send { workers: 1, producers: 1 },
        &[Bar::AtMost(12.0), Bar::Times("rayon-core", 18.0), Bar::Times("kanal", 1.4)],
        SEND_GOALS,
    ),
    row("send, 2 workers, 2 producers", Workload::Send { workers: 2, producers: 2 }, &[Bar::AtMost(12.0)], SEND_GOALS),
    row("send in batches of 64", Workload::Batch { size: 64 }, &[], &[Bar::AtMost(3.0)]),
    window("submit and wait, 64 outstanding, spinning", 64, true, &[], &[Bar::AtMost(20.0)]),
    window("submit and wait, 64 outstanding, parking", 64, false, &[], &[Bar::AtMost(200.0)]),
    window(
        "submit and wait, 1,024 outstanding, spinning",
        1_024,
        true,
        &[Bar::AtMost(16.0)],
        &[Bar::AtMost(12.0), Bar::Times("rayon-core", 22.0), Bar::Times("kanal", 3.5)],
    ),
    window("submit and wait, 1,024 outstanding, parking", 1_024, false, &[], &[]),
    round_trip("one outstanding, hot, spinning", Duration::ZERO, true, &[Bar::AtMost(230.0)]),
    round_trip("one outstanding, hot, parking", Duration::ZERO, false, &[]),
    round_trip("one outstanding, cold (1 ms apart)", MILLISECOND, true, &[Bar::Within(FUTEX, 1.15)]),
    row("tree, 1 worker", Workload::Tree { workers: 1 }, &[Bar::AtMost(6.0)], TREE_GOALS),
    row("tree, 2 workers", Workload::Tree { workers: 2 }, &[Bar::AtMost(6.0)], TREE_GOALS),
    functions("1 function", 1, false, &[]),
    functions("64 functions, uniform", 64, false, &[]),
    functions("64 functions, zipf", 64, true, &[]),
    functions("1,024 functions, uniform", 1_024, false, &[]),
    functions("1,024 functions, zipf", 1_024, true, &[]),
    functions("16,384 functions, uniform", 16_384, false, &[Bar::AtMost(25.0)]),
    functions("16,384 functions, zipf", 16_384, true, &[Bar::AtMost(25.0)]),
    row("send, 200-byte argument with a destructor", Workload::Parcel, &[], &[]),
    row("memory of a queued job, 8-byte argument", Workload::QueuedBytes, &[Bar::AtMost(20.0)], &[Bar::AtMost(17.0)]),
    row("allocations, send", Workload::Allocations { is_awaited: false }, &[Bar::Nothing], &[Bar::Nothing]),
    row("allocations, submit and wait", Workload::Allocations { is_awaited: true }, &[Bar::Nothing], &[Bar::Nothing]),
];
