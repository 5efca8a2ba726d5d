//! MQTT 5.

use super::{
    CONNECT_TIME_MAX, Event, Failure, PROTOCOL_PACKET_BYTES_MAX, PUBLISHES_IN_FLIGHT_MAX, Packet,
    Plan, Properties, Protocol, Published, Purpose, READ_BATCH, REQUEST_BATCH, Welcome, broker_url,
    causes, dial, keep_alive_seconds,
};
use crate::backends::mqtt::settings::Endpoint;
use crate::broker::{BrokerError, Qos};
use rumqttc::mqttbytes::QoS;
use rumqttc::{
    AckMode, AsyncClient, Broker, ClientError, ConnAck, ConnectProperties, ConnectReturnCode,
    ConnectionError, DisconnectProperties, DisconnectReasonCode, EventLoop,
    IncomingPacketSizeLimit, ManualAck, MqttOptions, Outgoing, PersistedAckMode, PersistedSession,
    PubAck, PubAckReason, PubCompReason, PubRec, PubRecReason, Publish, PublishNotice,
    PublishNoticeError, PublishOptions, PublishProperties, PublishResult, RetainForwardRule,
    SessionStore, SessionStoreError, SessionStoreKey, StateError, SubscribeFilter,
    SubscribeReasonCode, TlsConfiguration, Transport,
};
use std::future::{Future, ready};
use std::pin::Pin;

pub(in super::super) struct Client {
    client: AsyncClient,
    events: EventLoop,
    connected: bool,
    clean_session: bool,
}

impl Client {
    pub(super) fn new(plan: &Plan, fresh: bool) -> Self {
        let clean_session = plan.settings.clean_session;
        let builder = AsyncClient::builder(options(plan, fresh || clean_session));
        let builder = match plan.purpose {
            // Acknowledgements are bounded by what the broker may send.
            Purpose::Subscribe { .. } => builder.unbounded(),
            Purpose::Publish => builder.capacity(usize::from(PUBLISHES_IN_FLIGHT_MAX)),
        };
        let (client, events) = builder.build();
        Self { client, events, connected: false, clean_session }
    }

    pub(super) fn handle(&self) -> AsyncClient {
        self.client.clone()
    }

    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        match self.events.poll().await {
            Ok(rumqttc::Event::Incoming(packet)) => Ok(self.incoming(packet)),
            Ok(rumqttc::Event::Outgoing(Outgoing::PubAck(id) | Outgoing::PubRec(id))) => {
                Ok(Event::AckSent(id))
            }
            Ok(rumqttc::Event::Outgoing(Outgoing::Disconnect)) => Ok(Event::Disconnected),
            Ok(_) => Ok(Event::Other),
            Err(error) => {
                let was_connected = std::mem::take(&mut self.connected);
                Err(failure(error, was_connected))
            }
        }
    }

    fn incoming(&mut self, packet: rumqttc::Packet) -> Event {
        match packet {
            rumqttc::Packet::ConnAck(ack) => {
                self.connected = true;
                // The session is ours from here on, and continued from now on.
                self.events.options.clear_session_store();
                self.events.options.set_clean_start(self.clean_session);
                Event::Connected(welcome(&ack))
            }
            rumqttc::Packet::Publish(publish) => Event::Arrived(arrived(publish)),
            rumqttc::Packet::PubRel(release) => Event::Released(release.pkid),
            rumqttc::Packet::PubAck(_) | rumqttc::Packet::PubComp(_) => Event::Confirmed,
            rumqttc::Packet::SubAck(ack) => {
                let reason = ack.properties.and_then(|properties| properties.reason_string);
                Event::Subscribed(granted(ack.return_codes.first(), reason))
            }
            _ => Event::Other,
        }
    }
}

