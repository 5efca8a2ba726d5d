//! The portable core: events, topics, subscriptions and their delivery.
//!
//! Nothing here knows WIT or wasmtime, and nothing knows a particular broker.
//! Backends implement the traits of [`driver`]; the runtime and the command line
//! use [`Broker`], [`Subscription`] and [`Lease`].

mod backlog;
// `Broker` is what the module is about: the file of that name is no second one.
#[allow(clippy::module_inception)]
mod broker;
mod budget;
mod dedupe;
mod delivery;
mod drain;
mod error;
mod event;
mod filter;
pub(crate) mod hashed;
mod lease;
mod limits;
mod order;
mod qos;
mod retention;
mod retry;
mod settings;
mod start;
mod stats;
mod subscription;
#[cfg(test)]
mod tests;
mod timer;
mod topic;
mod waiters;

pub mod cloudevents;
pub mod driver;

pub use backlog::{BacklogBound, OnDiscard};
pub use broker::Broker;
pub use budget::{Budget, Reservation, Share};
pub use error::BrokerError;
pub use event::{DEAD_LETTER_REDRIVE, Event};
pub use filter::{EventFilter, EventFilterError, FILTER_BYTES_MAX};
pub use lease::{Lease, Verdict};
pub use limits::Limits;
pub use order::{Order, OrderBy, OrderByError};
pub use qos::Qos;
pub use retention::{Retention, RetentionRule, Start, StoreBounds};
pub use retry::{RETRY_DELAY_MAX, RetryPolicy};
pub use settings::{
    ACK_DEADLINE, DedupeWindow, Exhausted, MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES, SubscriptionSettings,
};
pub use start::StartError;
pub use stats::Stats;
pub use subscription::Subscription;
pub use topic::{TOPIC_BYTES_MAX, Topic, TopicError, TopicFilter};
