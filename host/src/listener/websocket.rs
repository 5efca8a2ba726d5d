//! MQTT over WebSocket (MQTT 5.0, chapter 6), and files on the same port.

use super::connection;
use super::entrance::{Visitor, Web};
use super::figures::Why;
use super::files;
use super::http::{Content, Patient, plain};
use super::hub::Hub;
use super::protocol::Machine;
use super::wire::{Stream, Wire};
use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Error, Message};
use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream as _};
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// The largest request line with its headers, in bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// The sub-protocol of MQTT 3.1.1 and 5, and that of MQTT 3.1.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// What an idle connection has of buffers, in each direction, in bytes: the library
/// would reserve eight times as much.
const BUFFER_BYTES: usize = 16 * 1024;
/// The largest message that is written, in bytes: what the frames' library holds is
/// bounded, and a client that takes some of it is seen to.
const MESSAGE_BYTES: usize = 64 * 1024;

/// Serves HTTP until the client asks for MQTT, and then MQTT.
pub(super) async fn serve(
    hub: Arc<Hub>,
    stream: Box<dyn Stream>,
    web: Arc<Web>,
    mut visitor: Visitor,
) {
    let limits = &hub.settings.limits;
    let upgraded = Arc::new(Mutex::new(None));
    let (service_hub, service_upgraded) = (hub.clone(), upgraded.clone());
    let is_welcome = visitor.refused.is_none();
    let service = service_fn(move |request: Request<Incoming>| {
        let (web, hub, upgraded) = (web.clone(), service_hub.clone(), service_upgraded.clone());
        async move { Ok::<_, Infallible>(answer(request, &web, &hub, is_welcome, &upgraded).await) }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.connect_time_max)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream, limits.send_time_max)), service)
        .with_upgrades();
    let served = tokio::select! {
        served = http => served,
        () = visitor.closing.cancelled() => return,
    };
    if served.is_err() {
        hub.counters.refused.add(Why::Handshake);
        return;
    }
    let Some(upgrade) = upgraded.lock().ok().and_then(|mut upgraded| upgraded.take()) else {
        return;
    };
    visitor.deadline = Instant::now() + limits.connect_time_max;
    let upgraded = tokio::time::timeout_at(visitor.deadline, upgrade);
    let Ok(Ok(io)) = upgraded.await else {
        hub.counters.refused.add(Why::Handshake);
        return;
    };
    let packet_bytes_max = limits.packet_bytes_max as usize;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(packet_bytes_max))
        .max_frame_size(Some(packet_bytes_max));
    let io: Box<dyn Stream> = Box::new(TokioIo::new(io));
    let socket = WebSocketStream::from_raw_socket(io.compat(), Role::Server, Some(config)).await;
    let machine = Machine::new(limits.connect_bytes_max);
    let bytes = Messages { socket, rest: Bytes::new(), is_closed: false };
    connection::serve(hub, Wire::new(Box::new(bytes), machine), visitor).await;
}

/// What a connection becomes. The request itself is not kept: until its body is read or
/// dropped the connection would stay as it is.
type Upgraded = Mutex<Option<OnUpgrade>>;

async fn answer(
    request: Request<Incoming>,
    web: &Web,
    hub: &Hub,
    is_welcome: bool,
    upgraded: &Upgraded,
) -> Response<Content> {
    if request.uri().path() == web.path && has_token(request.headers(), UPGRADE, "websocket") {
        let response = upgrade(request, web, upgraded);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            hub.counters.refused.add(Why::Handshake);
        }
        return response;
    }
    match &web.files {
        // Who comes for MQTT is told so in its own words.
        _ if !is_welcome => plain(StatusCode::SERVICE_UNAVAILABLE, "too many connections\n"),
        Some(root) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            files::answer(root, request.uri().path()).await
        }
        Some(_) => plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"),
        None => plain(StatusCode::NOT_FOUND, "there is MQTT over WebSocket here, and no page\n"),
    }
}

fn upgrade(mut request: Request<Incoming>, web: &Web, upgraded: &Upgraded) -> Response<Content> {
    let headers = request.headers();
    if !is_welcome(headers, web) {
        return plain(StatusCode::FORBIDDEN, "pages of other origins may not connect\n");
    }
    let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    let key = headers.get(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let asked: Vec<_> = tokens(headers, SEC_WEBSOCKET_PROTOCOL).collect();
    let protocol = asked.iter().find_map(|asked| PROTOCOLS.iter().find(|known| *known == asked));
    let is_plain = request.method() == Method::GET
        && has_token(headers, CONNECTION, "upgrade")
        && request.body().is_end_stream();
    let (true, Some(b"13"), Some(key), Some(protocol)) = (is_plain, version, key, protocol) else {
        let text = "WebSocket needs GET without a body, `Connection: Upgrade`, version 13, a key, \
                    and the sub-protocol `mqtt`\n";
        return plain(StatusCode::BAD_REQUEST, text);
    };
    let mut response = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    let Ok(key) = HeaderValue::from_str(&key) else { return response };
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    if let Ok(mut upgraded) = upgraded.lock() {
        *upgraded = Some(hyper::upgrade::on(&mut request));
    }
    response
}

/// Whether a page may connect: one of this server, or of an origin that is named.
/// What is no browser says no origin.
fn is_welcome(headers: &HeaderMap, web: &Web) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let is_own = origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host);
    is_own || web.origins.iter().any(|allowed| allowed == "*" || allowed == origin)
}

fn tokens(headers: &HeaderMap, name: hyper::header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn has_token(headers: &HeaderMap, name: hyper::header::HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// The messages of a WebSocket as a stream of bytes: where one ends says nothing.
struct Messages {
    socket: WebSocketStream<Compat<Box<dyn Stream>>>,
    rest: Bytes,
    is_closed: bool,
}

fn error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl AsyncRead for Messages {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                // Pings are answered by the library; text is no MQTT (section 6.0).
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(failed)) => return Poll::Ready(Err(error(failed))),
            }
        }
        let number = self.rest.len().min(into.remaining());
        into.put_slice(&self.rest[..number]);
        self.rest.advance(number);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Messages {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(MESSAGE_BYTES)];
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(error)?;
        socket.start_send(Message::Binary(Bytes::copy_from_slice(bytes))).map_err(error)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_closed {
            return Poll::Ready(Ok(()));
        }
        let closed = ready!(Pin::new(&mut self.socket).poll_close(cx));
        self.is_closed = true;
        match closed {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(failed) => Poll::Ready(Err(error(failed))),
        }
    }
}
