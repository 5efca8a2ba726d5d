//! The pages of operators: what each says, without HTTP.

use super::metrics::{Exposition, Figures, Format, Recorder};
use super::time::rfc3339;
use crate::runtime::{ComponentStatus, Phase, Status, SubscriptionStatus};
use hyper::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::Semaphore;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What is served.
pub struct Pages {
    status: Arc<Status>,
    exposition: Exposition,
    /// Metrics are written for one client at a time, so that those who ask too
    /// often keep one thread busy at the most.
    writing: Semaphore,
}

pub(super) struct Request<'a> {
    /// It wants to read only.
    pub(super) reads: bool,
    pub(super) path: &'a str,
    /// The header `Accept`.
    pub(super) accept: &'a str,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) text: String,
}

impl Pages {
    /// The pages of a service. `started` is when the process was, `figures` what
    /// other parts of the program bring.
    #[must_use]
    pub fn new(
        status: Arc<Status>,
        recorder: Arc<Recorder>,
        started: SystemTime,
        figures: Figures,
    ) -> Self {
        let exposition = Exposition::new(Arc::clone(&status), recorder, started, figures);
        Self { status, exposition, writing: Semaphore::new(1) }
    }

    pub(super) async fn answer(&self, request: &Request<'_>) -> Answer {
        if !request.reads {
            return plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are understood here\n",
            );
        }
        match request.path {
            "/metrics" => self.metrics(Format::accepted(request.accept)).await,
            "/healthz" => self.health(),
            "/readyz" => self.readiness(),
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz here\n"),
        }
    }

    async fn metrics(&self, format: Format) -> Answer {
        let _turn = self.writing.acquire().await;
        match self.exposition.write(format) {
            Ok(text) => {
                Answer { status: StatusCode::OK, content_type: format.content_type(), text }
            }
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
        }
    }

    /// Says that the process serves, and how its parts are. A component that
    /// cannot run is no reason to start the process again.
    fn health(&self) -> Answer {
        let phase = phase_word(self.status.phase());
        let components: Vec<_> = self.status.components().iter().map(|c| component(c)).collect();
        let subscriptions: Vec<_> =
            self.status.subscriptions().iter().map(|s| subscription(s)).collect();
        let body = json!({
            "phase": phase,
            "components": components,
            "subscriptions": subscriptions,
        });
        Answer { status: StatusCode::OK, content_type: JSON, text: format!("{body:#}\n") }
    }

    /// Says whether events are taken from every subscription.
    fn readiness(&self) -> Answer {
        let phase = self.status.phase();
        let missing: Vec<_> = self
            .status
            .subscriptions()
            .iter()
            .filter(|subscription| subscription.subscription().is_none())
            .map(|subscription| json!({"broker": subscription.broker, "subscription": subscription.label}))
            .collect();
        let status = match phase {
            Phase::Ready => StatusCode::OK,
            Phase::Starting | Phase::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = json!({"phase": phase_word(phase), "unconfirmed": missing});
        Answer { status, content_type: JSON, text: format!("{body:#}\n") }
    }
}

fn plain(status: StatusCode, text: &str) -> Answer {
    Answer { status, content_type: PLAIN, text: text.to_owned() }
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Stopping => "stopping",
    }
}

fn component(component: &ComponentStatus) -> Value {
    let mut value = json!({
        "name": component.name(),
        "healthy": true,
        "instances": component.instances(),
    });
    if let Some(failing) = component.failing() {
        value["healthy"] = false.into();
        value["failing"] = json!({
            "since": rfc3339(failing.since),
            "failures": failing.failures,
            "reason": failing.reason,
        });
    }
    value
}

fn subscription(subscription: &SubscriptionStatus) -> Value {
    json!({
        "name": subscription.name,
        "label": subscription.label,
        "broker": subscription.broker,
        "components": subscription.members,
        "confirmed": subscription.subscription().is_some(),
        "connected": subscription.subscription().is_some_and(|open| open.is_connected()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Pages {
        Pages::new(Arc::default(), Arc::default(), SystemTime::UNIX_EPOCH, Arc::new(Vec::new))
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_answered_with_what_there_is() {
        let request = |reads, path| Request { reads, path, accept: "" };
        let answer = pages().answer(&request(true, "/")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        for path in ["/metrics", "/healthz", "/readyz"] {
            assert!(answer.text.contains(path), "{answer:?}");
            let known = pages().answer(&request(true, path)).await;
            assert_ne!(known.status, StatusCode::NOT_FOUND, "{known:?}");
        }
        let answer = pages().answer(&request(false, "/metrics")).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
