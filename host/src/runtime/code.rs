//! Loading components, and saying in words why a file is none.

use super::cache::CodeCache;
use super::component::InstanceMode;
use super::engine::{EngineKind, Host, Part};
use super::state::State;
use crate::capability::{HandlerExport, Interfaces, inspect};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;
use wasmtime::component::{Component, InstancePre};

/// A compiled component.
#[derive(Clone)]
pub struct Code {
    component: Component,
    kind: EngineKind,
    interfaces: Interfaces,
    /// What it was made for.
    mode: InstanceMode,
    /// Of the bytes that it was made from.
    hash: [u8; 32],
}

/// Why a file cannot be used as a component. Says the reason; [`help`](Self::help)
/// says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// It is not WebAssembly at all.
    #[error("this is no WebAssembly file: it begins with {start}")]
    NotWasm {
        /// Its first bytes, readable.
        start: String,
    },
    /// It is a core module.
    #[error("this is a core WebAssembly module, not a component")]
    CoreModule,
    /// It is a component, and does not validate or compile.
    #[error("it is not valid: {0}")]
    Invalid(String),
    /// An interface that the host has is imported in a way that does not fit.
    #[error("it does not fit the host's interfaces: {0}")]
    Mismatch(String),
}

impl LoadError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NotWasm { .. } => Some(
                "build a component with `cargo build --target wasm32-wasip2` and name the .wasm file",
            ),
            Self::CoreModule => Some(
                "build for the target wasm32-wasip2, or make it a component with `wasm-tools component new`",
            ),
            Self::Mismatch(_) => Some(
                "build it with the WIT files of this version of wasi-pubsub; `wasi-pubsub inspect` \
                 shows what it imports",
            ),
            Self::Unreadable(_) | Self::Invalid(_) => None,
        }
    }
}

/// The first bytes of every WebAssembly binary, and of every component after them.
const MAGIC: &[u8] = b"\0asm";
const COMPONENT_LAYER: &[u8] = &[0x0d, 0x00, 0x01, 0x00];

impl Code {
    /// Reads and compiles a component, or takes its compiled form from the cache,
    /// for the cheapest engine that can run it. It need not fit this host: see
    /// [`check`](Self::check).
    ///
    /// # Errors
    /// Where the file is no component: see [`LoadError`].
    pub fn load(
        host: &Host,
        cache: Option<&CodeCache>,
        path: &Path,
        mode: InstanceMode,
    ) -> Result<Self, LoadError> {
        Self::load_among(host, cache, path, mode, [])
    }

    /// As [`load`](Self::load), unless the file has what one of these was made
    /// from: then it is that one, and takes no memory of its own.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_among<'a>(
        host: &Host,
        cache: Option<&CodeCache>,
        path: &Path,
        mode: InstanceMode,
        known: impl IntoIterator<Item = &'a Self>,
    ) -> Result<Self, LoadError> {
        let bytes = std::fs::read(path).map_err(LoadError::Unreadable)?;
        let hash = Sha256::digest(&bytes).into();
        if let Some(same) = known.into_iter().find(|code| (code.mode, code.hash) == (mode, hash)) {
            return Ok(same.clone());
        }
        check_kind(&bytes)?;
        let mut refused = None;
        for kind in EngineKind::candidates(mode) {
            match Self::compile(host, cache, &bytes, kind, (mode, hash)) {
                Ok(Some(code)) => return Ok(code),
                Ok(None) => {}
                Err(error) => refused = Some(error),
            }
        }
        // The last candidate takes the most, and says best what is wrong.
        let reason = refused.map_or_else(String::new, |error| format!("{error:#}"));
        Err(LoadError::Invalid(reason))
    }

    /// `None` where this kind of engine cannot link what the component imports.
    fn compile(
        host: &Host,
        cache: Option<&CodeCache>,
        bytes: &[u8],
        kind: EngineKind,
        origin: (InstanceMode, [u8; 32]),
    ) -> wasmtime::Result<Option<Self>> {
        let Part { engine, .. } = host.part(kind)?;
        let component = match cache {
            Some(cache) => cache.load(engine, bytes)?,
            None => Component::new(engine, bytes)?,
        };
        let interfaces = inspect(engine, &component);
        let fits = kind.concurrent || !interfaces.is_asynchronous();
        let (mode, hash) = origin;
        Ok(fits.then_some(Self { component, kind, interfaces, mode, hash }))
    }

    /// Whether what the component imports can be linked, and what it exports can
    /// be called. What the host does not have at all is in [`Interfaces::foreign`].
    ///
    /// # Errors
    /// [`LoadError::Mismatch`].
    pub fn check(&self, host: &Host) -> Result<(), LoadError> {
        self.prepare(host)
            .and_then(|_| HandlerExport::check(&self.component))
            .map_err(|error| LoadError::Mismatch(format!("{error:#}")))
    }

    /// Whether both were made from the same bytes.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.hash == other.hash
    }

    /// What it imports and exports.
    #[must_use]
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Links it.
    pub(super) fn prepare(&self, host: &Host) -> wasmtime::Result<InstancePre<State>> {
        host.part(self.kind)?.linker.instantiate_pre(&self.component)
    }

    /// The places of the pool that its instances are made in, if there is one.
    pub(super) fn places(&self, host: &Host) -> wasmtime::Result<Option<Arc<Semaphore>>> {
        Ok(host.part(self.kind)?.places.clone())
    }

    pub(super) fn component(&self) -> &Component {
        &self.component
    }
}

fn check_kind(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.starts_with(MAGIC) {
        return match bytes.get(4..8) {
            Some(COMPONENT_LAYER) => Ok(()),
            _ => Err(LoadError::CoreModule),
        };
    }
    // The text format is accepted, as wasmtime does; its parser says what is wrong.
    if std::str::from_utf8(bytes).is_ok_and(|text| text.trim_start().starts_with("(component")) {
        return Ok(());
    }
    let start: Vec<u8> = bytes.iter().take(8).copied().collect();
    let start = match start.as_slice() {
        [] => "nothing, as it is empty".into(),
        start => format!("`{}`", start.escape_ascii()),
    };
    Err(LoadError::NotWasm { start })
}
