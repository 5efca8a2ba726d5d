//! A histogram of times that is recorded without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The upper bounds of the buckets, in microseconds: from 10 µs to 60 s.
const BOUNDS_MICROS: [u64; 21] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Counts times by their length.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    /// Nanoseconds; they overflow after 584 years.
    sum: AtomicU64,
}

/// What was counted up to one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counted {
    /// How many.
    pub(super) count: u64,
    /// Their sum, in seconds.
    pub(super) sum: f64,
    /// Upper bounds in seconds, the last one infinite, and how many are in each
    /// bucket alone.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    pub(super) fn record(&self, time: Duration) {
        // A bound belongs to its bucket.
        let bucket = BOUNDS_MICROS.partition_point(|&bound| Duration::from_micros(bound) < time);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn counted(&self) -> Counted {
        let bounds = BOUNDS_MICROS.iter().map(|&micros| micros as f64 / 1e6);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Relaxed));
        let buckets: Vec<_> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        Counted {
            // Of what is in the buckets, so that the two agree at any moment.
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum: self.sum.load(Relaxed) as f64 / 1e9,
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_longer_to_the_next() {
        let histogram = Histogram::default();
        let times = [
            Duration::ZERO,
            Duration::from_micros(10),
            Duration::from_nanos(10_001),
            Duration::from_secs(60),
            Duration::from_secs(61),
        ];
        times.iter().for_each(|&time| histogram.record(time));
        let counted = histogram.counted();
        assert_eq!(counted.count, 5);
        assert!((counted.sum - 121.000_020_001).abs() < 1e-9, "{}", counted.sum);
        let filled: Vec<_> = counted.buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_01, 2), (0.000_025, 1), (60.0, 1), (f64::INFINITY, 1)]);
    }

    #[test]
    fn bounds_rise() {
        assert!(BOUNDS_MICROS.is_sorted());
    }
}
