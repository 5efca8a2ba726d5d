//! The engine that all components share.

use super::state::State;
use crate::capability;
use std::time::Duration;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, Result};

/// How often running guests are asked to let others run. Deadlines of guests
/// that spin are as exact as this.
pub(super) const EPOCH_TICK: Duration = Duration::from_millis(10);

/// The engine and everything that components can import. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    engine: Engine,
    linker: Linker<State>,
}

impl Host {
    /// An engine with both versions of WASI and of our interfaces linked. Starts
    /// the thread that interrupts guests; it ends with the last clone.
    ///
    /// # Errors
    /// Where this machine cannot run the engine.
    pub fn new() -> Result<Self> {
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        config.epoch_interruption(true);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        capability::add_to_linker(&mut linker)?;
        tick(&engine)?;
        Ok(Self { engine, linker })
    }

    /// The engine, for reading what a component imports and exports.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn linker(&self) -> &Linker<State> {
        &self.linker
    }
}

fn tick(engine: &Engine) -> Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(EPOCH_TICK);
        }
    })?;
    Ok(())
}
