//! A collector of spans: OTLP over HTTP, in protobuf.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::sync::{Arc, Mutex};
use testkit::{DEADLINE, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// It keeps what it gets.
pub(super) struct Collector {
    url: String,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    accepting: JoinHandle<()>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<_>>> = Arc::default();
        let kept = Arc::clone(&requests);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let request = receive(stream).await;
                kept.lock().unwrap().push(request);
            }
        });
        Self { url, requests, accepting }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// All spans so far.
    pub(super) fn spans(&self) -> Vec<Span> {
        let requests = self.requests.lock().unwrap();
        let scopes = requests.iter().flat_map(|r| &r.resource_spans).flat_map(|r| &r.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// The attributes of who has sent the first spans.
    pub(super) fn resource(&self, name: &str) -> Option<String> {
        let requests = self.requests.lock().unwrap();
        let resource = requests.first()?.resource_spans.first()?.resource.clone()?;
        let found = resource.attributes.into_iter().find(|pair| pair.key == name)?;
        text(found.value?.value?)
    }

    /// Waits for that many spans with this name, and returns them.
    pub(super) async fn wait_for(&self, name: &str, count: usize) -> Vec<Span> {
        let named = || self.spans().into_iter().filter(|span| span.name == name);
        let what = format!("{count} spans `{name}` have come");
        eventually(DEADLINE, &what, || named().count() >= count).await;
        let found: Vec<_> = named().collect();
        assert_eq!(found.len(), count, "{found:#?}");
        found
    }

    /// Waits for the one span with this name.
    pub(super) async fn one(&self, name: &str) -> Span {
        self.wait_for(name, 1).await.remove(0)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn receive(mut stream: TcpStream) -> ExportTraceServiceRequest {
    let mut bytes = Vec::new();
    let (head, body_at) = loop {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the request is complete");
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break (String::from_utf8(bytes[..at].to_vec()).unwrap().to_lowercase(), at + 4);
        }
    };
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    assert!(head.contains("\r\nhost: 127.0.0.1:"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.expect("a length").parse().unwrap();
    while bytes.len() < body_at + length {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the body is complete");
    }
    let request = ExportTraceServiceRequest::decode(&bytes[body_at..]).expect("protobuf");
    let answer =
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.unwrap();
    request
}

/// The value of an attribute of a span, as a text.
pub(super) fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|pair| pair.key == name)?;
    text(found.value.clone()?.value?)
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A span's name for itself, as `traceparent` has it.
pub(super) fn traceparent(span: &Span) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}
