//! Planted faults are found: a simulation that finds nothing would show nothing.

use crate::plants::Plant;
use crate::world;

/// A fault is found within so many seeds.
const SEEDS_MAX: u64 = 1000;

fn is_found(plant: Plant) {
    let found = (0..SEEDS_MAX).any(|seed| world::run(seed, Some(plant)).is_err());
    assert!(found, "{plant:?} was not found within {SEEDS_MAX} seeds");
}

macro_rules! planted {
    ($($test:ident: $plant:ident;)*) => {$(
        #[test]
        fn $test() {
            is_found(Plant::$plant);
        }
    )*};
}

planted! {
    early_acknowledgements: AcknowledgesEarly;
    forgotten_acknowledgements: ForgetsToAcknowledge;
    events_dropped_when_full: DropsWhenFull;
    forgotten_verdicts: ForgetsVerdicts;
    an_overdrawn_budget: OverdrawsBudget;
    order_ignored: IgnoresOrder;
    mistaken_identities: MistakesIdentity;
    more_taken_than_allowed: TakesTooMuch;
    too_many_attempts: TriesTooOften;
    retries_before_their_time: RetriesEarly;
    giving_back_that_is_charged: ChargesGivingBack;
    dead_letters_acknowledged_before_they_are_stored: TrustsDeadLetters;
    dead_letters_that_miscount: MiscountsDeadLetters;
    lost_wake_ups: LosesWakeUps;
    leaked_leases: LeaksLeases;
}
