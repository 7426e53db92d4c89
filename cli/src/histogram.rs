//! Run times in constant space.

use std::time::Duration;

/// Buckets an octave: a quantile is off by 1 part in 32 at most.
const PER_OCTAVE: u64 = 16;
const BITS: u32 = PER_OCTAVE.trailing_zeros();
/// Enough for every `u64` of nanoseconds.
const BUCKETS: usize = ((64 - BITS as usize) + 1) * PER_OCTAVE as usize;

/// Counts of durations, in buckets that grow with the duration.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], total: 0 }
    }

    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    /// The duration that a share of `percent` of those recorded does not exceed; zero when none was recorded.
    pub(crate) fn percentile(&self, percent: u64) -> Duration {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(middle(index));
            }
        }
        Duration::ZERO
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < PER_OCTAVE {
        return nanos as usize;
    }
    let octave = nanos.ilog2() - BITS;
    ((u64::from(octave) + 1) * PER_OCTAVE + (nanos >> octave) % PER_OCTAVE) as usize
}

fn middle(index: usize) -> u64 {
    let index = index as u64;
    if index < PER_OCTAVE {
        return index;
    }
    let octave = index / PER_OCTAVE - 1;
    ((PER_OCTAVE + index % PER_OCTAVE) << octave) + (1 << octave) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_has_a_bucket_that_is_near() {
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + (1 << bit) / 3]);
        for nanos in edges.chain([u64::MAX]) {
            let near = middle(bucket(nanos));
            assert!(near.abs_diff(nanos) <= nanos / 32 + 1, "{nanos} is counted as {near}");
        }
    }

    #[test]
    fn percentiles_follow_the_ranks() {
        let mut times = Histogram::new();
        assert_eq!(times.percentile(50), Duration::ZERO);
        for micros in 1..=1000 {
            times.record(Duration::from_micros(micros));
        }
        for (percent, micros) in [(1, 10.0), (50, 500.0), (99, 990.0), (100, 1000.0)] {
            let got = times.percentile(percent).as_nanos() as f64 / 1e3;
            assert!((got / micros - 1.0).abs() < 0.04, "p{percent} is {got} us");
        }
    }
}
