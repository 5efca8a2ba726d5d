//! How many are in, altogether and from one address.

use super::figures::Counters;
use super::reason::{Fault, Reason};
use super::settings::Limits;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How many that are too many are told so at once. Further ones are closed without a
/// word, as nobody is who cannot be served at all.
const TOLD_MAX: usize = 64;

/// Who is in.
pub(super) struct Crowd {
    counters: Arc<Counters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    served: usize,
    told: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The place of one of them, until it is dropped.
pub(super) struct Place {
    crowd: Arc<Crowd>,
    kind: Kind,
}

enum Kind {
    Served(Option<IpAddr>),
    Told,
}

/// Why there is no place.
pub(super) enum Refusal {
    /// There is one for being told why.
    Told(Place, Fault),
    /// There is not even that.
    Closed,
}

impl Crowd {
    pub(super) fn new(counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self { counters, state: Mutex::default() })
    }

    /// Takes a place for who comes from an address.
    pub(super) fn enter(
        self: &Arc<Self>,
        from: Option<IpAddr>,
        limits: &Limits,
    ) -> Result<Place, Refusal> {
        let from = from.map(neighbourhood);
        let mut state = self.state.lock();
        let neighbours = from.and_then(|from| state.by_address.get(&from)).copied().unwrap_or(0);
        let text = if state.served >= limits.connections_max {
            "there are too many connections"
        } else if limits.connections_per_address_max.is_some_and(|max| neighbours >= max) {
            "there are too many connections from this address"
        } else {
            state.served += 1;
            if let Some(from) = from {
                *state.by_address.entry(from).or_default() += 1;
            }
            drop(state);
            return Ok(self.place(Kind::Served(from)));
        };
        if state.told >= TOLD_MAX {
            return Err(Refusal::Closed);
        }
        state.told += 1;
        drop(state);
        Err(Refusal::Told(self.place(Kind::Told), Fault::new(Reason::QUOTA_EXCEEDED, text)))
    }

    fn place(self: &Arc<Self>, kind: Kind) -> Place {
        self.counters.connections.fetch_add(1, Relaxed);
        Place { crowd: self.clone(), kind }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.counters.connections.fetch_sub(1, Relaxed);
        let mut state = self.crowd.state.lock();
        match self.kind {
            Kind::Told => state.told -= 1,
            Kind::Served(from) => {
                state.served -= 1;
                let Some(from) = from else { return };
                if let Some(number) = state.by_address.get_mut(&from) {
                    *number -= 1;
                    if *number == 0 {
                        state.by_address.remove(&from);
                    }
                }
            }
        }
    }
}

/// What counts as one address: of IPv6 a network of 64 bits, as who has one address
/// of it has all of them.
pub(super) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(all: usize, each: Option<usize>) -> Limits {
        Limits { connections_max: all, connections_per_address_max: each, ..Limits::default() }
    }

    fn enter(crowd: &Arc<Crowd>, from: &str, limits: &Limits) -> Result<Place, Refusal> {
        crowd.enter(Some(from.parse().unwrap()), limits)
    }

    #[test]
    fn one_address_has_so_many_places_and_gives_them_back() {
        let crowd = Crowd::new(Arc::default());
        let limits = limits(100, Some(2));
        let first = enter(&crowd, "10.0.0.1", &limits).ok().unwrap();
        let _same = enter(&crowd, "::ffff:10.0.0.1", &limits).ok().unwrap();
        let refused = enter(&crowd, "10.0.0.1", &limits).err().unwrap();
        let Refusal::Told(place, fault) = refused else { panic!("it is not told") };
        assert_eq!(fault.reason, Reason::QUOTA_EXCEEDED);
        let _other = enter(&crowd, "10.0.0.2", &limits).ok().unwrap();
        assert_eq!(crowd.counters.connections.load(Relaxed), 4);
        drop((first, place));
        let _again = enter(&crowd, "10.0.0.1", &limits).ok().unwrap();
        assert!(enter(&crowd, "10.0.0.1", &limits).is_err());
        let _none = crowd.enter(None, &limits).ok().unwrap();
    }

    #[test]
    fn of_ipv6_a_network_is_one_address() {
        let crowd = Crowd::new(Arc::default());
        let limits = limits(100, Some(1));
        let _first = enter(&crowd, "2001:db8:0:1::1", &limits).ok().unwrap();
        assert!(enter(&crowd, "2001:db8:0:1:ffff::9", &limits).is_err());
        assert!(enter(&crowd, "2001:db8:0:2::1", &limits).is_ok());
    }

    #[test]
    fn beyond_the_last_place_some_are_told_and_the_others_closed() {
        let crowd = Crowd::new(Arc::default());
        let limits = limits(1, None);
        let place = crowd.enter(None, &limits).ok().unwrap();
        let told: Vec<_> = (0..TOLD_MAX).map(|_| crowd.enter(None, &limits).err()).collect();
        assert!(told.iter().all(|refusal| matches!(refusal, Some(Refusal::Told(..)))));
        assert!(matches!(crowd.enter(None, &limits), Err(Refusal::Closed)));
        drop(told);
        assert!(matches!(crowd.enter(None, &limits), Err(Refusal::Told(..))));
        drop(place);
        assert!(crowd.enter(None, &limits).is_ok());
        assert_eq!(crowd.counters.connections.load(Relaxed), 0);
        assert!(crowd.state.lock().by_address.is_empty());
    }
}
