//! In builds without the listener nothing listens: the configuration refuses it.

use super::failure::Failure;
use crate::broker::driver::Connection;
use crate::config::{Config, Errors, Plan};
use crate::telemetry::Figures;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// There is none.
pub(super) type Wanted = Infallible;
/// There is none.
pub(super) type Prepared = Infallible;

/// A broker that nobody else reaches.
pub(super) struct Listening(Arc<dyn Connection>);

impl Listening {
    pub(super) fn new(
        inner: Arc<dyn Connection>,
        _: Arc<dyn Connection>,
        _: Option<PathBuf>,
    ) -> Arc<Self> {
        Arc::new(Self(inner))
    }

    pub(super) fn connection(self: &Arc<Self>) -> Arc<dyn Connection> {
        self.0.clone()
    }

    pub(super) fn open_after(&self, _: usize, prepared: Prepared) {
        match prepared {}
    }

    pub(super) fn shut(&self) {}
}

/// There are none.
#[derive(Clone, Default)]
pub(super) struct Shown;

impl Shown {
    pub(super) fn set(&self, _: Vec<(String, Arc<Listening>)>) {}

    pub(super) fn figures(&self) -> Figures {
        Arc::new(Vec::new)
    }
}

pub(super) fn read(
    _: &Config,
    plan: &Plan,
    folder: Option<&Path>,
    _: &mut Vec<Errors>,
) -> Result<Vec<Option<Wanted>>, Failure> {
    match folder {
        Some(_) => Err(Failure::input("--static: this build has no listener")),
        None => Ok(plan.brokers.iter().map(|_| None).collect()),
    }
}

pub(super) fn prepare(_: &Config, _: &Listening, wanted: Wanted) -> Result<Prepared, Failure> {
    match wanted {}
}
