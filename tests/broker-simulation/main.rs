//! A seeded simulation of the built-in broker against a plain model: random
//! publishers, subscribers, seeks, snapshots, retention, restarts and crashes, and
//! after each step a look at what must hold.
//!
//! Each seed is a world of its own, in one thread and on a clock that stands
//! still while anybody has something to do. A failure prints its seed and the
//! steps that led to it; `SIMULATION_SEEDS=7` runs that seed alone,
//! `SIMULATION_SEEDS=0..1000000` many more than the tests do.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "these are tests")]

mod disk;
mod model;
mod plain;
mod planted;
mod plants;
mod probe;
mod scenario;
mod seeds;
#[path = "../simulation/trace.rs"]
mod trace;
mod world;
