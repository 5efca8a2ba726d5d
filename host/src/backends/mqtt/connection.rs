//! A broker: its sessions, opened as they are needed, and their identifiers.

use super::client::{Plan, Purpose};
use super::publisher::{Publisher, publisher};
use super::session::{Choice, Control, Role, Session};
use super::settings::{MqttSettings, SettingsError};
use super::source::subscription;
use super::{client, features};
use crate::broker::driver::{Connection, Features, Source, SubscribeRequest};
use crate::broker::{BrokerError, Event, Qos, Topic};
use crate::mqtt::Mapping;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How much of a subscription's label an identifier shows, in characters.
const LABEL_CHARACTERS_MAX: usize = 40;

/// See the module.
pub(super) struct MqttConnection {
    settings: Arc<MqttSettings>,
    tls: Option<Arc<rustls::ClientConfig>>,
    mapping: Arc<Mapping>,
    choice: Arc<Choice>,
    client_id_base: String,
    state: Mutex<State>,
}

struct State {
    random: fastrand::Rng,
    /// The subscription whose session bears the configured identifier.
    first_label: Option<String>,
    sessions: Vec<Running>,
    publisher: Option<Publisher>,
    closed: bool,
}

/// A session's task, which ends with this.
struct Running {
    client_id: String,
    control: Arc<Control>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MqttConnection {
    /// Reads the files that the settings name; connects to nothing yet. A client
    /// identifier that they name is for the session of the subscription of this
    /// label; `None`: of whichever is opened first.
    pub(super) fn new(
        settings: MqttSettings,
        client_id_base: String,
        first_label: Option<String>,
        seed: u64,
    ) -> Result<Self, SettingsError> {
        settings.validate()?;
        let mut random = fastrand::Rng::with_seed(seed);
        let source = settings.endpoint.to_string();
        Ok(Self {
            tls: client::tls_configuration(&settings)?,
            mapping: Arc::new(Mapping::new(settings.format, source, random.u64(..))),
            choice: Arc::new(Choice::new(settings.version)),
            settings: Arc::new(settings),
            client_id_base,
            state: Mutex::new(State {
                random,
                first_label,
                sessions: Vec::new(),
                publisher: None,
                closed: false,
            }),
        })
    }

    fn start<R: Role>(
        &self,
        state: &mut State,
        client_id: String,
        purpose: Purpose,
        control: Arc<Control>,
        role: R,
    ) -> Result<(), BrokerError> {
        if state.closed {
            return Err(closed());
        }
        let plan = Plan {
            settings: self.settings.clone(),
            tls: self.tls.clone(),
            client_id: client_id.clone(),
            control: control.link.clone(),
            purpose,
        };
        let session = Session {
            plan,
            role,
            control: control.clone(),
            choice: self.choice.clone(),
            random: state.random.fork(),
        };
        state.sessions.retain(|running| !running.task.is_finished());
        let task = tokio::spawn(session.run());
        state.sessions.push(Running { client_id, control, task });
        Ok(())
    }

    fn publisher(&self) -> Result<Publisher, BrokerError> {
        let mut state = self.state.lock();
        if let Some(publisher) = &state.publisher {
            return Ok(publisher.clone());
        }
        let control = Arc::new(Control::default());
        let (role, publisher) = publisher(self.mapping.clone(), control.clone());
        let client_id = format!("{}-pub", self.base());
        self.start(&mut state, client_id, Purpose::Publish, control, role)?;
        state.publisher = Some(publisher.clone());
        Ok(publisher)
    }

    fn base(&self) -> &str {
        self.settings.client_id.as_deref().unwrap_or(&self.client_id_base)
    }

    /// The identifier of a subscription's session: the same after a restart.
    fn client_id(&self, label: &str) -> String {
        if let Some(exact) = &self.settings.client_id {
            let mut state = self.state.lock();
            if state.first_label.get_or_insert_with(|| label.to_owned()) == label {
                return exact.clone();
            }
        }
        suffixed(self.base(), label)
    }

    /// Ends a session under this identifier that is still there: a second one
    /// of the same subscription would fight with it.
    async fn end_earlier(&self, client_id: &str) {
        let earlier = {
            let mut state = self.state.lock();
            let position = state.sessions.iter().position(|r| r.client_id == client_id);
            position.map(|position| state.sessions.swap_remove(position))
        };
        if let Some(earlier) = earlier {
            end(earlier, Instant::now() + Duration::from_secs(1)).await;
        }
    }
}

fn closed() -> BrokerError {
    BrokerError::Closed("the connection was closed".to_owned())
}

/// Refuses what would only make the broker close the connection.
fn check_filter(request: &SubscribeRequest) -> Result<(), BrokerError> {
    if !crate::mqtt::is_portable(request.filter.as_str()) {
        let text = format!("`{}` contains a control character", request.filter);
        return Err(BrokerError::InvalidTopic(text.escape_debug().to_string()));
    }
    let Some(group) = &request.group else { return Ok(()) };
    if group.is_empty() || group.contains(['/', '+', '#']) || !crate::mqtt::is_portable(group) {
        let text = format!("the group `{}` is no name: `/`, `+` and `#` are not allowed", group);
        return Err(BrokerError::InvalidTopic(text.escape_debug().to_string()));
    }
    Ok(())
}

async fn end(mut running: Running, deadline: Instant) {
    running.control.close();
    let _ = tokio::time::timeout_at(deadline, &mut running.task).await;
}

/// Readable, and different for labels that only look alike.
fn suffixed(base: &str, label: &str) -> String {
    let readable: String = label
        .chars()
        .take(LABEL_CHARACTERS_MAX)
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    // FNV-1a: it never changes, as the standard library's hashes may.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in label.as_bytes() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{base}-{readable}-{:08x}", (hash ^ hash >> 32) as u32)
}

/// Ends a session whose subscription was not wanted in the end.
struct Opening<'a> {
    connection: &'a MqttConnection,
    client_id: Option<String>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let Some(client_id) = self.client_id.take() {
            let mut state = self.connection.state.lock();
            state.sessions.retain(|running| running.client_id != client_id);
        }
    }
}

