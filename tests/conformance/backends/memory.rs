//! The built-in broker, in memory.

use crate::harness::Harness;
use async_trait::async_trait;
use std::sync::Arc;
use wasi_pubsub::backends::memory;
use wasi_pubsub::broker::driver::Connection;

pub(crate) struct Memory(Arc<dyn Connection>);

impl Memory {
    pub(crate) async fn start() -> Self {
        Self(memory::open())
    }
}

#[async_trait]
impl Harness for Memory {
    async fn connection(&self, _: &str) -> Arc<dyn Connection> {
        self.0.clone()
    }
}
