//! The tests, by theme. Each is a function of a harness.

pub(crate) mod budget;
pub(crate) mod dead_letter;
pub(crate) mod dedupe;
pub(crate) mod drain;
pub(crate) mod durable;
pub(crate) mod features;
pub(crate) mod fidelity;
pub(crate) mod filter;
pub(crate) mod flow;
pub(crate) mod hand_over;
pub(crate) mod lease;
pub(crate) mod limits;
pub(crate) mod order;
pub(crate) mod order_of_queues;
pub(crate) mod own_events;
pub(crate) mod partings;
pub(crate) mod pins_keys;
pub(crate) mod publish;
pub(crate) mod qos;
pub(crate) mod queue;
pub(crate) mod repeated_attributes;
pub(crate) mod replay;
pub(crate) mod retry;
pub(crate) mod sessions;
pub(crate) mod stats;
pub(crate) mod wildcards;
