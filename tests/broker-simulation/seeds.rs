//! The seeds that must hold.

use crate::model::Seen;
use crate::scenario::Kind;
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

/// The last steps of a history: so many, or as `SIMULATION_STEPS` says.
fn tail(trace: &str) -> String {
    let asked = std::env::var("SIMULATION_STEPS").ok();
    let asked = asked.map(|text| text.parse().expect("SIMULATION_STEPS is a number"));
    let lines: Vec<_> = trace.lines().collect();
    let left_out = lines.len().saturating_sub(asked.unwrap_or(STEPS_SHOWN));
    let said = match left_out {
        0 => String::new(),
        _ => format!("({left_out} earlier lines: SIMULATION_STEPS=1000 shows them)\n"),
    };
    said + &lines[left_out..].join("\n")
}

/// The last steps that a failure shows.
const STEPS_SHOWN: usize = 60;
/// The most seeds that a failure names.
const FAILURES_MAX: usize = 10;

/// Runs these seeds, or those that `SIMULATION_SEEDS` asks for.
fn hold(kind: Kind, seeds: Range<u64>, never: &[&str]) {
    let asked = asked();
    let mut seen = Seen::default();
    let mut failed = Vec::new();
    for seed in asked.clone().unwrap_or(seeds) {
        match world::run(kind, seed, None) {
            Ok(more) => seen += more,
            Err(failure) => failed.push((seed, failure)),
        }
        if failed.len() == FAILURES_MAX {
            break;
        }
    }
    if let Some((first, Failure { trace, .. })) = failed.first() {
        let all: Vec<_> =
            failed.iter().map(|(seed, failure)| format!("seed {seed}: {}", failure.what)).collect();
        let trace = tail(trace);
        panic!("{trace}\n{}\nonce more: SIMULATION_SEEDS={first}", all.join("\n"));
    }
    if asked.is_none() {
        for (name, count) in seen.all() {
            assert!(count > 0 || never.contains(&name), "`{name}` never happened");
        }
    }
}

/// What cannot happen in memory.
const DURABLE: [&str; 4] = ["refused", "closes", "crashes", "failures"];

#[test]
fn in_memory() {
    hold(Kind::Memory, 0..400, &DURABLE);
}

#[test]
fn durable() {
    hold(Kind::Plain, 0..400, &["waited"]);
}

/// The real storage: threads and a file make it slow.
#[test]
fn on_disk() {
    hold(Kind::Disk, 0..60, &["refused", "failures", "waited"]);
}

#[test]
fn a_seed_does_the_same_each_time() {
    for kind in [Kind::Memory, Kind::Plain] {
        for seed in 0..20 {
            let [(_, first), (_, second)] = [(); 2].map(|()| world::run_traced(kind, seed, None));
            assert!(first.lines().count() > 100, "seed {seed} does next to nothing");
            assert!(first == second, "seed {seed} of {kind:?} does not do the same each time");
        }
    }
}