#[async_trait]
impl Connection for MqttConnection {
    fn features(&self) -> Features {
        features()
    }

    async fn publish(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        _: Option<&str>,
    ) -> Result<(), BrokerError> {
        self.publisher()?.publish(topic, &event, qos).await
    }

    /// A dead letter is for whoever collects it: it is not retained, even where
    /// its event was.
    async fn publish_dead_letter(
        &self,
        topic: &Topic,
        mut event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        if crate::mqtt::is_retained(&event) {
            crate::mqtt::forget_retained(Arc::make_mut(&mut event));
        }
        self.publish(topic, event, qos, from).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        check_filter(&request)?;
        let client_id = self.client_id(&request.label);
        self.end_earlier(&client_id).await;
        let control = Arc::new(Control::default());
        let (role, source, opened) = subscription(
            &request,
            self.mapping.clone(),
            self.settings.packet_bytes_max,
            self.settings.strict_acks,
            control.clone(),
        );
        let receive_max = u16::try_from(request.max_in_flight).unwrap_or(u16::MAX);
        let purpose = Purpose::Subscribe { receive_max };
        self.start(&mut self.state.lock(), client_id.clone(), purpose, control, role)?;
        let mut opening = Opening { connection: self, client_id: Some(client_id) };
        let result = opened.await.unwrap_or_else(|_| Err(closed()));
        if result.is_ok() {
            opening.client_id = None;
        }
        result.map(|()| Arc::new(source) as Arc<dyn Source>)
    }

    async fn close(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let sessions = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.sessions)
        };
        for running in &sessions {
            running.control.close();
        }
        for running in sessions {
            end(running, deadline).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn connection(first_label: Option<&str>) -> MqttConnection {
        let mut settings = MqttSettings::new("tcp://localhost").unwrap();
        settings.client_id = Some("exact".to_owned());
        MqttConnection::new(settings, "base".into(), first_label.map(str::to_owned), 1).unwrap()
    }

    #[test]
    fn the_exact_identifier_is_of_the_first_one_configured_whichever_opens_first() {
        let decided = connection(Some("one"));
        assert_eq!(decided.client_id("two"), suffixed("exact", "two"));
        assert_eq!(decided.client_id("one"), "exact");
        assert_eq!(decided.client_id("two"), suffixed("exact", "two"));
        let open = connection(None);
        assert_eq!(open.client_id("two"), "exact");
        assert_eq!(open.client_id("one"), suffixed("exact", "one"));
    }

    #[test]
    fn identifiers_stay_the_same_and_differ_for_labels_that_look_alike() {
        // It names sessions that the broker keeps: it must never change.
        assert_eq!(suffixed("host-1", "billing orders/#"), "host-1-billing_orders__-433819d2");
        assert_ne!(suffixed("h", "a/+"), suffixed("h", "a/#"));
        let long = "x".repeat(1000);
        assert!(suffixed("h", &long).len() < 60);
    }
}
