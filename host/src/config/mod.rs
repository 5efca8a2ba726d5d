//! The configuration file: its model, how it is read, and what can be wrong
//! with it.
//!
//! It happens in two steps. [`load`] reads a file alone: types, values and the
//! rules within a binding. [`resolve()`] joins it with what is known of the
//! components, checks what depends on both, and makes a [`Plan`] of brokers,
//! subscriptions and grants. Either reports every [`Problem`] that it finds, not
//! only the first.
//!
//! Nothing here starts or connects anything. What a backend adds is read by its
//! own [`BackendSection`].

mod backend;
mod binding;
mod component;
mod filter;
mod listen;
mod load;
mod message;
mod model;
mod order;
mod problem;
mod replay;
mod report;
mod resolve;
mod section;
mod source;
mod suggest;
mod units;
mod values;

pub use backend::{Absent, BackendSection, Backends, ConnectionSettings, Key};
pub use listen::{
    AccessRule, Certificate, DoorAddress, DoorError, LISTEN_KEYS, ListenConfig, ListenFormat,
    ListenLimits, ListenPlaces, ListenSettings,
};
pub use load::{Request, built_in, load};
pub use model::{
    Binding, Capability, Component, ComponentSettings, Config, Delivery, Directory, Grant,
    Instance, Network, Publish, SubscriptionConfig, Wasi,
};
pub use problem::Problem;
pub use report::{Error, Errors};
pub use resolve::{
    BrokerPlan, ComponentFacts, ComponentPlan, Grants, Plan, PullNames, Route, RouteError,
    SubscriptionPlan, resolve,
};
pub use section::Section;
pub use source::{Located, Place, Source, Span};
