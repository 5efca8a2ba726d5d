//! Which store a command is about, and how it is opened.

use super::Which;
use crate::backends::disk::{DiskSettings, DiskStorage, MAX_BYTES, SUBSCRIPTION_EXPIRY};
use crate::broker::RetentionRule;
use crate::broker::driver::Connection;
use crate::builtin::BuiltIn;
use crate::cli::failure::Failure;
use crate::cli::{files, plan};
use crate::config::{BrokerPlan, ConnectionSettings};
use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The backend whose brokers have a store.
const BACKEND: &str = "pubsub.disk";
/// How long the last changes may take.
const CLOSE_GRACE: Duration = Duration::from_secs(10);

/// A store that is there.
pub(super) struct Store {
    pub(super) settings: DiskSettings,
    /// What its topics remember, where a configuration says so.
    pub(super) retention: Option<Vec<RetentionRule>>,
}

impl Store {
    /// The one that the arguments or the configuration name.
    pub(super) fn find(which: &Which) -> Result<Self, Failure> {
        let store = match &which.path {
            Some(path) => Self { settings: settings(path.clone()), retention: None },
            None => Self::configured(which)?,
        };
        let path = &store.settings.path;
        // What is not there would be made.
        match std::fs::metadata(path) {
            Ok(file) if file.is_file() => Ok(store),
            Ok(_) => Err(Failure::input(format!("`{}` is not a file", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let hint = "`wasi-pubsub run` makes it when it first runs";
                let path = path.display();
                Err(Failure::input(format!("there is no store at `{path}`\n  help: {hint}")))
            }
            Err(error) => Err(Failure::input(format!("{}: {error}", path.display()))),
        }
    }

    fn configured(which: &Which) -> Result<Self, Failure> {
        let Some(file) = files::config_file(&which.config) else {
            return Err(Failure::input(
                "there is no capabilities.toml here, which names the store\n  \
                 help: --config FILE, or --path with the store's own file",
            ));
        };
        let mut brokers = plan::read_config(&file)?.brokers();
        if let Some(id) = &which.broker {
            let ids: Vec<_> = brokers.iter().map(|broker| format!("`{}`", broker.id)).collect();
            brokers.retain(|broker| broker.id == *id);
            if brokers.is_empty() {
                return Err(Failure::input(format!(
                    "there is no capability `{id}`: there is {}",
                    ids.join(", ")
                )));
            }
        }
        let with_store: Vec<&BrokerPlan> =
            brokers.iter().filter(|broker| broker.backend == BACKEND).collect();
        match (with_store.as_slice(), brokers.first()) {
            ([one], _) => Ok(Self::of(one)),
            ([], first) => Err(first.map_or_else(
                || Failure::input("the configuration names no broker"),
                without_store,
            )),
            (several, _) => Err(Failure::input(format!(
                "several brokers have a store: say which one with --broker or --path\n  {}",
                several
                    .iter()
                    .map(|broker| format!("{}: {}", broker.id, broker.connection.describe()))
                    .collect::<Vec<_>>()
                    .join("\n  ")
            ))),
        }
    }

    fn of(broker: &BrokerPlan) -> Self {
        let connection: &dyn ConnectionSettings = &*broker.connection;
        let found = (connection as &dyn Any).downcast_ref::<DiskSettings>();
        // The name of the backend says which settings these are.
        let settings = found.cloned().unwrap_or_else(|| settings(PathBuf::new()));
        Self { settings, retention: Some(broker.retention.clone()) }
    }

    /// To look at it, also beside a host that has it.
    pub(super) fn read_only(&self) -> Result<Arc<DiskStorage>, Failure> {
        let opened = DiskStorage::open_read_only(&self.settings.path);
        opened.map(Arc::new).map_err(|error| Failure::input(error.to_string()))
    }

    /// To change it. Nothing is deleted that the configuration wants to be kept.
    pub(super) fn open(&self) -> Result<Opened, Failure> {
        let broker = self.settings.open_broker();
        let broker = broker.map_err(|error| Failure::input(error.to_string()))?;
        if let Some(rules) = &self.retention {
            broker.set_retention(rules.clone());
        }
        Ok(Opened { broker })
    }
}

/// Those of a store of which only the file is known.
fn settings(path: PathBuf) -> DiskSettings {
    DiskSettings { path, max_bytes: MAX_BYTES, subscription_expiry: SUBSCRIPTION_EXPIRY }
}

fn without_store(broker: &BrokerPlan) -> Failure {
    let BrokerPlan { id, backend, .. } = broker;
    let called = if id == backend { String::new() } else { format!(" `{id}`") };
    let why = match broker.features.network {
        true => "whose server has tools of its own",
        false => "which keeps nothing that another process could look at",
    };
    Failure::input(format!(
        "the broker{called} is {backend}, {why}\n  help: `wasi-pubsub broker` is for {BACKEND}"
    ))
}

/// A store that nobody else has.
pub(super) struct Opened {
    pub(super) broker: Arc<BuiltIn>,
}

impl Opened {
    /// Waits until what was changed is on the disk.
    pub(super) async fn close(self) {
        self.broker.close(CLOSE_GRACE).await;
    }
}
