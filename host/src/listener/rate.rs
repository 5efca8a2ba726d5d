//! How fast a client may send: beyond it no more is taken from it for a while, so
//! that it has to wait as for a slow network. Nothing is refused, and nothing lost.
//!
//! It has no clock: it is told the time.

use super::settings::Limits;
use std::time::Duration;
use tokio::time::Instant;

/// How much is waited for before more is read, in bytes: who is slowed down is not
/// read byte by byte.
const READ_BYTES_MIN: u64 = 4096;

/// The rates of one client; as a default none.
#[derive(Default)]
pub(super) struct Pace {
    publishes: Option<Rate>,
    bytes: Option<Rate>,
}

impl Pace {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let rate = |per_second: Option<u64>| per_second.map(|number| Rate::new(number, now));
        Self {
            publishes: rate(limits.publishes_per_second_max),
            bytes: rate(limits.bytes_per_second_max),
        }
    }

    /// Whether there is any.
    pub(super) fn is_limited(&self) -> bool {
        self.publishes.is_some() || self.bytes.is_some()
    }

    /// Whether the next publish may be handled; it counts where it may.
    pub(super) fn admit(&mut self, now: impl FnOnce() -> Instant) -> bool {
        let Some(rate) = &mut self.publishes else { return true };
        let now = now();
        let may = rate.room(now) > 0;
        if may {
            rate.take(1, now);
        }
        may
    }

    /// When the next publish may be handled.
    pub(super) fn admits_at(&self) -> Option<Instant> {
        self.publishes.as_ref().map(|rate| rate.ready_at(1))
    }

    /// How many bytes may be read.
    pub(super) fn readable(&self, now: impl FnOnce() -> Instant) -> usize {
        let Some(rate) = &self.bytes else { return usize::MAX };
        let room = rate.room(now());
        if room < rate.least_read() { 0 } else { usize::try_from(room).unwrap_or(usize::MAX) }
    }

    /// When some may be.
    pub(super) fn readable_at(&self) -> Option<Instant> {
        self.bytes.as_ref().map(|rate| rate.ready_at(rate.least_read()))
    }

    /// So many bytes were read.
    pub(super) fn read(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        if let Some(rate) = &mut self.bytes {
            rate.take(bytes as u64, now());
        }
    }
}

/// One rate: a leaky bucket, which holds what one second lets through. It counts in
/// billionths, of which a nanosecond lets through as many as a second does of wholes.
struct Rate {
    per_second: u64,
    /// What is in it.
    level: u128,
    /// When that was so.
    at: Instant,
}

const WHOLE: u128 = 1_000_000_000;

impl Rate {
    fn new(per_second: u64, now: Instant) -> Self {
        Self { per_second: per_second.max(1), level: 0, at: now }
    }

    fn least_read(&self) -> u64 {
        READ_BYTES_MIN.min(self.per_second)
    }

    fn level(&self, now: Instant) -> u128 {
        let nanos = now.saturating_duration_since(self.at).as_nanos();
        self.level.saturating_sub(nanos * u128::from(self.per_second))
    }

    /// How much may be taken.
    fn room(&self, now: Instant) -> u64 {
        let size = u128::from(self.per_second) * WHOLE;
        let room = size.saturating_sub(self.level(now)) / WHOLE;
        u64::try_from(room).unwrap_or(u64::MAX)
    }

    fn take(&mut self, number: u64, now: Instant) {
        self.level = self.level(now) + u128::from(number) * WHOLE;
        self.at = now.max(self.at);
    }

    /// When so much may be taken, which is not more than a second lets through.
    fn ready_at(&self, number: u64) -> Instant {
        let allowed = u128::from(self.per_second.saturating_sub(number)) * WHOLE;
        let nanos = self.level.saturating_sub(allowed).div_ceil(u128::from(self.per_second));
        self.at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(publishes: Option<u64>, bytes: Option<u64>) -> (Pace, Instant) {
        let limits = Limits {
            publishes_per_second_max: publishes,
            bytes_per_second_max: bytes,
            ..Limits::default()
        };
        let now = Instant::now();
        (Pace::new(&limits, now), now)
    }

    /// How many publishes are let through at a time.
    fn admitted(pace: &mut Pace, at: Instant) -> usize {
        (0..).take_while(|_| pace.admit(|| at)).count()
    }

    #[test]
    fn a_second_of_publishes_may_come_at_once_and_then_one_after_the_other() {
        for per_second in [1, 3, 10, 7_000] {
            let (mut pace, start) = pace(Some(per_second), None);
            assert_eq!(admitted(&mut pace, start) as u64, per_second);
            for _ in 0..5 {
                let next = pace.admits_at().unwrap();
                assert!(!pace.admit(|| next - Duration::from_nanos(1)), "{per_second}");
                assert_eq!(admitted(&mut pace, next), 1, "{per_second}");
            }
            let later = pace.admits_at().unwrap() + Duration::from_secs(60);
            assert_eq!(admitted(&mut pace, later) as u64, per_second, "no more is saved up");
        }
    }

    #[test]
    fn in_the_long_run_it_is_the_rate() {
        let (mut pace, start) = pace(Some(37), None);
        let mut sum = 0;
        for millis in (0..=100_000).step_by(13) {
            sum += admitted(&mut pace, start + Duration::from_millis(millis));
        }
        assert!((37 * 100..=37 * 101).contains(&sum), "{sum}");
    }

    #[test]
    fn bytes_are_read_in_pieces_that_are_worth_it() {
        let (mut pace, start) = pace(None, Some(100_000));
        assert_eq!(pace.readable(|| start), 100_000);
        pace.read(99_000, || start);
        assert_eq!(pace.readable(|| start), 0);
        let next = pace.readable_at().unwrap();
        assert_eq!(pace.readable(|| next), 4096);
        assert_eq!(next, start + Duration::from_micros(30_960));
        assert!(pace.admit(|| start) && pace.admits_at().is_none());
    }

    #[test]
    fn a_slow_rate_reads_what_it_can() {
        let (mut pace, start) = pace(None, Some(10));
        assert_eq!(pace.readable(|| start), 10);
        pace.read(1, || start);
        assert_eq!(pace.readable(|| start), 0);
        assert_eq!(pace.readable(|| pace.readable_at().unwrap()), 10);
    }

    #[test]
    fn without_a_rate_there_is_no_clock() {
        let (mut pace, _) = pace(None, None);
        let never = || -> Instant { unreachable!("nobody asks") };
        assert!(pace.admit(never) && pace.readable(never) == usize::MAX && !pace.is_limited());
        pace.read(1 << 40, never);
        assert_eq!((pace.admits_at(), pace.readable_at()), (None, None));
    }
}
