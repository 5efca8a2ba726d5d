//! What a component imports and exports.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

/// The versions of `wasi:pubsub-data` that are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `0.2.0-draft`.
    V0_2,
    /// `0.3.0-draft`.
    V0_3,
}

impl Version {
    /// The version as it stands in an interface's name.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::V0_2 => "0.2.0-draft",
            Self::V0_3 => "0.3.0-draft",
        }
    }
}

/// The full name of an interface of ours.
#[must_use]
pub(super) fn interface_name(interface: &str, version: Version) -> String {
    format!("wasi:pubsub-data/{interface}@{}", version.text())
}

/// What a component imports and exports, by name.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    /// Every import: an interface with its version, or a plain name.
    pub imports: Vec<String>,
    /// Every export, likewise.
    pub exports: Vec<String>,
    /// The functions of ours that it imports: `publish`, `receive`, `stream`, `pull`.
    pub functions: Vec<String>,
    /// The versions of `on-message` that it exports.
    pub handlers: Vec<Version>,
    /// Whether it has a `main`: it exports `wasi:cli/run`.
    pub is_command: bool,
    /// Imports that the host does not have.
    pub foreign: Vec<String>,
}

impl Interfaces {
    /// Whether it takes part in anything of the component model's asynchronous
    /// half: an interface of a version 0.3.
    #[must_use]
    pub fn is_asynchronous(&self) -> bool {
        self.imports.iter().chain(&self.exports).any(|name| name.contains("@0.3"))
    }

    /// Whether it imports a function of ours, in any version.
    #[must_use]
    pub fn uses(&self, function: &str) -> bool {
        self.functions.iter().any(|name| name == function)
    }
}

/// The interfaces of WASI that are linked. Versions are compared by wasmtime.
const WASI_PACKAGES: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Reads what a component imports and exports.
#[must_use]
pub fn inspect(engine: &Engine, component: &Component) -> Interfaces {
    let ty = component.component_type();
    let mut found = Interfaces::default();
    for (name, item) in ty.imports(engine) {
        found.imports.push(name.to_owned());
        if is_ours(name) {
            if let ComponentItem::ComponentInstance(instance) = item.ty {
                for (function, _) in instance.exports(engine) {
                    if ["publish", "receive", "stream", "pull"].contains(&function)
                        && !found.uses(function)
                    {
                        found.functions.push(function.to_owned());
                    }
                }
            }
        } else if !WASI_PACKAGES.iter().any(|package| name.starts_with(package)) {
            found.foreign.push(name.to_owned());
        }
    }
    for (name, _) in ty.exports(engine) {
        found.exports.push(name.to_owned());
        found.is_command |= name.starts_with("wasi:cli/run@");
        for version in [Version::V0_2, Version::V0_3] {
            if name == interface_name("on-message", version) {
                found.handlers.push(version);
            }
        }
    }
    found.handlers.sort_unstable();
    found
}

/// Whether an import is one of the interfaces that are bound, in a bound version.
fn is_ours(name: &str) -> bool {
    [Version::V0_2, Version::V0_3].iter().any(|&version| {
        ["types", "basic", "pull"]
            .iter()
            .any(|interface| name == interface_name(interface, version))
    })
}
