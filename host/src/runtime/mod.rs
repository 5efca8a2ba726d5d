//! Runs components: engine, instances, dispatch, deadlines, start and end.
//!
//! The way of an event: an [`inbox`] takes a lease from the component's
//! subscriptions, a worker ([`serial`] or [`concurrent`]) calls the guest under
//! a deadline, and settles the lease with the verdict.

mod cache;
mod code;
mod command;
mod component;
mod concurrent;
mod engine;
mod inbox;
mod limiter;
mod output;
mod serial;
mod service;
mod state;
mod status;
mod wasi;
mod worker;

pub use crate::capability::{Cause, Ended, Handling, Observer, Publishing};
pub use cache::CodeCache;
pub use code::{Code, LoadError};
pub use component::{ComponentSettings, InstanceMode};
pub use engine::Host;
pub use output::{GuestStream, Output};
pub use service::{
    ComponentSetup, Grant, Grants, Outcome, Service, Setup, StartError, SubscriptionSetup,
};
pub use status::{ComponentStatus, Failing, Phase, Status, SubscriptionStatus};
pub use wasi::{DirectoryGrant, NetworkGrant, WasiGrants};
