//! One connection to a broker in either version of MQTT: the only place that
//! names the client library.
//!
//! The rest of the backend sees [`Client`], which is polled for [`Event`]s, and
//! [`Handle`], which asks for something to be sent. The library owns the codec,
//! packet identifiers and the exchanges of qos 1 and 2; when to acknowledge,
//! to reconnect and to subscribe is decided above.

mod link;
mod tls;
mod v4;
mod v5;

pub(super) use crate::mqtt::{Packet, Properties, Protocol};
pub(super) use link::LinkControl;
pub(super) use tls::configuration as tls_configuration;

use super::settings::{Endpoint, MqttSettings};
use crate::broker::{BrokerError, Qos};
use link::{Link, Socket};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// How many publishes wait for their acknowledgement at once, at most.
pub(super) const PUBLISHES_IN_FLIGHT_MAX: u16 = 256;
/// How long a connection may take to come up, with TLS and CONNACK.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How many requests are written with one flush.
const REQUEST_BATCH: usize = 128;
/// How many packets are read before they are handed on.
const READ_BATCH: usize = 64;
/// The largest packet that the protocol can express, in bytes.
pub(super) const PROTOCOL_PACKET_BYTES_MAX: u32 = 268_435_460;

/// What a session wants of its connections.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) settings: Arc<MqttSettings>,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) client_id: String,
    pub(super) control: Arc<LinkControl>,
    pub(super) purpose: Purpose,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It continues the session of an earlier process.
    Subscribe {
        /// How many events the broker may have on the way.
        receive_max: u16,
    },
    /// It begins anew: packet identifiers of an earlier process mean nothing.
    Publish,
}

/// What a broker said when the connection came up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Welcome {
    pub(super) protocol: Protocol,
    pub(super) session_present: bool,
    /// The largest packet that the broker takes, in bytes.
    pub(super) packet_bytes_max: u32,
    pub(super) qos_max: Qos,
    pub(super) retain: bool,
    pub(super) shared_subscriptions: bool,
    pub(super) wildcard_subscriptions: bool,
}

/// What happens on a connection.
#[derive(Debug)]
pub(super) enum Event {
    Connected(Welcome),
    Arrived(Packet),
    /// An acknowledgement of ours has been given to the link.
    AckSent(u16),
    /// The broker has taken note of an acknowledgement at qos 2.
    Released(u16),
    Subscribed(Result<Qos, BrokerError>),
    /// The broker has acknowledged a publish.
    Confirmed,
    /// Our farewell is out.
    Disconnected,
    Other,
}

/// Why a connection ended, or did not come up.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing more will come: the farewell was said.
    Done,
    /// The broker does not speak this version.
    Protocol,
    /// Another client has connected under the same identifier.
    TakenOver,
    /// The broker does not want us.
    Refused(BrokerError),
    /// A packet to be sent is larger than the broker takes.
    PacketTooLarge,
    /// Something took the connection, but did not answer in MQTT.
    Unanswered(String),
    /// The broker, or something on the way, has closed the connection.
    Closed(String),
    /// Anything else, for people.
    Lost(String),
}

/// How a publish ended.
#[derive(Debug)]
pub(super) enum Published {
    Done,
    /// The session was lost: the broker may or may not have it.
    Lost,
    /// The session has ended, or begins anew.
    Ended,
    Refused(BrokerError),
}

/// A connection that comes back by itself with each [`next`](Self::next).
pub(super) enum Client {
    V5(Box<v5::Client>),
    V4(Box<v4::Client>),
}

/// Says how a publish ends.
pub(super) struct Notice(Pin<Box<dyn Future<Output = Published> + Send>>);

impl Notice {
    /// Waits for the end. May be dropped and called again before it has come.
    pub(super) async fn wait(&mut self) -> Published {
        self.0.as_mut().await
    }
}

/// Asks a connection to send something.
#[derive(Clone)]
pub(super) enum Handle {
    V5(rumqttc::AsyncClient),
    V4(rumqttc_v4::AsyncClient),
}

