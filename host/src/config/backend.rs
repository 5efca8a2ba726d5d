//! What a kind of broker adds to the configuration.

use super::Section;
use crate::broker::driver::{Connection, Features};
use crate::broker::{BrokerError, StoreBounds};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// The part of the configuration that belongs to one backend.
pub trait BackendSection: Send + Sync {
    /// What `name` of a capability selects it by, such as `pubsub.mqtt`.
    fn name(&self) -> &'static str;

    /// What brokers of this kind can do. Configuration refuses the rest.
    fn features(&self) -> Features;

    /// The keys of a binding that are this backend's own. Used for hints only:
    /// what [`connection`](Self::connection) asks for is what is known.
    fn keys(&self) -> &'static [Key];

    /// Reads the connection from a binding's table. Problems are reported to
    /// the section, all of them, and `None` is returned.
    fn connection(&self, section: &mut Section<'_>) -> Option<Arc<dyn ConnectionSettings>>;
}

/// A key of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it means, in one line.
    pub help: &'static str,
}

/// How one broker is reached.
///
/// `Debug` and [`describe`](Self::describe) show no secret.
pub trait ConnectionSettings: Debug + Any + Send + Sync {
    /// Whether these settings mean the same broker, in the same way.
    fn same_as(&self, other: &dyn ConnectionSettings) -> bool;

    /// The broker in a few words, for logs.
    fn describe(&self) -> String;

    /// The bounds of what the broker keeps inside this process. They can change while
    /// it is open, so that settings that mean [the same](Self::same_as) broker may
    /// differ in them.
    fn store_bounds(&self) -> Option<StoreBounds> {
        None
    }

    /// Whether what the broker keeps is there for the next process that opens it,
    /// though it lives inside of one at a time.
    fn outlives_process(&self) -> bool {
        false
    }

    /// Opens a connection, without waiting for the broker. `client_id_base` is
    /// what the process goes by where the settings name no client. `first_label`
    /// is the label of the first subscription in the order of the configuration,
    /// whose session bears the client id that the settings name; `None`: that of
    /// whoever subscribes first.
    ///
    /// # Errors
    /// Something that the settings name, such as a file, cannot be used any more.
    fn open(
        &self,
        client_id_base: &str,
        first_label: Option<&str>,
    ) -> Result<Arc<dyn Connection>, BrokerError>;

    /// Opens a connection that leaves no trace and gets into nobody's way: under
    /// this client id whatever the settings say, and without anything that the
    /// broker keeps. For `publish` and `subscribe` on the command line, beside a
    /// host that runs with the same settings.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    fn open_for_tool(&self, client_id: &str) -> Result<Arc<dyn Connection>, BrokerError>;

    /// Opens a connection for one subscription, which the broker keeps for this
    /// client id as long as it can, and fills while nobody is connected. `None`:
    /// this kind of broker keeps nothing in that way.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    fn open_kept(&self, _client_id: &str) -> Option<Result<Arc<dyn Connection>, BrokerError>> {
        None
    }
}

/// The backends that a configuration may name.
#[derive(Clone, Copy)]
pub struct Backends<'a> {
    /// Those that are there.
    pub present: &'a [&'a dyn BackendSection],
    /// Those that are known and not there.
    pub absent: &'a [Absent],
}

/// A backend that is known and not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent {
    /// What would select it.
    pub name: &'static str,
    /// The cargo feature that it was left out by; `None`: a later version has it.
    pub feature: Option<&'static str>,
}

impl<'a> Backends<'a> {
    /// The backend of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'a dyn BackendSection> {
        self.present.iter().copied().find(|backend| backend.name() == name)
    }
}
