//! The raw call: the same component, called by wasmtime alone.

use anyhow::{Context, Result};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::path::Path;
use std::time::Instant;
use wasmtime::component::{
    Component, ComponentType, Instance, Lift, Linker, Lower, ResourceTable, TypedFunc,
};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

#[derive(Clone, ComponentType, Lower, Lift)]
#[component(record)]
struct Event {
    id: String,
    source: String,
    #[component(name = "type")]
    kind: String,
    data: Vec<u8>,
    #[component(name = "content-type")]
    content_type: Option<String>,
    attributes: Vec<(String, String)>,
    #[component(name = "ordering-key")]
    ordering_key: Option<String>,
    topic: Option<String>,
    attempt: u32,
}

#[derive(Debug, ComponentType, Lower, Lift)]
#[component(variant)]
enum Error {
    #[component(name = "invalid-topic")]
    InvalidTopic(String),
    #[component(name = "access-denied")]
    AccessDenied(String),
    #[component(name = "no-such-subscription")]
    NoSuchSubscription(String),
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "too-large")]
    TooLarge(u64),
    #[component(name = "unavailable")]
    Unavailable(String),
    #[component(name = "closed")]
    Closed,
    #[component(name = "lease-expired")]
    LeaseExpired,
    #[component(name = "unsupported")]
    Unsupported(String),
    #[component(name = "retry-after")]
    RetryAfter(u64),
    #[component(name = "rejected")]
    Rejected(String),
    #[component(name = "other")]
    Other(String),
}

type OnMessage = TypedFunc<(Event,), (Result<(), Error>,)>;

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

fn event(id: u64, data: &[u8]) -> Event {
    Event {
        id: id.to_string(),
        source: "/bench".into(),
        kind: "bench".into(),
        data: data.to_vec(),
        content_type: None,
        attributes: vec![("do".into(), "ok".into())],
        ordering_key: None,
        topic: Some("bench".into()),
        attempt: 1,
    }
}

async fn instantiate(path: &Path, version: &str) -> Result<(Store<State>, OnMessage)> {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    let engine = Engine::new(&config)?;
    let component = Component::from_file(&engine, path)?;
    let mut linker = Linker::<State>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    linker.define_unknown_imports_as_traps(&component)?;
    let state = State { table: ResourceTable::new(), wasi: WasiCtx::builder().build() };
    let mut store = Store::new(&engine, state);
    let instance: Instance = linker.instantiate_async(&mut store, &component).await?;
    let name = format!("wasi:pubsub-data/on-message@{version}");
    let interface = instance.get_export_index(&mut store, None, &name).context("no handler")?;
    let function = instance
        .get_export_index(&mut store, Some(&interface), "on-message")
        .context("no handler")?;
    let function = instance.get_typed_func(&mut store, function)?;
    Ok((store, function))
}

/// Calls a second of a 0.2 handler, one after the other in one instance.
pub async fn serial(path: &Path, calls: u64, data: &[u8]) -> Result<f64> {
    let (mut store, on_message) = instantiate(path, "0.2.0-draft").await?;
    let begun = Instant::now();
    for id in 0..calls {
        let (result,) = on_message.call_async(&mut store, (event(id, data),)).await?;
        result.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    }
    Ok(calls as f64 / begun.elapsed().as_secs_f64())
}

/// Calls a second of a 0.3 handler, so many at once in one instance.
pub async fn concurrent(path: &Path, calls: u64, data: &[u8], at_once: usize) -> Result<f64> {
    let (mut store, on_message) = instantiate(path, "0.3.0-draft").await?;
    let begun = Instant::now();
    store
        .run_concurrent(async |accessor| -> Result<()> {
            let mut under_way = FuturesUnordered::new();
            for id in 0..calls {
                if under_way.len() == at_once
                    && let Some(result) = under_way.next().await
                {
                    let (result,): (Result<(), Error>,) = result?;
                    result.map_err(|error| anyhow::anyhow!("{error:?}"))?;
                }
                under_way.push(on_message.call_concurrent(accessor, (event(id, data),)));
            }
            while let Some(result) = under_way.next().await {
                result?.0.map_err(|error| anyhow::anyhow!("{error:?}"))?;
            }
            Ok(())
        })
        .await??;
    Ok(calls as f64 / begun.elapsed().as_secs_f64())
}