impl Client {
    /// `fresh`: the broker is to forget what it knows of the client identifier.
    pub(super) fn new(plan: &Plan, protocol: Protocol, fresh: bool) -> Self {
        match protocol {
            Protocol::V5 => Self::V5(Box::new(v5::Client::new(plan, fresh))),
            Protocol::V4 => Self::V4(Box::new(v4::Client::new(plan, fresh))),
        }
    }

    pub(super) fn handle(&self) -> Handle {
        match self {
            Self::V5(client) => Handle::V5(client.handle()),
            Self::V4(client) => Handle::V4(client.handle()),
        }
    }

    /// Waits for the next event; connects first where there is no connection.
    /// Not to be cancelled: packets would be lost.
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        match self {
            Self::V5(client) => client.next().await,
            Self::V4(client) => client.next().await,
        }
    }
}

impl Handle {
    /// Queues an acknowledgement of a packet that arrived on this connection.
    pub(super) fn acknowledge(&self, id: u16, qos: Qos) {
        match self {
            Self::V5(client) => v5::acknowledge(client, id, qos),
            Self::V4(client) => v4::acknowledge(client, id, qos),
        }
    }

    /// Queues a subscription; its end is [`Event::Subscribed`].
    ///
    /// # Errors
    /// The filter is none of MQTT.
    pub(super) fn subscribe(&self, filter: &str, qos: Qos) -> Result<(), BrokerError> {
        match self {
            Self::V5(client) => v5::subscribe(client, filter, qos),
            Self::V4(client) => v4::subscribe(client, filter, qos),
        }
    }

    /// Queues the end of a subscription, whose answer nobody waits for.
    pub(super) fn unsubscribe(&self, filter: &str) {
        match self {
            Self::V5(client) => v5::unsubscribe(client, filter),
            Self::V4(client) => v4::unsubscribe(client, filter),
        }
    }

    /// Queues a packet, after those queued before it. It is sent over all
    /// connections until the broker has it, also when nobody waits any more.
    ///
    /// # Errors
    /// How it ended already.
    pub(super) async fn send(&self, packet: Packet) -> Result<Notice, Published> {
        match self {
            Self::V5(client) => Ok(Notice(Box::pin(v5::answer(v5::send(client, packet).await?)))),
            Self::V4(client) => Ok(Notice(Box::pin(v4::answer(v4::send(client, packet).await?)))),
        }
    }

    /// How large a packet is on the wire, in bytes.
    pub(super) fn size(&self, packet: &Packet) -> usize {
        match self {
            Self::V5(_) => v5::size(packet),
            Self::V4(_) => v4::size(packet),
        }
    }

    /// Queues the farewell, after all that is queued already. `forget`: the
    /// broker need not keep the session, where the protocol can say so.
    pub(super) fn disconnect(&self, forget: bool) {
        match self {
            Self::V5(client) => v5::disconnect(client, forget),
            Self::V4(client) => v4::disconnect(client),
        }
    }
}

/// Where the library believes the broker to be; [`dial`] knows better.
fn broker_url(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::WebSocket { .. } => endpoint.to_string(),
        Endpoint::Tcp { host, .. } => host.clone(),
        Endpoint::Unix(_) => "localhost".to_owned(),
    }
}

/// Opens the socket under everything else.
async fn dial(endpoint: &Endpoint, control: Arc<LinkControl>) -> io::Result<Link<Socket>> {
    let socket = match endpoint {
        Endpoint::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
        Endpoint::Tcp { host, port, .. } | Endpoint::WebSocket { host, port, .. } => {
            let socket = TcpStream::connect((host.as_str(), *port)).await?;
            socket.set_nodelay(true)?;
            Socket::Tcp(socket)
        }
    };
    Ok(Link::new(socket, control))
}

fn keep_alive_seconds(settings: &MqttSettings) -> u16 {
    u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX)
}

/// Every cause in one line: the outermost alone often says nothing.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
