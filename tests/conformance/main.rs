//! One suite for every backend.
//!
//! A backend adds a harness in `backends/` and one line at the end of this
//! file, with the features that it has. The features select the tests that it
//! must pass: see `suite.rs`. No test is skipped by hand.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "these are tests")]

#[macro_use]
mod suite;
mod backends;
mod harness;
mod support;
mod themes;

suite!(memory, backends::Memory: queue, ordered_queue, pins_keys, replay, qos2, hand_over, backlog_bound, own_events, repeated_attributes);
suite!(disk, backends::Disk: queue, ordered_queue, pins_keys, replay, durable, qos2, hand_over, backlog_bound, own_events, repeated_attributes);
suite!(mqtt_5, backends::Mqtt5: queue, qos2, kept_sessions, repeated_attributes);
suite!(mqtt_3_1_1, backends::Mqtt3: queue, qos2, kept_sessions);
