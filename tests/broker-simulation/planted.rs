//! Planted faults are found: a simulation that finds nothing would show nothing.

use crate::plants::Plant;
use crate::scenario::Kind;
use crate::world;

/// A fault is found within so many seeds.
const SEEDS_MAX: u64 = 1000;

fn is_found(plant: Plant, kind: Kind) {
    let found = (0..SEEDS_MAX).any(|seed| world::run(kind, seed, Some(plant)).is_err());
    assert!(found, "{plant:?} was not found within {SEEDS_MAX} seeds");
}

macro_rules! planted {
    ($($test:ident: $plant:ident in $kind:ident;)*) => {$(
        #[test]
        fn $test() {
            is_found(Plant::$plant, Kind::$kind);
        }
    )*};
}

planted! {
    events_that_are_lost: LosesEvents in Plain;
    events_that_are_not_kept: KeepsTooLittle in Plain;
    forgotten_publishes: ForgetsWhatWasPublished in Plain;
    pages_that_lack_an_event: LosesFromPages in Plain;
    pages_that_repeat: RepeatsPages in Plain;
    pages_out_of_order: MixesPages in Plain;
    one_event_trimmed_too_many: TrimsTooMuch in Plain;
    open_events_trimmed: TrimsTheOpen in Plain;
    retained_events_trimmed: TrimsTheRetained in Plain;
    events_trimmed_too_late: TrimsTooLittle in Plain;
    lost_progress: LosesProgress in Plain;
    open_events_forgotten: ForgetsTheOpen in Plain;
    closed_events_kept: KeepsTheClosed in Plain;
    overstated_progress: OverstatesProgress in Plain;
    miscounted_attempts: MiscountsAttempts in Plain;
    seeks_that_are_not_kept: SeeksWithoutKeeping in Plain;
    seeks_without_what_is_open: SeeksWithoutTheOpen in Plain;
    missed_times: MissesTheTime in Plain;
    removed_subscriptions_that_stay: KeepsWhatIsRemoved in Plain;
    forgotten_filters: ForgetsFilters in Plain;
    forgotten_snapshots: ForgetsSnapshots in Plain;
    events_that_are_lost_in_memory: LosesEvents in Memory;
    retained_events_trimmed_in_memory: TrimsTheRetained in Memory;
    lost_acknowledgements: LosesAcknowledgements in Memory;
    ignored_delays: IgnoresDelays in Memory;
    attempts_that_are_charged_always: ChargesAlways in Memory;
    events_delivered_twice: DeliversTwice in Memory;
    lost_wake_ups: LosesWakeUps in Memory;
    more_taken_than_allowed: TakesTooMuch in Memory;
    ignored_order: IgnoresOrder in Memory;
    ignored_filters: IgnoresFilters in Memory;
    ignored_publishers: IgnoresPublishers in Memory;
}
