//! The metrics as a text, in either of the formats that Prometheus reads.

use super::collector::Collector;
use super::figure::Figures;
use super::recorder::Recorder;
use crate::runtime::Status;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

/// Writes the metrics.
pub(in crate::telemetry) struct Exposition {
    registry: Registry,
}

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::telemetry) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' older text format, for who does not ask for the other.
    Text,
}

const OPEN_METRICS: &str = "application/openmetrics-text";

impl Format {
    /// The format for a request with this `Accept` header.
    pub(in crate::telemetry) fn accepted(accept: &str) -> Self {
        // Who can read it at all gets it, as it says more; but `q=0` is a no.
        let wanted = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let refused = parts.any(|part| {
                let quality = part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
                quality.is_some_and(|quality| quality <= 0.0)
            });
            media_type.eq_ignore_ascii_case(OPEN_METRICS) && !refused
        });
        if wanted { Self::OpenMetrics } else { Self::Text }
    }

    pub(in crate::telemetry) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Exposition {
    /// `started` is when the process was, `figures` what others bring.
    pub(in crate::telemetry) fn new(
        status: Arc<Status>,
        recorder: Arc<Recorder>,
        started: SystemTime,
        figures: Figures,
    ) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Collector { status, recorder, started, figures }));
        Self { registry }
    }

    /// # Errors
    /// None that a `String` can have.
    pub(in crate::telemetry) fn write(&self, format: Format) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        match format {
            Format::OpenMetrics => Ok(text),
            Format::Text => as_text(&text),
        }
    }
}

/// OpenMetrics in the older format. The samples are the same; but there a counter
/// is declared with `_total`, an info as a gauge with `_info`, and nothing is at
/// the end.
fn as_text(open_metrics: &str) -> Result<String, std::fmt::Error> {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(declared) = line.strip_prefix("# HELP ") {
            help = declared.split_once(' ').map(|(_, help)| help);
        } else if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap_or((declared, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            if let Some(help) = help.take() {
                writeln!(text, "# HELP {name}{suffix} {help}")?;
            }
            writeln!(text, "# TYPE {name}{suffix} {kind}")?;
        } else if !line.starts_with('#') {
            writeln!(text, "{line}")?;
        }
    }
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::figure::Figure;
    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_accepted() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        for accept in ["", "*/*", "text/html", "application/openmetrics-text;q=0"] {
            assert_eq!(Format::accepted(accept), Format::Text, "{accept}");
        }
    }

    #[test]
    fn each_format_declares_metrics_in_its_own_way() {
        let (status, recorder) = (Arc::default(), Arc::default());
        let started = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_500);
        let figures: Figures = Arc::new(|| {
            let values = vec![(vec![("broker", "b".to_owned())], 7)];
            let name = "wasi_pubsub_things";
            vec![Figure { name, help: "Things.", is_counter: true, values }]
        });
        let exposition = Exposition::new(status, recorder, started, figures);
        let open_metrics = exposition.write(Format::OpenMetrics).unwrap();
        assert!(open_metrics.contains("# TYPE wasi_pubsub_received counter\n"), "{open_metrics}");
        assert!(open_metrics.contains("# TYPE wasi_pubsub_build info\n"), "{open_metrics}");
        assert!(open_metrics.ends_with("# EOF\n"), "{open_metrics}");
        let text = exposition.write(Format::Text).unwrap();
        assert!(text.contains("# TYPE wasi_pubsub_received_total counter\n"), "{text}");
        assert!(text.contains("# HELP wasi_pubsub_received_total Deliveries "), "{text}");
        assert!(text.contains("# TYPE wasi_pubsub_build_info gauge\n"), "{text}");
        assert!(text.contains("\nwasi_pubsub_build_info{version=\""), "{text}");
        assert!(text.contains("\nwasi_pubsub_things_total{broker=\"b\"} 7\n"), "{text}");
        assert!(!text.contains("EOF"), "{text}");
        assert!(text.contains("\nprocess_start_time_seconds 1.5\n"), "{text}");
    }
}
