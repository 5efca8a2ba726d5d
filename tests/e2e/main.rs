//! The program with real components, as its users see it: what is written where,
//! what is delivered again and what is not, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod brokers;
mod cache;
mod chat;
mod commands;
mod dead;
mod examples;
mod faults;
mod given;
mod health;
mod listening;
mod outages;
mod output;
mod pulls;
mod recordings;
mod reload;
mod restarts;
mod sandbox;
mod service;
mod sessions;
mod stores;
mod support;
mod telemetry;
mod verdicts;