fn options(plan: &Plan, clean_start: bool) -> MqttOptions {
    let settings = &plan.settings;
    let broker = match &settings.endpoint {
        // TLS is added below: the library wants the plain scheme.
        endpoint @ Endpoint::WebSocket { .. } => {
            Broker::websocket(broker_url(endpoint).replacen("wss:", "ws:", 1))
                .unwrap_or_else(|_| Broker::tcp("", 0))
        }
        endpoint => Broker::tcp(broker_url(endpoint), 1),
    };
    let mut options = MqttOptions::new(plan.client_id.clone(), broker);
    if let Some(tls) = &plan.tls {
        let tls = TlsConfiguration::Rustls(tls.clone());
        options.set_transport(match &settings.endpoint {
            Endpoint::WebSocket { .. } => Transport::wss_with_config(tls),
            _ => Transport::tls_with_config(tls),
        });
    }
    if let Some(username) = &settings.username {
        match &settings.password {
            Some(password) => options.set_credentials(username, password.clone().into_bytes()),
            None => options.set_username(username),
        };
    }
    let expiry = u32::try_from(settings.session_expiry.as_secs()).unwrap_or(u32::MAX);
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(if settings.clean_session { 0 } else { expiry });
    properties.max_packet_size = Some(settings.packet_bytes_max);
    options
        .set_connect_timeout(CONNECT_TIME_MAX)
        .set_keep_alive(keep_alive_seconds(settings))
        .set_ack_mode(AckMode::Manual)
        .set_max_request_batch(REQUEST_BATCH)
        .set_read_batch_size(READ_BATCH)
        .set_clean_start(clean_start)
        // The broker keeps to what it is told below. One that does not must not
        // break the connection again and again: such packets are discarded above.
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Unlimited);
    match plan.purpose {
        Purpose::Subscribe { receive_max } => {
            properties.receive_maximum = Some(receive_max.max(1));
            // Nothing is published on this connection.
            options.set_outgoing_inflight_upper_limit(1);
            if !clean_start {
                options.set_session_store(Continued(plan.client_id.clone()));
            }
        }
        Purpose::Publish => {
            options.set_outgoing_inflight_upper_limit(PUBLISHES_IN_FLIGHT_MAX);
        }
    }
    options.set_connect_properties(properties);
    let (endpoint, control) = (settings.endpoint.clone(), plan.control.clone());
    options.set_socket_connector(move |_, _| {
        let (endpoint, control) = (endpoint.clone(), control.clone());
        async move { dial(&endpoint, control).await }
    });
    options
}

/// Says that the session of an earlier process is known here: empty, which is
/// true. Without this the library refuses to go on with a session that the
/// broker has kept, and what waits in it would never arrive.
#[derive(Debug)]
struct Continued(String);

type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

