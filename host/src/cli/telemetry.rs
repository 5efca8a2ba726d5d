//! What operators see of `run`: the options for it, and its beginning and end.

use super::failure::Failure;
use crate::broker::Limits;
use crate::runtime::{Observer, Status};
#[cfg(feature = "otlp")]
use crate::telemetry::Exporter;
use crate::telemetry::{self, Figures, Listener, Pages, Recorder, Serving};
use clap::Args;
use std::sync::Arc;
use std::time::SystemTime;

/// Where metrics and traces go.
#[derive(Args)]
#[command(next_help_heading = "Operating")]
pub(super) struct TelemetryArgs {
    /// Serve /metrics (Prometheus), /healthz and /readyz here, such as 127.0.0.1:9464; port 0: any
    #[arg(long, value_name = "ADDRESS", env = "WASI_PUBSUB_METRICS")]
    metrics: Option<String>,
    /// Export traces to the collector at this address by OTLP over HTTP, such as http://127.0.0.1:4318
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp: Option<String>,
}

/// What is running of it.
pub(super) struct Telemetry {
    metrics: Option<(Listener, Arc<Recorder>)>,
    #[cfg(feature = "otlp")]
    exporter: Option<Exporter>,
    started: SystemTime,
}

impl TelemetryArgs {
    /// Opens what was asked for, before anything runs.
    ///
    /// # Errors
    /// An address is none, or is in use.
    pub(super) async fn open(&self) -> Result<Telemetry, Failure> {
        Ok(Telemetry {
            metrics: match &self.metrics {
                Some(address) => Some((listen(address).await?, Arc::default())),
                None => None,
            },
            #[cfg(feature = "otlp")]
            exporter: self.exporter()?,
            started: SystemTime::now(),
        })
    }

    #[cfg(feature = "otlp")]
    fn exporter(&self) -> Result<Option<Exporter>, Failure> {
        let is = |name: &str, value: &str| {
            std::env::var(name).is_ok_and(|found| found.eq_ignore_ascii_case(value))
        };
        let Some(url) = self.otlp.as_deref().filter(|url| !url.is_empty()) else { return Ok(None) };
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            tracing::info!("no traces are exported: the environment says so");
            return Ok(None);
        }
        let exporter = Exporter::new(url).map_err(|error| {
            Failure::input(format!(
                "--otlp: {error}\n  help: the address of a collector that takes OTLP over HTTP, such as \
                 http://127.0.0.1:4318"
            ))
        })?;
        Ok(Some(exporter))
    }
}

async fn listen(address: &str) -> Result<Listener, Failure> {
    let listener = Listener::bind(address).await.map_err(|error| {
        Failure::input(format!(
            "--metrics: cannot listen on `{address}`: {error}\n  help: a host and a port that is free, \
             such as 127.0.0.1:9464; with port 0 the system chooses one"
        ))
    })?;
    tracing::info!("metrics on http://{}/metrics", listener.address());
    Ok(listener)
}

impl Telemetry {
    /// Who is to be told what components do. `limits` are those of events.
    pub(super) fn observers(&self, limits: Limits) -> Vec<Arc<dyn Observer>> {
        let mut observers = vec![self.tracer(limits)];
        if let Some((_, recorder)) = &self.metrics {
            observers.push(Arc::clone(recorder) as Arc<dyn Observer>);
        }
        observers
    }

    #[cfg(feature = "otlp")]
    fn tracer(&self, limits: Limits) -> Arc<dyn Observer> {
        match &self.exporter {
            Some(exporter) => exporter.observer(limits),
            None => telemetry::carry_on(limits),
        }
    }

    #[cfg(not(feature = "otlp"))]
    fn tracer(&self, limits: Limits) -> Arc<dyn Observer> {
        telemetry::carry_on(limits)
    }

    /// Serves the pages of a service, until the result is dropped. `figures` is what
    /// its listeners count.
    pub(super) fn serve(&mut self, status: &Arc<Status>, figures: Figures) -> Option<Serving> {
        let (listener, recorder) = self.metrics.take()?;
        Some(listener.serve(Pages::new(Arc::clone(status), recorder, self.started, figures)))
    }

    /// Sends what was not exported yet.
    pub(super) async fn finish(self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter {
            exporter.finish().await;
        }
    }
}
