//! The built-in broker: topics, subscriptions and subscribers, over a storage.
//!
//! `pubsub.memory` and `pubsub.disk` are this broker with different storages.
//!
//! A subscription has a queue: that of a topic subscription is its own, the
//! members of a group share one. Where the [storage](storage) holds the backlog, a
//! subscription outlives its subscribers and the process, and its queue buffers a
//! part of what waits; otherwise the queue holds all of it, ends with its topic
//! subscription, or passes to the one that replaces it, and a group's lasts as
//! long as the broker.
//!
//! At qos 1 and 2 no event is lost: a publisher waits while there is no room for
//! the event, and the event goes to all subscriptions that want it or to none.

mod admin;
mod broker;
mod janitor;
mod once;
mod publication;
mod publish;
mod queue;
mod routes;
mod settings;
mod source;
pub mod storage;
mod subscribe;
mod timer;
mod trie;

pub use admin::{SeekTo, SubscriptionInfo};
pub use broker::BuiltIn;
pub use publication::{Notices, Publication};
pub use settings::{Clock, Settings};

use std::time::Instant;

/// The time of tokio, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
