//! Export of spans over OTLP, in batches.

use super::client::Client;
use super::spans::Spans;
use crate::broker::Limits;
use crate::runtime::Observer;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, Key, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// How long the last spans may take to be sent when the process ends.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(5);
/// What spans are posted to, below the collector's address.
const PATH: &str = "v1/traces";
/// The name of the service, unless the environment has one.
const SERVICE_NAME: &str = "wasi-pubsub";

/// Sends spans to a collector, in the background. Batches, their bounds, the
/// sampler and the attributes of the resource are those of OpenTelemetry's SDK,
/// which reads its usual variables of the environment.
pub struct Exporter {
    provider: SdkTracerProvider,
}

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address is none.
    #[error("`{url}` is no address of a collector: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// Why.
        reason: String,
    },
    /// No certificates of the system can be used.
    #[error("`https` needs the certificates of the system, and they cannot be read: {0}")]
    Certificates(String),
    /// Anything else.
    #[error("spans cannot be exported: {0}")]
    Other(String),
}

impl Exporter {
    /// Sends spans to the collector at this address, `http` or `https`; the path
    /// `/v1/traces` is added where it isn't there. To be called within tokio.
    ///
    /// # Errors
    /// The address is none, or TLS cannot be set up. Nothing is connected yet: a
    /// collector that cannot be reached is logged later.
    pub fn new(endpoint: &str) -> Result<Self, EndpointError> {
        let url = traces_url(endpoint)?;
        let tls = if url.scheme() == "https" { Some(tls()?) } else { None };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(url.as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Client::new(tls))
            .build()
            .map_err(|error| EndpointError::Other(error.to_string()))?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource())
            .build();
        Ok(Self { provider })
    }

    /// Makes a span of each handling and of each publish. `limits` are those of the
    /// events that are published.
    #[must_use]
    pub fn observer(&self, limits: Limits) -> Arc<dyn Observer> {
        let version = env!("CARGO_PKG_VERSION");
        let scope = InstrumentationScope::builder(SERVICE_NAME).with_version(version).build();
        Arc::new(Spans::new(self.provider.tracer_with_scope(scope), limits))
    }

    /// Sends what is left, within some seconds.
    pub async fn finish(self) {
        // It waits for the exporter's thread.
        let flush = move || self.provider.shutdown_with_timeout(FLUSH_TIME_MAX);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(flush).await {
            tracing::debug!("the last spans were not exported: {error}");
        }
    }
}

fn traces_url(endpoint: &str) -> Result<Url, EndpointError> {
    let failed = |reason: String| EndpointError::Url { url: shown(endpoint), reason };
    let mut url = Url::parse(endpoint).map_err(|error| failed(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(failed(format!("`{}` is neither http nor https", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(failed("a password goes into OTEL_EXPORTER_OTLP_HEADERS".into()));
    }
    if !url.path().trim_end_matches('/').ends_with(PATH) {
        let path = format!("{}/{PATH}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

/// The address without a password.
fn shown(endpoint: &str) -> String {
    match (endpoint.split_once("://"), endpoint.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => endpoint.to_owned(),
    }
}

fn tls() -> Result<Arc<ClientConfig>, EndpointError> {
    let failed = |reason: &dyn std::fmt::Display| EndpointError::Certificates(reason.to_string());
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err(match found.errors.first() {
            Some(error) => failed(error),
            None => failed(&"there are none"),
        });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Who sends: what the environment says, and else the name of the program.
fn resource() -> Resource {
    let found = Resource::builder().build();
    let name = found.get(&Key::new("service.name")).map(|name| name.to_string());
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let mut builder = Resource::builder();
    // That is how the SDK says that the environment has none.
    if name.is_none_or(|name| name.starts_with("unknown_service")) {
        builder = builder.with_service_name(SERVICE_NAME);
    }
    if found.get(&version.key).is_none() {
        builder = builder.with_attribute(version);
    }
    builder.build()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added_where_it_is_missing() {
        for (endpoint, expected) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("https://example.org/otlp", "https://example.org/otlp/v1/traces"),
            ("http://[::1]:4318/v1/traces", "http://[::1]:4318/v1/traces"),
        ] {
            assert_eq!(traces_url(endpoint).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_said_without_its_password() {
        let error = |endpoint| traces_url(endpoint).unwrap_err().to_string();
        assert_eq!(
            error("localhost:4318"),
            "`localhost:4318` is no address of a collector: `localhost` is neither http nor https"
        );
        assert!(error("http://").starts_with("`http://` is no address of a collector: "));
        assert!(error("grpc://localhost:4317").contains("`grpc` is neither http nor https"));
        let with_password = error("http://me:hush@host:4318");
        assert!(with_password.starts_with("`http://…@host:4318` is no address"), "{with_password}");
        assert!(!error("ftp://me:hush@host").contains("hush"));
    }
}
