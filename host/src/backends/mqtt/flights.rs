//! Which publishes are under way, so that one that makes the broker hang up
//! does not stop all others for ever.
//!
//! The client library sends what is not confirmed again on each connection, and
//! cannot be told to leave out one. A broker that closes the connection on some
//! packet, for a topic that it does not like, would close every one. So when
//! connections are lost and nothing gets through, all that waits is given up,
//! and until each of those publishes has ended, every publish takes its turn
//! alone. The one that then still loses its connections waits for another turn, after
//! the others, until its caller gives up: a link that is merely bad is no reason to
//! refuse it.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many connections lost in a row, with the same publish the oldest each
/// time, put all that are under way under suspicion. On a link that is merely
/// bad, the oldest one gets through.
const LOST_WITH_OLDEST_MAX: u32 = 5;
/// So many connections lost with a publish that is under way alone end its turn.
const LOST_ALONE_MAX: u32 = 3;

/// The publishes of one session.
#[derive(Default)]
pub(super) struct Flights {
    state: Mutex<State>,
    /// Held by the one that is under way alone.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    next: u64,
    under_way: BTreeSet<u64>,
    oldest: Option<u64>,
    lost_with_oldest: u32,
    /// Those with a smaller number are under suspicion.
    suspects_below: u64,
    alone: Option<u64>,
    /// How many connections were lost with each suspect alone.
    lost_alone: BTreeMap<u64, u32>,
}

/// A publish that is under way, until this is dropped.
pub(super) struct Flight {
    flights: Arc<Flights>,
    number: u64,
}

/// The turn of a publish that is under way alone.
pub(super) struct Turn {
    flights: Arc<Flights>,
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

impl Flights {
    /// A publish begins, after all others.
    pub(super) fn begin(self: &Arc<Self>) -> Flight {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number);
        Flight { flights: self.clone(), number }
    }

    /// A connection is lost. Whether all that waits to be sent is to be given up.
    pub(super) fn connection_lost(&self) -> bool {
        let mut state = self.state.lock();
        if let Some(alone) = state.alone {
            let lost = state.lost_alone.entry(alone).or_default();
            *lost = (*lost + 1) % LOST_ALONE_MAX;
            return *lost == 0;
        }
        let oldest = state.under_way.first().copied();
        if oldest != state.oldest {
            state.oldest = oldest;
            state.lost_with_oldest = 0;
        }
        state.lost_with_oldest += u32::from(oldest.is_some());
        if state.lost_with_oldest < LOST_WITH_OLDEST_MAX {
            return false;
        }
        state.lost_with_oldest = 0;
        state.suspects_below = state.next;
        true
    }
}

impl State {
    fn is_suspicious(&self) -> bool {
        self.under_way.first().is_some_and(|oldest| *oldest < self.suspects_below)
    }
}

impl Flight {
    /// Waits for its turn while there is suspicion.
    pub(super) async fn turn(&self) -> Option<Turn> {
        if !self.flights.state.lock().is_suspicious() {
            return None;
        }
        let turn = self.flights.turn.clone().lock_owned().await;
        let mut state = self.flights.state.lock();
        state.is_suspicious().then(|| {
            state.alone = Some(self.number);
            Turn { flights: self.flights.clone(), _turn: turn }
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.flights.state.lock().alone = None;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.flights.state.lock();
        state.under_way.remove(&self.number);
        state.lost_alone.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn suspects_take_turns_and_the_guilty_goes_behind_the_others() {
        let flights = Arc::new(Flights::default());
        let (innocent, guilty) = (flights.begin(), flights.begin());
        for _ in 1..LOST_WITH_OLDEST_MAX {
            assert!(!flights.connection_lost());
        }
        assert!(flights.connection_lost());

        let turn = innocent.turn().now_or_never().unwrap();
        assert!(turn.is_some());
        assert!(guilty.turn().now_or_never().is_none(), "one at a time");
        assert!(flights.begin().turn().now_or_never().is_none(), "it may be guilty as well");
        assert!(!flights.connection_lost());
        drop((turn, innocent));

        let turn = guilty.turn().now_or_never().unwrap();
        for _ in 1..LOST_ALONE_MAX {
            assert!(!flights.connection_lost());
        }
        assert!(flights.connection_lost(), "its turn is over");
        drop((turn, guilty));
        assert!(flights.begin().turn().now_or_never().unwrap().is_none(), "it is over");
        assert!((0..100).all(|_| !flights.connection_lost()), "nothing is under way");
    }

    #[test]
    fn on_a_bad_link_where_something_gets_through_there_is_no_suspicion() {
        let flights = Arc::new(Flights::default());
        let mut under_way = std::collections::VecDeque::from([flights.begin()]);
        for _ in 0..100 {
            under_way.push_back(flights.begin());
            for _ in 1..LOST_WITH_OLDEST_MAX {
                assert!(!flights.connection_lost());
            }
            under_way.pop_front();
        }
    }
}
