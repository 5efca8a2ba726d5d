//! MQTT 3.1.1.

use super::{
    CONNECT_TIME_MAX, Event, Failure, PROTOCOL_PACKET_BYTES_MAX, PUBLISHES_IN_FLIGHT_MAX, Packet,
    Plan, Properties, Protocol, Published, Purpose, READ_BATCH, REQUEST_BATCH, Welcome, broker_url,
    causes, dial, keep_alive_seconds,
};
use crate::backends::mqtt::settings::Endpoint;
use crate::broker::{BrokerError, Qos};
use rumqttc_v4::mqttbytes::QoS;
use rumqttc_v4::{
    AckMode, AsyncClient, Broker, ClientError, ConnectReturnCode, ConnectionError, EventLoop,
    ManualAck, MqttOptions, NetworkOptions, Outgoing, PubAck, PubRec, Publish, PublishNotice,
    PublishNoticeError, PublishOptions, StateError, SubscribeReasonCode, TlsConfiguration,
    Transport,
};

/// How many publishes wait for their acknowledgement at once, at most. This
/// version has no way to say how many a broker bears, and mosquitto confirms
/// but loses at qos 2 what goes beyond its own limit, 20 unless configured.
const IN_FLIGHT_MAX: u16 = 16;

pub(in super::super) struct Client {
    client: AsyncClient,
    events: EventLoop,
    connected: bool,
}

impl Client {
    pub(super) fn new(plan: &Plan, fresh: bool) -> Self {
        let builder = AsyncClient::builder(options(plan, fresh || plan.settings.clean_session));
        let builder = match plan.purpose {
            // Acknowledgements are bounded by what the session takes.
            Purpose::Subscribe { .. } => builder.unbounded(),
            Purpose::Publish => builder.capacity(usize::from(PUBLISHES_IN_FLIGHT_MAX)),
        };
        let (client, mut events) = builder.build();
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(CONNECT_TIME_MAX.as_secs());
        events.set_network_options(network);
        Self { client, events, connected: false }
    }

    pub(super) fn handle(&self) -> AsyncClient {
        self.client.clone()
    }

    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        match self.events.poll().await {
            Ok(rumqttc_v4::Event::Incoming(packet)) => Ok(self.incoming(packet)),
            Ok(rumqttc_v4::Event::Outgoing(Outgoing::PubAck(id) | Outgoing::PubRec(id))) => {
                Ok(Event::AckSent(id))
            }
            Ok(rumqttc_v4::Event::Outgoing(Outgoing::Disconnect)) => Ok(Event::Disconnected),
            Ok(rumqttc_v4::Event::Outgoing(_)) => Ok(Event::Other),
            Err(error) => {
                let was_connected = std::mem::take(&mut self.connected);
                Err(failure(error, was_connected))
            }
        }
    }

    fn incoming(&mut self, packet: rumqttc_v4::Packet) -> Event {
        match packet {
            rumqttc_v4::Packet::ConnAck(ack) => {
                self.connected = true;
                Event::Connected(Welcome {
                    protocol: Protocol::V4,
                    session_present: ack.session_present,
                    packet_bytes_max: PROTOCOL_PACKET_BYTES_MAX,
                    qos_max: Qos::EffectivelyOnce,
                    retain: true,
                    shared_subscriptions: true,
                    wildcard_subscriptions: true,
                })
            }
            rumqttc_v4::Packet::Publish(publish) => Event::Arrived(arrived(publish)),
            rumqttc_v4::Packet::PubRel(release) => Event::Released(release.pkid),
            rumqttc_v4::Packet::PubAck(_) | rumqttc_v4::Packet::PubComp(_) => Event::Confirmed,
            rumqttc_v4::Packet::SubAck(ack) => Event::Subscribed(match ack.return_codes.first() {
                Some(SubscribeReasonCode::Success(qos)) => Ok(from_qos(*qos)),
                _ => Err(BrokerError::Denied("the broker refuses the subscription".to_owned())),
            }),
            _ => Event::Other,
        }
    }
}

