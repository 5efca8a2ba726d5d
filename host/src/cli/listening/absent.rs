//! In builds without the listener nothing listens: the configuration refuses it.

use super::failure::Failure;
use crate::broker::driver::Connection;
use crate::config::{Config, Errors, Plan};
use std::path::Path;
use std::sync::Arc;

/// There is none.
pub(super) enum Wanted {}

/// There is none.
pub(super) enum Prepared {}

/// A broker that nobody can reach.
pub(super) struct Listening(Arc<dyn Connection>);
