//! All that knows WIT: the bindings of both versions of `wasi:pubsub-data`, the
//! host functions, and the conversion to and from the core's types.
//!
//! `v0_2` and `v0_3` only look up resources and convert; what the functions
//! mean is written once, in [`Session`]. No generated type leaves this module.

mod bindings;
mod closing;
mod convert;
mod delivery;
mod handler;
mod inspect;
mod links;
mod observe;
mod session;
mod v0_2;
mod v0_3;

pub use closing::Closing;
pub use handler::{Call, Handler, HandlerExport};
pub use inspect::{Interfaces, Version, inspect};
pub use links::{Links, Route};
pub use observe::{Cause, Ended, Handling, Observation, Observer, Observers, Publishing};
pub use session::{Role, Session};

use std::sync::Arc;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, ResourceTable};

/// Gives the host functions access to the state of an instance.
pub trait PubSubView: Send + 'static {
    /// The instance's session and its table of resources.
    fn pubsub(&mut self) -> PubSubCtxView<'_>;
}

/// What the host functions work on.
pub struct PubSubCtxView<'a> {
    /// What the instance has in hand.
    pub session: &'a Arc<Session>,
    /// The resources that the instance has handles to.
    pub table: &'a mut ResourceTable,
}

struct HasPubSub;

impl HasData for HasPubSub {
    type Data<'a> = PubSubCtxView<'a>;
}

/// Adds the functions of one version to a linker.
///
/// # Errors
/// Where the linker has some of them already.
pub fn add_to_linker<T: PubSubView>(linker: &mut Linker<T>, version: Version) -> Result<()> {
    use bindings::{v0_2::wasi::pubsub_data as v0_2, v0_3::wasi::pubsub_data as v0_3};
    match version {
        Version::V0_2 => {
            v0_2::basic::add_to_linker::<T, HasPubSub>(linker, T::pubsub)?;
            v0_2::pull::add_to_linker::<T, HasPubSub>(linker, T::pubsub)
        }
        Version::V0_3 => {
            v0_3::basic::add_to_linker::<T, HasPubSub>(linker, T::pubsub)?;
            v0_3::pull::add_to_linker::<T, HasPubSub>(linker, T::pubsub)
        }
    }
}