fn options(plan: &Plan, clean_session: bool) -> MqttOptions {
    let settings = &plan.settings;
    let web_socket = |url: String| {
        Broker::websocket(url.replacen("wss:", "ws:", 1)).unwrap_or_else(|_| Broker::tcp("", 0))
    };
    let broker = match &settings.endpoint {
        endpoint @ Endpoint::WebSocket { .. } => web_socket(broker_url(endpoint)),
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
        let password = settings.password.clone().unwrap_or_default();
        options.set_credentials(username, password);
    }
    let largest = PROTOCOL_PACKET_BYTES_MAX as usize;
    options
        .set_keep_alive(keep_alive_seconds(settings))
        .set_clean_session(clean_session)
        .set_ack_mode(AckMode::Manual)
        .set_max_request_batch(REQUEST_BATCH)
        .set_read_batch_size(READ_BATCH)
        // The broker cannot be told of a limit: what is too large is discarded
        // above, where it can be acknowledged.
        .set_max_packet_size(largest, largest)
        .set_inflight(match plan.purpose {
            Purpose::Subscribe { .. } => 1,
            Purpose::Publish => IN_FLIGHT_MAX,
        });
    let (endpoint, control) = (settings.endpoint.clone(), plan.control.clone());
    options.set_socket_connector(move |_, _| {
        let (endpoint, control) = (endpoint.clone(), control.clone());
        async move { dial(&endpoint, control).await }
    });
    options
}

fn arrived(publish: Publish) -> Packet {
    Packet {
        topic: publish.topic,
        payload: publish.payload,
        qos: from_qos(publish.qos),
        retain: publish.retain,
        dup: publish.dup,
        id: publish.pkid,
        properties: Properties::default(),
    }
}

fn failure(error: ConnectionError, was_connected: bool) -> Failure {
    match error {
        ConnectionError::RequestsDone => Failure::Done,
        ConnectionError::ConnectionRefused(code) => refused(code),
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
        Code::RefusedProtocolVersion => Failure::Protocol,
        Code::BadUserNamePassword => denied("the broker refuses the user name or password"),
        Code::NotAuthorized => denied("the broker refuses the connection: not authorized"),
        Code::BadClientId => denied("the broker refuses the client identifier"),
        code => Failure::Lost(format!("the broker refuses the connection: {code:?}")),
    }
}

pub(super) fn acknowledge(client: &AsyncClient, id: u16, qos: Qos) {
    let ack = match qos {
        Qos::EffectivelyOnce => ManualAck::PubRec(PubRec::new(id)),
        _ => ManualAck::PubAck(PubAck::new(id)),
    };
    // It fails only when the session has ended: the broker sends it again then.
    let _ = client.try_manual_ack(ack);
}

pub(super) fn subscribe(client: &AsyncClient, filter: &str, qos: Qos) -> Result<(), BrokerError> {
    match client.try_subscribe(filter, to_qos(qos)) {
        Err(ClientError::InvalidRequest(_)) => {
            Err(BrokerError::InvalidTopic("the filter is not valid in MQTT".to_owned()))
        }
        _ => Ok(()),
    }
}

pub(super) fn unsubscribe(client: &AsyncClient, filter: &str) {
    let _ = client.try_unsubscribe(filter);
}

pub(super) fn disconnect(client: &AsyncClient) {
    let _ = client.try_disconnect();
}

pub(super) fn size(packet: &Packet) -> usize {
    // Fixed header, length of the topic and the packet identifier.
    1 + 4 + 2 + packet.topic.len() + 2 + packet.payload.len()
}

/// Queues a packet; waits while the queue is full.
pub(super) async fn send(client: &AsyncClient, packet: Packet) -> Result<PublishNotice, Published> {
    let topic = String::from_utf8_lossy(&packet.topic).into_owned();
    let options = PublishOptions::new(to_qos(packet.qos)).retain(packet.retain);
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
        Ok(_) => Published::Done,
        Err(PublishNoticeError::SessionReset) => Published::Lost,
        Err(PublishNoticeError::Recv) => Published::Ended,
        Err(PublishNoticeError::Qos0NotFlushed) => {
            let text = "the connection was lost while the event was sent".to_owned();
            Published::Refused(BrokerError::Unavailable(text))
        }
        Err(error) => Published::Refused(BrokerError::Other(error.to_string())),
    }
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
