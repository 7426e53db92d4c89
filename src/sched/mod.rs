//! The scheduler: worker threads, what they look at to find work, how they share it, and how they sleep.
#![doc = include_str!("README.md")]

pub(crate) mod claim;
pub(crate) mod core;
pub(crate) mod counters;
pub(crate) mod current;
pub(crate) mod deque;
pub(crate) mod events;
pub(crate) mod idle;
// Without the feature nobody lends.
#[cfg_attr(not(feature = "rayon"), allow(dead_code))]
pub(crate) mod lent;
#[cfg(any(feature = "rayon", layshaft_loom, layshaft_shuttle))]
#[cfg_attr(not(feature = "rayon"), allow(dead_code))]
pub(crate) mod loan;
pub(crate) mod look;
pub(crate) mod managed;
pub(crate) mod nested;
pub(crate) mod ready;
pub(crate) mod registry;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod seat;
pub(crate) mod shutdown;
pub(crate) mod sleep;
pub(crate) mod spares;
pub(crate) mod tally;
pub(crate) mod timer;
pub(crate) mod timing;
pub(crate) mod worker;
