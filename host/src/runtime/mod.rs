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
mod generation;
mod inbox;
mod limiter;
mod links;
mod opening;
mod output;
mod reload;
mod serial;
mod service;
mod setup;
mod state;
mod status;
mod unit;
mod wasi;
mod worker;

pub use crate::capability::{Cause, Ended, Handling, Observer, Publishing};
pub use cache::CodeCache;
pub use code::{Code, LoadError};
pub use component::{ComponentSettings, InstanceMode};
pub use engine::Host;
pub use generation::Changes;
pub use output::{GuestStream, Output};
pub use reload::{ReloadError, Reloader, Reloads};
pub use service::Service;
pub use setup::{ComponentSetup, Grant, Grants, Outcome, Setup, StartError, SubscriptionSetup};
pub use status::{ComponentStatus, Failing, Phase, Status, SubscriptionStatus};
pub use wasi::{DirectoryGrant, NetworkGrant, WasiGrants};
