//! The engines that components run in.

use super::component::InstanceMode;
use super::state::State;
use crate::capability::{self, Version};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig,
    Result,
};

/// How often running guests are asked to let others run. Deadlines of guests
/// that spin are as exact as this.
pub(super) const EPOCH_TICK: Duration = Duration::from_millis(10);

/// How many instances of components with `instance = "fresh"` there may be at a
/// time in one engine, over all components. Beyond, an event waits for its own.
const POOLED_INSTANCES_MAX: u32 = 1_000;
/// Of how many core instances, memories and tables each may be made, on the
/// average.
const POOLED_PARTS: u32 = 8;
/// How much of a memory that was used stays with its place in the pool, wiped, so
/// that the next instance there need not fault it in again.
const MEMORY_KEPT_BYTES: usize = 256 << 10;
/// The same of a table.
const TABLE_KEPT_BYTES: usize = 16 << 10;

/// How the instances of an engine are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EngineKind {
    /// Whether calls can be asynchronous and many at once. Costs each call
    /// something, so that what only has synchronous functions goes without.
    pub(super) concurrent: bool,
    /// Whether memory comes from a pool, so that instances are quick to make.
    pub(super) pooled: bool,
}

impl EngineKind {
    /// What may run a component, the cheapest first. Which of them can is known
    /// once it is compiled.
    pub(super) fn candidates(mode: InstanceMode) -> impl Iterator<Item = Self> {
        let pooled = match mode {
            InstanceMode::Reuse => &[false][..],
            // Where it does not fit the pool, an instance is slower to make.
            InstanceMode::Fresh => &[true, false],
        };
        pooled
            .iter()
            .flat_map(|&pooled| [false, true].map(|concurrent| Self { concurrent, pooled }))
    }

    fn index(self) -> usize {
        usize::from(self.concurrent) | usize::from(self.pooled) << 1
    }
}

/// The engines, each made when it is first needed, and everything that components
/// can import. Cheap to clone.
#[derive(Clone)]
pub struct Host(Arc<Shared>);

struct Shared {
    parts: [OnceLock<Part>; 4],
    making: Mutex<()>,
    /// For the thread that interrupts guests, which ends with the last clone.
    ticking: Arc<Mutex<Vec<EngineWeak>>>,
}

/// One engine, and what can be imported there.
pub(super) struct Part {
    pub(super) engine: Engine,
    pub(super) linker: Linker<State>,
    /// For each instance that the pool has room for, one permit.
    pub(super) places: Option<Arc<Semaphore>>,
}

impl Host {
    /// With both versions of WASI and of our interfaces. Starts the thread that
    /// interrupts guests.
    ///
    /// # Errors
    /// Where this machine cannot run an engine.
    pub fn new() -> Result<Self> {
        let ticking = Arc::<Mutex<Vec<EngineWeak>>>::default();
        let host = Self(Arc::new(Shared {
            parts: Default::default(),
            making: Mutex::new(()),
            ticking: Arc::clone(&ticking),
        }));
        host.part(EngineKind { concurrent: true, pooled: false })?;
        let ticking = Arc::downgrade(&ticking);
        std::thread::Builder::new().name("epoch".into()).spawn(move || {
            while let Some(ticking) = ticking.upgrade() {
                for engine in ticking.lock().iter().filter_map(EngineWeak::upgrade) {
                    engine.increment_epoch();
                }
                drop(ticking);
                std::thread::sleep(EPOCH_TICK);
            }
        })?;
        Ok(host)
    }

    /// The engine of a kind.
    ///
    /// # Errors
    /// Where this machine cannot run it: a pool needs much address space.
    pub(super) fn part(&self, kind: EngineKind) -> Result<&Part> {
        let place = &self.0.parts[kind.index()];
        if let Some(part) = place.get() {
            return Ok(part);
        }
        let _one_at_a_time = self.0.making.lock();
        if place.get().is_none() {
            let part = Part::new(kind)?;
            self.0.ticking.lock().push(part.engine.weak());
            // Nobody else is here.
            let _ = place.set(part);
        }
        place.get().ok_or_else(|| wasmtime::format_err!("the engine is gone"))
    }
}

impl Part {
    fn new(kind: EngineKind) -> Result<Self> {
        let mut config = Config::new();
        config.concurrency_support(kind.concurrent);
        config.wasm_component_model_async(kind.concurrent);
        config.epoch_interruption(true);
        if kind.pooled {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        }
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        capability::add_to_linker(&mut linker, Version::V0_2)?;
        if kind.concurrent {
            wasmtime_wasi::p3::add_to_linker(&mut linker)?;
            capability::add_to_linker(&mut linker, Version::V0_3)?;
        }
        let places = kind.pooled.then(|| Arc::new(Semaphore::new(POOLED_INSTANCES_MAX as usize)));
        Ok(Self { engine, linker, places })
    }
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(POOLED_INSTANCES_MAX);
    pool.total_core_instances(POOLED_INSTANCES_MAX * POOLED_PARTS);
    pool.total_memories(POOLED_INSTANCES_MAX * 2);
    pool.total_tables(POOLED_INSTANCES_MAX * POOLED_PARTS);
    pool.total_stacks(POOLED_INSTANCES_MAX);
    // Together they make an instance about three times as quick; each alone does
    // little.
    pool.linear_memory_keep_resident(MEMORY_KEPT_BYTES);
    pool.table_keep_resident(TABLE_KEPT_BYTES);
    pool.pagemap_scan(Enabled::Auto);
    pool
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_engine_works_and_is_made_once() {
        let host = Host::new().unwrap();
        let kinds = EngineKind::candidates(InstanceMode::Fresh);
        for kind in kinds.chain(EngineKind::candidates(InstanceMode::Reuse)) {
            let engine = &host.part(kind).unwrap().engine;
            assert!(Engine::same(engine, &host.part(kind).unwrap().engine));
        }
        assert_eq!(host.0.ticking.lock().len(), 4);
    }
}
