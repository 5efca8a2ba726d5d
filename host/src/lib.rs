//! Runs WebAssembly components as publish/subscribe services.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod broker;
pub mod capability;
