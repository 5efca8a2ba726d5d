//! The raw call: the same component, called by wasmtime alone.

use anyhow::{Context, Result};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentType, InstancePre, Lift, Linker, Lower,
    ResourceTable, TypedFunc,
};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
};
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

/// What is called, and how.
#[derive(Clone)]
pub struct Raw {
    path: PathBuf,
    how: How,
    threads: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// One call after the other, in one instance.
    Serial,
    /// So many at once, in one instance.
    Concurrent(usize),
    /// An instance for each call.
    Fresh,
}

impl Raw {
    /// A 0.2 handler, one call after the other in one instance.
    pub fn serial(path: &Path) -> Self {
        Self { path: path.to_owned(), how: How::Serial, threads: 1 }
    }

    /// A 0.3 handler, so many calls at once in one instance.
    pub fn concurrent(path: &Path, at_once: usize) -> Self {
        Self { path: path.to_owned(), how: How::Concurrent(at_once), threads: 1 }
    }

    /// A 0.2 handler, an instance for each call.
    pub fn fresh(path: &Path) -> Self {
        Self { path: path.to_owned(), how: How::Fresh, threads: 1 }
    }

    /// On so many threads, each with instances of its own.
    pub fn on(self, threads: u64) -> Self {
        Self { threads, ..self }
    }
}

/// Calls a second.
pub async fn rate(raw: &Raw, calls: u64, data: &[u8]) -> Result<f64> {
    let guest = Arc::new(Guest::new(raw)?);
    let each = calls / raw.threads;
    let mut threads = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for _ in 0..raw.threads {
        let (guest, how, data) = (Arc::clone(&guest), raw.how, data.to_vec());
        threads.spawn(async move {
            match how {
                How::Serial => guest.serial(each, &data).await,
                How::Concurrent(at_once) => guest.concurrent(each, &data, at_once).await,
                How::Fresh => guest.fresh(each, &data).await,
            }
        });
    }
    while let Some(ended) = threads.join_next().await {
        ended??;
    }
    Ok((each * raw.threads) as f64 / begun.elapsed().as_secs_f64())
}

/// A guest in an engine with the settings that the host has for it.
struct Guest {
    pre: InstancePre<State>,
    interface: ComponentExportIndex,
}

impl Guest {
    fn new(raw: &Raw) -> Result<Self> {
        let concurrent = matches!(raw.how, How::Concurrent(_));
        let mut config = Config::new();
        config.concurrency_support(concurrent);
        config.wasm_component_model_async(concurrent);
        if raw.how == How::Fresh {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        }
        let engine = Engine::new(&config)?;
        let component = Component::from_file(&engine, &raw.path)?;
        let mut linker = Linker::<State>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        if concurrent {
            wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        }
        linker.define_unknown_imports_as_traps(&component)?;
        let version = if concurrent { "0.3.0-draft" } else { "0.2.0-draft" };
        let name = format!("wasi:pubsub-data/on-message@{version}");
        let interface = component.get_export_index(None, &name).context("no handler")?;
        let interface =
            component.get_export_index(Some(&interface), "on-message").context("no handler")?;
        Ok(Self { pre: linker.instantiate_pre(&component)?, interface })
    }

    async fn instantiate(&self) -> Result<(Store<State>, OnMessage)> {
        let state = State { table: ResourceTable::new(), wasi: WasiCtx::builder().build() };
        let mut store = Store::new(self.pre.engine(), state);
        let instance = self.pre.instantiate_async(&mut store).await?;
        let function = instance.get_typed_func(&mut store, self.interface)?;
        Ok((store, function))
    }

    async fn serial(&self, calls: u64, data: &[u8]) -> Result<()> {
        let (mut store, on_message) = self.instantiate().await?;
        for id in 0..calls {
            let (result,) = on_message.call_async(&mut store, (event(id, data),)).await?;
            result.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        }
        Ok(())
    }

    async fn fresh(&self, calls: u64, data: &[u8]) -> Result<()> {
        for id in 0..calls {
            let (mut store, on_message) = self.instantiate().await?;
            let (result,) = on_message.call_async(&mut store, (event(id, data),)).await?;
            result.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        }
        Ok(())
    }

    async fn concurrent(&self, calls: u64, data: &[u8], at_once: usize) -> Result<()> {
        let (mut store, on_message) = self.instantiate().await?;
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
            .await?
    }
}

/// What makes instances from a pool quick.
fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    pool.linear_memory_keep_resident(256 << 10);
    pool.table_keep_resident(16 << 10);
    pool.pagemap_scan(Enabled::Auto);
    pool
}