impl SessionStore for Continued {
    fn load<'a>(&'a self, _: &'a SessionStoreKey) -> Stored<'a, Option<PersistedSession>> {
        Box::pin(ready(Ok(Some(PersistedSession {
            format_version: 1,
            client_id: self.0.clone(),
            clean_start: false,
            session_expiry_interval: None,
            outgoing_inflight_upper_limit: Some(1),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        }))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> Stored<'a, ()> {
        Box::pin(ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Stored<'a, ()> {
        Box::pin(ready(Ok(())))
    }
}

fn welcome(ack: &ConnAck) -> Welcome {
    let properties = ack.properties.as_ref();
    let allowed = |flag: Option<u8>| flag != Some(0);
    Welcome {
        protocol: Protocol::V5,
        session_present: ack.session_present,
        packet_bytes_max: properties
            .and_then(|p| p.max_packet_size)
            .unwrap_or(PROTOCOL_PACKET_BYTES_MAX),
        qos_max: properties
            .and_then(|p| p.max_qos)
            .and_then(Qos::from_level)
            .unwrap_or(Qos::EffectivelyOnce),
        retain: allowed(properties.and_then(|p| p.retain_available)),
        shared_subscriptions: allowed(properties.and_then(|p| p.shared_subscription_available)),
        wildcard_subscriptions: allowed(properties.and_then(|p| p.wildcard_subscription_available)),
    }
}

fn arrived(publish: Publish) -> Packet {
    let properties = publish.properties.map_or_else(Properties::default, |p| Properties {
        content_type: p.content_type,
        user: p.user_properties,
        response_topic: p.response_topic,
        correlation_data: p.correlation_data,
        message_expiry: p.message_expiry_interval,
        payload_format: p.payload_format_indicator,
    });
    Packet {
        topic: publish.topic,
        payload: publish.payload,
        qos: from_qos(publish.qos),
        retain: publish.retain,
        dup: publish.dup,
        id: publish.pkid,
        properties,
    }
}

fn granted(code: Option<&SubscribeReasonCode>, reason: Option<String>) -> Result<Qos, BrokerError> {
    let refused = |text: &str| match &reason {
        Some(reason) => format!("the broker refuses the subscription: {text} ({reason})"),
        None => format!("the broker refuses the subscription: {text}"),
    };
    use SubscribeReasonCode as Code;
    match code {
        Some(Code::Success(qos)) => Ok(from_qos(*qos)),
        Some(Code::NotAuthorized) => Err(BrokerError::Denied(refused("not authorized"))),
        Some(Code::TopicFilterInvalid) => Err(BrokerError::InvalidTopic(refused("invalid filter"))),
        Some(Code::SharedSubscriptionsNotSupported) => Err(BrokerError::Unsupported(refused(
            "it has no shared subscriptions, which `queue` needs",
        ))),
        Some(Code::WildcardSubscriptionsNotSupported) => {
            Err(BrokerError::Unsupported(refused("it has no wildcards")))
        }
        Some(Code::QuotaExceeded) => Err(BrokerError::Denied(refused("quota exceeded"))),
        Some(code) => Err(BrokerError::Other(refused(&format!("{code:?}")))),
        None => Err(BrokerError::Other(refused("an empty answer"))),
    }
}

fn failure(error: ConnectionError, was_connected: bool) -> Failure {
    use rumqttc::mqttbytes::Error as Packet;
    match error {
        ConnectionError::RequestsDone => Failure::Done,
        ConnectionError::ConnectionRefused(code) => refused(code),
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) => Failure::TakenOver,
        ConnectionError::MqttState(
            StateError::OutgoingPacketTooLarge { .. }
            | StateError::Deserialization(Packet::OutgoingPacketTooLarge { .. }),
        ) => Failure::PacketTooLarge,
        ConnectionError::MqttState(
            ref error @ (StateError::ConnectionAborted
            | StateError::Deserialization(_)
            | StateError::Io(_)),
        ) if !was_connected => Failure::Unanswered(causes(error)),
        ConnectionError::MqttState(ref error @ StateError::ConnectionAborted) => {
            Failure::Closed(causes(error))
        }
        error => Failure::Lost(causes(&error)),
    }
}

fn refused(code: ConnectReturnCode) -> Failure {
    use ConnectReturnCode as Code;
    let denied = |text: &str| Failure::Refused(BrokerError::Denied(text.to_owned()));
    match code {
        Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => Failure::Protocol,
        Code::BadUserNamePassword => denied("the broker refuses the user name or password"),
        Code::NotAuthorized => denied("the broker refuses the connection: not authorized"),
        Code::Banned => denied("the broker refuses the connection: banned"),
        Code::BadAuthenticationMethod => denied("the broker wants another authentication"),
        Code::ClientIdentifierNotValid | Code::BadClientId => {
            denied("the broker refuses the client identifier")
        }
        code => Failure::Lost(format!("the broker refuses the connection: {code:?}")),
    }
}

pub(super) fn acknowledge(client: &AsyncClient, id: u16, qos: Qos) {
    let ack = match qos {
        Qos::EffectivelyOnce => ManualAck::PubRec(PubRec::new(id, None)),
        _ => ManualAck::PubAck(PubAck::new(id, None)),
    };
    // It fails only when the session has ended: the broker sends it again then.
    let _ = client.try_manual_ack(ack);
}

pub(super) fn subscribe(client: &AsyncClient, filter: &str, qos: Qos) -> Result<(), BrokerError> {
    let mut filter = SubscribeFilter::new(filter, to_qos(qos));
    // A restart is no new subscription: retained messages come once.
    filter.retain_forward_rule = RetainForwardRule::OnNewSubscribe;
    match client.try_subscribe_many([filter]) {
        Err(ClientError::InvalidRequest(_)) => {
            Err(BrokerError::InvalidTopic("the filter is not valid in MQTT".to_owned()))
        }
        _ => Ok(()),
    }
}

pub(super) fn unsubscribe(client: &AsyncClient, filter: &str) {
    let _ = client.try_unsubscribe(filter);
}

pub(super) fn disconnect(client: &AsyncClient, forget: bool) {
    let properties = DisconnectProperties {
        session_expiry_interval: forget.then_some(0),
        reason_string: None,
        user_properties: Vec::new(),
        server_reference: None,
    };
    let reason = DisconnectReasonCode::NormalDisconnection;
    let _ = client.try_disconnect_with_properties(reason, properties);
}

pub(super) fn size(packet: &Packet) -> usize {
    let properties = properties(packet.properties.clone());
    let mut publish = Publish::new("", to_qos(packet.qos), packet.payload.clone(), properties);
    publish.topic = packet.topic.clone();
    publish.pkid = 1;
    publish.size()
}

fn properties(properties: Properties) -> Option<PublishProperties> {
    if properties == Properties::default() {
        return None;
    }
    Some(PublishProperties {
        payload_format_indicator: properties.payload_format,
        message_expiry_interval: properties.message_expiry,
        topic_alias: None,
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data,
        user_properties: properties.user,
        subscription_identifiers: Vec::new(),
        content_type: properties.content_type,
    })
}

/// Queues a packet; waits while the queue is full.
pub(super) async fn send(client: &AsyncClient, packet: Packet) -> Result<PublishNotice, Published> {
    let topic = String::from_utf8_lossy(&packet.topic).into_owned();
    let mut options = PublishOptions::new(to_qos(packet.qos)).retain(packet.retain);
    if let Some(properties) = properties(packet.properties) {
        options = options.properties(properties);
    }
    client.publish_tracked(topic, packet.payload, options).await.map_err(|error| match error {
        ClientError::InvalidRequest(_) => {
            let text = "the topic is not valid in MQTT".to_owned();
            Published::Refused(BrokerError::InvalidTopic(text))
        }
        _ => Published::Ended,
    })
}

/// Waits until the broker has answered.
pub(super) async fn answer(notice: PublishNotice) -> Published {
    match notice.wait_async().await {
        Ok(result) => answered(&result),
        Err(PublishNoticeError::SessionReset) => Published::Lost,
        Err(PublishNoticeError::Recv) => Published::Ended,
        Err(PublishNoticeError::RetainNotSupported) => {
            let text = "the broker keeps no retained messages".to_owned();
            Published::Refused(BrokerError::Unsupported(text))
        }
        Err(PublishNoticeError::Qos0NotFlushed) => {
            let text = "the connection was lost while the event was sent".to_owned();
            Published::Refused(BrokerError::Unavailable(text))
        }
        Err(error) => Published::Refused(BrokerError::Other(error.to_string())),
    }
}

fn answered(result: &PublishResult) -> Published {
    use {PubAckReason as Ack, PubRecReason as Rec};
    let (denied, quota, topic, code) = match result {
        PublishResult::Qos0Flushed => return Published::Done,
        PublishResult::Qos1(ack) => match ack.reason {
            Ack::Success | Ack::NoMatchingSubscribers => return Published::Done,
            reason => (
                reason == Ack::NotAuthorized,
                reason == Ack::QuotaExceeded,
                reason == Ack::TopicNameInvalid,
                format!("{reason:?}"),
            ),
        },
        PublishResult::Qos2PubRecRejected(rec) => (
            rec.reason == Rec::NotAuthorized,
            rec.reason == Rec::QuotaExceeded,
            rec.reason == Rec::TopicNameInvalid,
            format!("{:?}", rec.reason),
        ),
        PublishResult::Qos2Completed(complete) => match complete.reason {
            PubCompReason::Success => return Published::Done,
            // The broker had forgotten the exchange: it was complete before.
            PubCompReason::PacketIdentifierNotFound => return Published::Done,
        },
    };
    let text = format!("the broker refuses the event: {code}");
    Published::Refused(match (denied, quota, topic) {
        (true, _, _) => BrokerError::Denied(text),
        (_, true, _) => BrokerError::Unavailable(text),
        (_, _, true) => BrokerError::InvalidTopic(text),
        _ => BrokerError::Other(text),
    })
}

fn to_qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::EffectivelyOnce => QoS::ExactlyOnce,
    }
}

fn from_qos(qos: QoS) -> Qos {
    match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::EffectivelyOnce,
    }
}
