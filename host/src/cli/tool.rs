//! What `publish` and `subscribe` share: the way to the broker that the
//! configuration names.

use super::failure::Failure;
use super::{ConfigArgs, files, plan};
use crate::broker::driver::Connection;
use crate::broker::{Broker, BrokerError, Limits, Qos};
use crate::config::{Binding, BrokerPlan, Capability, Config, ConnectionSettings, ListenConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Opens the broker that a topic or filter goes to, and returns it with the topic as
/// it is called there. `ID:TOPIC` names a capability; without it, there must be one
/// only. It is one of the network, or one that no other process has.
pub(super) fn open(args: &ConfigArgs, topic: &str) -> Result<(Arc<Broker>, String), Failure> {
    let Some(path) = files::config_file(args) else {
        return Err(Failure::input(
            "there is no capabilities.toml here, and the built-in broker cannot be reached by \
             another process\n  help: name a configuration with a network broker: --config FILE",
        ));
    };
    let config = plan::read_config(&path)?;
    let (capability, topic) = choose(&config, topic)?;
    let Some(binding) = capability.bindings.first() else {
        return Err(Failure::input(format!(
            "the capability `{}` has no [[capability.config]], which says where its broker is",
            capability.id
        )));
    };
    let same = |plan: &BrokerPlan| plan.connection.same_as(&*binding.connection);
    let plan = config.brokers().into_iter().find(same);
    let listen = plan.as_ref().and_then(|plan| plan.listen.as_deref());
    let connection = connect(&path, &*binding.connection, listen);
    let connection =
        connection.map_err(|error| Failure::input(format!("broker {}: {error}", capability.id)))?;
    let limits = Limits { event_bytes_max: config.max_event_size, ..Limits::default() };
    let broker = Broker::new(capability.id.clone(), connection, limits);
    if let Some(plan) = plan {
        broker.set_retention(plan.retention);
    }
    Ok((broker, topic))
}

/// Connects to a broker: of the network, or one that listens in a host that runs, or
/// one that no other process has.
fn connect(
    config: &Path,
    settings: &dyn ConnectionSettings,
    listen: Option<&ListenConfig>,
) -> Result<Arc<dyn Connection>, BrokerError> {
    let client_id = files::random_client_id();
    #[cfg(all(feature = "listener", feature = "mqtt"))]
    if let Some(listen) = listen {
        use super::listening::{is_running, reach};
        if !settings.outlives_process() || is_running(config, settings) {
            return reach(config, settings, listen, &client_id);
        }
        // Who has it may have been started by somebody else.
        let opened = settings.open_for_tool(&client_id);
        return opened
            .or_else(|error| reach(config, settings, listen, &client_id).map_err(|_| error));
    }
    let _ = (config, listen);
    settings.open_for_tool(&client_id)
}

/// Whether another process than `run` can use the broker.
fn is_reachable(config: &Config, capability: &Capability) -> bool {
    let reachable = |binding: &Binding| {
        let same = |plan: &BrokerPlan| {
            plan.listen.is_some() && plan.connection.same_as(&*binding.connection)
        };
        binding.connection.outlives_process() || config.brokers().iter().any(same)
    };
    capability.features.network || capability.bindings.iter().any(reachable)
}

fn choose<'a>(config: &'a Config, topic: &str) -> Result<(&'a Capability, String), Failure> {
    let reachable = |capability: &&Capability| is_reachable(config, capability);
    if let Some((id, rest)) = topic.split_once(':')
        && let Some(named) = config.capabilities.iter().find(|capability| capability.id == id)
    {
        if !is_reachable(config, named) {
            return Err(unreachable(&named.id, named.backend));
        }
        return Ok((named, rest.to_owned()));
    }
    let mut candidates = config.capabilities.iter().filter(reachable);
    match (candidates.next(), candidates.next()) {
        (Some(one), None) => Ok((one, topic.to_owned())),
        (Some(_), Some(_)) => {
            let ids: Vec<_> = config
                .capabilities
                .iter()
                .filter(reachable)
                .map(|c| format!("{}:{topic}", c.id))
                .collect();
            Err(Failure::input(format!(
                "several brokers are configured: say which one, as in {}",
                ids.join(" or ")
            )))
        }
        (None, _) => Err(match config.capabilities.first() {
            Some(capability) => unreachable(&capability.id, capability.backend),
            None => Failure::input("the configuration names no broker"),
        }),
    }
}

fn unreachable(id: &str, backend: &str) -> Failure {
    let called = if id == backend { String::new() } else { format!(" `{id}`") };
    Failure::input(format!(
        "the broker{called} is {backend}, which lives inside `wasi-pubsub run`: no other process can \
         reach it\n  help: give it an address, as in listen = [\"mqtt://127.0.0.1:1883\"], or configure another broker, such \
         as pubsub.disk or pubsub.mqtt"
    ))
}

pub(super) fn parse_qos(text: &str) -> Result<Qos, String> {
    text.parse().ok().and_then(Qos::from_level).ok_or_else(|| "expected 0, 1 or 2".into())
}

pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds =
        text.parse().map_err(|_| "expected a number of seconds, such as 5 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| "expected a number of seconds, not below 0".into())
}
