//! What belongs to one instance: the data of its store.

use super::limiter::Limiter;
use crate::capability::{PubSubCtxView, PubSubView, Session};
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

pub(super) struct State {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) session: Arc<Session>,
    pub(super) limiter: Limiter,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl PubSubView for State {
    fn pubsub(&mut self) -> PubSubCtxView<'_> {
        PubSubCtxView { session: &self.session, table: &mut self.table }
    }
}
