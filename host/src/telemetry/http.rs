//! A small HTTP server for operators' pages. It is bounded in every way, so that
//! a slow or hostile client costs only itself.

use super::pages::{Answer, Pages, Request};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

/// The most connections at once. One more ends the oldest of them: an honest
/// client is done in milliseconds, so that it is one that does nothing.
const CONNECTIONS_MAX: usize = 64;
/// How long a client has for its request line and headers.
const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may last. It serves one request.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// The largest request line with its headers, in bytes.
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// The most headers of a request.
const HEADERS_MAX: usize = 64;
/// How long to wait after a connection could not be accepted, as when the process
/// has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An address that is listened on, and not served yet.
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens on an address, such as `127.0.0.1:9464`. With port 0 the system
    /// chooses one.
    ///
    /// # Errors
    /// It is none, or it cannot be listened on.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the pages, until what this returns is dropped.
    #[must_use]
    pub fn serve(self, pages: Pages) -> Serving {
        Serving(tokio::spawn(serve(self.listener, Arc::new(pages))))
    }
}

/// A server that runs. Dropping it ends it, and all of its connections.
#[derive(Debug)]
pub struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(listener: TcpListener, pages: Arc<Pages>) {
    let mut connections = JoinSet::new();
    // The oldest first.
    let mut running: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    running.retain(|connection| !connection.is_finished());
                    if running.len() >= CONNECTIONS_MAX
                        && let Some(oldest) = running.pop_front()
                    {
                        oldest.abort();
                    }
                    running.push_back(connections.spawn(connection(stream, Arc::clone(&pages))));
                }
                Err(error) => {
                    tracing::debug!("a connection to the metrics could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, pages: Arc<Pages>) {
    let service = service_fn(|request| answer(&pages, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // How a client fails is its own affair.
    let _ = tokio::time::timeout(CONNECTION_TIME_MAX, connection).await;
}

async fn answer(
    pages: &Pages,
    request: hyper::Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let path = request.uri().path();
    let request = Request { reads, path, accept: accept.unwrap_or_default() };
    let Answer { status, content_type, text } = pages.answer(&request).await;
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !reads {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}
