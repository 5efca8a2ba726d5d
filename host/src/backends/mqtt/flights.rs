//! Which publishes are under way, in their order, so that one that makes the
//! broker hang up does not stop all others for ever.

use parking_lot::Mutex;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// A publish that is the oldest under way each time that so many connections
/// in a row are lost is taken to be the reason. On a link that is merely bad,
/// the oldest one is the first to get through.
const CONNECTIONS_LOST_MAX: u32 = 5;

/// The publishes of one session.
#[derive(Default)]
pub(super) struct Flights(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    under_way: BTreeSet<u64>,
    oldest: Option<u64>,
    lost_with_oldest: u32,
    condemned: HashSet<u64>,
}

/// A publish that is under way, until this is dropped.
pub(super) struct Flight {
    flights: Arc<Flights>,
    number: u64,
}

impl Flights {
    /// A publish begins, after all others.
    pub(super) fn begin(self: &Arc<Self>) -> Flight {
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number);
        Flight { flights: self.clone(), number }
    }

    /// A connection is lost. Returns whether the oldest publish is the reason:
    /// it is condemned then, and must not be sent again.
    pub(super) fn connection_lost(&self) -> bool {
        let mut state = self.0.lock();
        let oldest = state.under_way.first().copied();
        if oldest.is_none() || oldest != state.oldest {
            state.oldest = oldest;
            state.lost_with_oldest = 0;
        }
        let Some(oldest) = oldest else { return false };
        state.lost_with_oldest += 1;
        if state.lost_with_oldest < CONNECTIONS_LOST_MAX {
            return false;
        }
        state.condemned.insert(oldest);
        state.lost_with_oldest = 0;
        true
    }
}

impl Flight {
    /// Whether this publish makes the broker hang up.
    pub(super) fn is_condemned(&self) -> bool {
        self.flights.0.lock().condemned.contains(&self.number)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.flights.0.lock();
        state.under_way.remove(&self.number);
        state.condemned.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_condemned_when_no_connection_outlives_it() {
        let flights = Arc::new(Flights::default());
        let (poison, other) = (flights.begin(), flights.begin());
        for _ in 1..CONNECTIONS_LOST_MAX {
            assert!(!flights.connection_lost());
        }
        assert!(flights.connection_lost());
        assert!(poison.is_condemned() && !other.is_condemned());
        drop(poison);
        assert!(!flights.connection_lost(), "the next one is given as many");
    }

    #[test]
    fn on_a_bad_link_where_something_gets_through_none_is() {
        let flights = Arc::new(Flights::default());
        let mut oldest = flights.begin();
        for _ in 0..100 {
            let next = flights.begin();
            for _ in 1..CONNECTIONS_LOST_MAX {
                assert!(!flights.connection_lost());
            }
            oldest = next;
        }
        assert!(!oldest.is_condemned());
        drop(oldest);
        assert!((0..100).all(|_| !flights.connection_lost()), "nothing is under way");
    }
}
