//! A seeded simulation of the core: hosts that are killed, links that fail,
//! guests that misbehave, and one checker that watches what must hold.
//!
//! Each seed is a world of its own, in one thread and on a clock that stands
//! still while anybody has something to do, so that a seed does the same each
//! time. A failure prints its seed and the steps that led to it;
//! `SIMULATION_SEEDS=7` runs that seed alone, `SIMULATION_SEEDS=0..1000000`
//! many more than the tests do.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "these are tests")]

mod belief;
mod checker;
mod guest;
mod model;
mod planted;
mod plants;
mod scenario;
mod seeds;
mod takers;
mod trace;
mod watch;
mod world;
