//! HTTP to the collector. The exporter has a thread of its own, from which the
//! requests are handed to tokio.

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// How long a request may take, from connecting to the last byte of the answer. Less
/// than the time for the last spans, so that it is known why they were not sent.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(4);
/// The largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How often an outage that goes on is logged.
const OUTAGE_LOG_INTERVAL: Duration = Duration::from_secs(600);

/// Sends each request on a connection of its own: there is one every few seconds.
pub(super) struct Client {
    runtime: Handle,
    tls: Option<TlsConnector>,
    outage: Mutex<Option<Outage>>,
}

/// A collector that cannot be reached, or refuses.
struct Outage {
    failures: u64,
    logged: Instant,
}

impl Client {
    /// To be called within tokio. `tls` is for `https`.
    pub(super) fn new(tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        let (runtime, tls) = (Handle::current(), tls.map(TlsConnector::from));
        Self { runtime, tls, outage: Mutex::new(None) }
    }

    /// Logs the beginning and the end of an outage, and now and then that it lasts.
    fn note(&self, uri: &Uri, result: Result<(), String>) {
        let mut outage = self.outage.lock();
        match (result, outage.as_mut()) {
            (Ok(()), None) => {}
            (Ok(()), Some(over)) => {
                tracing::info!(
                    "spans are exported to {uri} again, after {} failures",
                    over.failures
                );
                *outage = None;
            }
            (Err(reason), None) => {
                tracing::warn!("spans cannot be exported to {uri}: {reason}; they are dropped");
                *outage = Some(Outage { failures: 1, logged: Instant::now() });
            }
            (Err(reason), Some(going_on)) => {
                going_on.failures += 1;
                if going_on.logged.elapsed() >= OUTAGE_LOG_INTERVAL {
                    going_on.logged = Instant::now();
                    let failures = going_on.failures;
                    tracing::warn!(
                        "spans still cannot be exported to {uri}, {failures} times now: {reason}"
                    );
                }
            }
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri().clone();
        let sent = tokio_send(&self.runtime, self.tls.clone(), request).await;
        self.note(
            &uri,
            match &sent {
                Ok(response) if response.status().is_success() => Ok(()),
                Ok(response) => Err(format!("it answers {}", response.status())),
                Err(error) => Err(error.to_string()),
            },
        );
        sent
    }
}

async fn tokio_send(
    runtime: &Handle,
    tls: Option<TlsConnector>,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let task = runtime.spawn(async move {
        let sent = tokio::time::timeout(REQUEST_TIME_MAX, send(tls, request)).await;
        sent.unwrap_or_else(|_| Err(format!("no answer within {REQUEST_TIME_MAX:?}").into()))
    });
    task.await.unwrap_or_else(|_| Err("the host has ended".into()))
}

async fn send(
    tls: Option<TlsConnector>,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let uri = request.uri();
    // An address of IPv6 stands in brackets there.
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    match tls {
        None => exchange(stream, request).await,
        Some(tls) => {
            exchange(tls.connect(ServerName::try_from(host)?, stream).await?, request).await
        }
    }
}

async fn exchange<S>(stream: S, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let authority = request.uri().authority().ok_or("the address names no host")?;
    let host = HeaderValue::from_str(authority.as_str())?;
    request.headers_mut().insert(HOST, host);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender, and says why by the request's error.
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request.map(Full::new)).await?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(parts, body))
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
