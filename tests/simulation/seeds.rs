//! The seeds that must hold.

use crate::checker::Seen;
use crate::world::{self, Failure};
use std::ops::Range;

/// What `SIMULATION_SEEDS` asks for: one seed, or `FROM..TO`.
fn asked() -> Option<Range<u64>> {
    let text = std::env::var("SIMULATION_SEEDS").ok()?;
    let number = |text: &str| text.parse().expect("SIMULATION_SEEDS is a number or FROM..TO");
    Some(match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&text)..number(&text) + 1,
    })
}

/// Runs these seeds; of those that `SIMULATION_SEEDS` asks for, its share.
fn hold(part: u64) {
    hold_but(part, &[]);
}

/// As [`hold`]; what is named cannot happen in these worlds.
fn hold_but(part: u64, never: &[&str]) {
    let seeds = asked();
    let mut seen = Seen::default();
    for seed in seeds.clone().unwrap_or(0..SEEDS).filter(|seed| seed % PARTS == part) {
        match world::run(seed, None) {
            Ok(more) => seen += more,
            Err(Failure { what, trace }) => {
                panic!("{trace}\nseed {seed}: {what}\nonce more: SIMULATION_SEEDS={seed}")
            }
        }
    }
    if seeds.is_none() {
        seen.check_all(never);
    }
}

/// All seeds, and the tests that share them.
const SEEDS: u64 = 10_000;
const PARTS: u64 = 4;

#[test]
fn a_broker_that_repeats_deliveries() {
    hold(0);
}

#[test]
fn a_broker_that_repeats_deliveries_in_other_worlds() {
    hold(1);
}

#[test]
fn a_broker_that_takes_failed_events_back() {
    hold(2);
}

#[test]
fn the_built_in_broker() {
    // It hands out nothing that a filter does not want.
    hold_but(3, &["filtered"]);
}

#[test]
fn a_seed_does_the_same_each_time() {
    for seed in 0..20 {
        let [(_, first), (_, second)] = [(); 2].map(|()| world::run_traced(seed, None));
        assert!(first.lines().count() > 100, "seed {seed} does next to nothing");
        assert!(first == second, "seed {seed} does not do the same each time");
    }
}
