//! The files of a folder, and how they are read.

use crate::facts::{Component, components};
use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use wasi_pubsub::broker::driver::{Connection, Features};
use wasi_pubsub::broker::{BrokerError, Qos};
use wasi_pubsub::config::{
    Absent, BackendSection, Backends, Config, ConnectionSettings, Errors, Key, Request, Section,
};

/// One file, with what belongs to it.
pub(crate) struct Case {
    /// Its name, as messages show it.
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
    pub(crate) components: Option<Vec<Component>>,
    path: PathBuf,
}

impl Case {
    /// Compares what was found with what is expected; `None` where they are equal.
    pub(crate) fn compare(&self, extension: &str, found: &str) -> Option<String> {
        let path = self.path.with_extension(extension);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, found).unwrap();
            return None;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        (found != expected).then(|| {
            format!("--- {}, expected:\n{expected}--- found:\n{found}---", self.path.display())
        })
    }
}

pub(crate) fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config"))
}

/// The cases of `valid` or `invalid`, by name.
pub(crate) fn cases(sort: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder().join(sort)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let facts = std::fs::read_to_string(path.with_extension("components"));
            cases.push(Case {
                name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                text: std::fs::read(&path).unwrap(),
                components: facts.ok().map(|text| components(&text)),
                path,
            });
        }
    }
    assert!(!cases.is_empty());
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// Reads a configuration with the backends of the build and those of the test.
pub(crate) fn load(name: &str, text: &[u8]) -> Result<Config, Errors> {
    wasi_pubsub::config::load(&Request {
        name,
        text,
        dir: &folder().join("files"),
        env: &|name| match name {
            "MQTT_PASSWORD" => Some("geheim".to_owned()),
            "BROKER" => Some("broker.example".to_owned()),
            "BAD_TOPIC" => Some("a/#/geheim".to_owned()),
            _ => None,
        },
        backends: backends(),
    })
}

/// The backends of the build, ones that can do little, everything and something between,
/// and one that is left out.
pub(crate) fn backends() -> Backends<'static> {
    static PRESENT: LazyLock<Vec<&'static dyn BackendSection>> = LazyLock::new(|| {
        let built = wasi_pubsub::backends::backends().present;
        built.iter().copied().chain([&LIMITED as &dyn BackendSection, &CAPABLE, &SINGLE]).collect()
    });
    static ABSENT: LazyLock<Vec<Absent>> = LazyLock::new(|| {
        let left_out = Absent { name: "pubsub.leftout", feature: Some("leftout") };
        let later = Absent { name: "pubsub.later", feature: None };
        wasi_pubsub::backends::backends().absent.iter().copied().chain([left_out, later]).collect()
    });
    Backends { present: &PRESENT, absent: &ABSENT }
}

/// A message without the path of this checkout.
pub(crate) fn portable(text: &str) -> String {
    text.replace(folder().to_str().unwrap(), "FOLDER")
}

/// A backend of the tests alone.
struct Invented {
    name: &'static str,
    features: Features,
}

/// Keeps qos 0 only and has no queues.
static LIMITED: Invented = Invented {
    name: "pubsub.limited",
    features: Features {
        queue: false,
        ordered_queue: false,
        pins_keys: false,
        filters: false,
        qos_max: Qos::AtMostOnce,
        delayed_redelivery: false,
        replay: false,
        group_limits: false,
        listener: false,
        network: true,
    },
};

static CAPABLE: Invented = Invented {
    name: "pubsub.capable",
    features: Features {
        queue: true,
        ordered_queue: true,
        pins_keys: true,
        filters: true,
        qos_max: Qos::EffectivelyOnce,
        delayed_redelivery: true,
        replay: true,
        group_limits: true,
        listener: false,
        network: true,
    },
};

/// Keeps the order of a queue that has one subscriber.
static SINGLE: Invented = Invented {
    name: "pubsub.single",
    features: Features { pins_keys: false, replay: false, group_limits: false, ..CAPABLE.features },
};

#[derive(Debug, PartialEq)]
struct InventedSettings {
    backend: &'static str,
    server: String,
}

impl BackendSection for Invented {
    fn name(&self) -> &'static str {
        self.name
    }

    fn features(&self) -> Features {
        self.features
    }

    fn keys(&self) -> &'static [Key] {
        &[Key { name: "server", help: "which" }]
    }

    fn connection(&self, section: &mut Section<'_>) -> Option<Arc<dyn ConnectionSettings>> {
        let server = section.string("server").map_or_else(String::new, |server| server.value);
        Some(Arc::new(InventedSettings { backend: self.name, server }))
    }
}

impl ConnectionSettings for InventedSettings {
    fn same_as(&self, other: &dyn ConnectionSettings) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }

    fn describe(&self) -> String {
        format!("{} {}", self.backend, self.server)
    }

    fn open(&self, _: &str, _: Option<&str>) -> Result<Arc<dyn Connection>, BrokerError> {
        Err(BrokerError::Unsupported("not in this test".into()))
    }

    fn open_for_tool(&self, _: &str) -> Result<Arc<dyn Connection>, BrokerError> {
        self.open("", None)
    }
}
