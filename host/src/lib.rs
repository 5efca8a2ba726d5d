//! Runs WebAssembly components as publish/subscribe services.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod backends;
pub mod broker;
pub mod builtin;
pub mod capability;
pub mod cli;
pub mod config;
#[cfg(feature = "listener")]
pub mod listener;
#[cfg(any(feature = "listener", feature = "mqtt"))]
pub mod mqtt;
pub mod runtime;
pub mod telemetry;
