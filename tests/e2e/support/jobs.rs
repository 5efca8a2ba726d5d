//! The configuration that most tests have: jobs for a handler.

use super::Scene;

/// A source that publishes jobs, a handler that does them, and a receiver that
/// prints dead letters and what the handler publishes to `out/…`.
pub(crate) struct Jobs<'a> {
    /// The file of the handler, without `.wasm`.
    pub(crate) guest: &'a str,
    /// `queue` or `topic`.
    pub(crate) kind: &'a str,
    /// Its retry policy.
    pub(crate) retry: &'a str,
    /// Further lines of the handler's binding.
    pub(crate) binding: &'a str,
    /// Further lines of its table.
    pub(crate) component: &'a str,
    /// Lines at the top of the file.
    pub(crate) top: &'a str,
    /// What the source does: payloads to publish to `jobs/0`, in this order.
    pub(crate) events: &'a [&'a str],
}

impl Default for Jobs<'_> {
    fn default() -> Self {
        Self {
            guest: "faulty",
            kind: "queue",
            retry: "backoff = \"10ms\", backoff_max = \"50ms\"",
            binding: "dead_letter = \"dead/jobs\"",
            component: "instances = 1",
            top: "",
            events: &[],
        }
    }
}

impl Jobs<'_> {
    /// Writes it as the configuration of a scene.
    pub(crate) fn write(&self, scene: &Scene) {
        let Self { guest, kind, retry, binding, component, top, events } = self;
        let steps: Vec<String> =
            events.iter().map(|event| format!("publish jobs/0 1 {event}")).collect();
        // A list of strings reads alike in JSON and TOML.
        let steps = serde_json::to_string(&steps).expect("a list of strings");
        scene.write(&format!(
            r#"specversion = "0.2"
{top}

[[capability]]
name = "pubsub.memory"

[[capability.config]]
{kind} = "jobs/+"
components = ["handler"]
delivery = "push"
on_message = "on_message"
publish = ["out/#", "jobs/#"]
retry = {{ {retry} }}
{binding}

[[capability.config]]
topic = "dead/+"
components = ["letters"]
delivery = "push"

[[capability.config]]
topic = "out/+"
components = ["letters"]
delivery = "push"

[[capability.config]]
components = ["source"]
publish = ["jobs/#"]

[[component]]
name = "handler"
path = "$GUESTS/{guest}.wasm"
{component}

[[component]]
name = "letters"
path = "$GUESTS/receiver.wasm"

[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = {steps}
"#
        ));
    }
}
