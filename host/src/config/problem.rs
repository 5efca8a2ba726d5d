//! Everything that can be wrong with a configuration.

use crate::broker::{Qos, TopicError};

/// One thing that is wrong, without its place: [`message`](Self::message) says
/// what was found and what is allowed, [`help`](Self::help) what to do.
///
/// Every kind has a file in `tests/config/invalid`, with the exact text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The file is not UTF-8.
    NotUtf8,
    /// The file is not TOML.
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// A required key is not there.
    MissingKey {
        /// The key.
        key: &'static str,
        /// What it is for.
        purpose: String,
    },
    /// A key that nothing asks for.
    UnknownKey {
        /// The key as it stands.
        key: String,
        /// The nearest key that would have been right.
        nearest: Option<String>,
        /// The backend that has such a key.
        of_backend: Option<&'static str>,
        /// The keys that would have been right.
        known: Vec<&'static str>,
    },
    /// A value of another type.
    WrongType {
        /// The value as it stands.
        found: String,
        /// What is allowed.
        expected: String,
        /// What was most likely meant.
        meant: Option<String>,
    },
    /// A value of the right type that is none of those allowed.
    NotAllowed {
        /// The value as it stands.
        found: String,
        /// The values that are allowed, as they would be written.
        allowed: Vec<String>,
        /// The nearest of them.
        nearest: Option<String>,
    },
    /// A number, duration or size that is too small or too large.
    OutOfRange {
        /// The value as it stands.
        found: String,
        /// The smallest that is allowed.
        min: String,
        /// The largest that is allowed.
        max: String,
    },
    /// A text that is no duration.
    BadDuration {
        /// The value as it stands.
        found: String,
    },
    /// A text that is no size.
    BadSize {
        /// The value as it stands.
        found: String,
        /// What was most likely meant.
        meant: Option<String>,
    },
    /// A text that is no topic, or no filter.
    BadTopic {
        /// The value as it stands.
        found: String,
        /// The rule that it breaks.
        reason: TopicError,
    },
    /// A name with characters that a name may not have.
    BadName {
        /// The value as it stands.
        found: String,
    },
    /// A value that breaks a rule of its own key.
    BadValue {
        /// The value as it stands.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `${` that is not followed by a name and `}`.
    BadVariable {
        /// The value as it stands.
        found: String,
    },
    /// The environment lacks a variable.
    UnsetVariable {
        /// Its name.
        name: String,
    },
    /// A file or directory that is named and cannot be used.
    BadFile {
        /// Where it was looked for.
        path: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// No backend has this name.
    UnknownBackend {
        /// The value as it stands.
        found: String,
        /// The nearest name that would have been right.
        nearest: Option<String>,
        /// The names that would have been right.
        known: Vec<&'static str>,
    },
    /// The backend was left out of this build.
    BackendNotBuilt {
        /// Its name.
        name: &'static str,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// The backend comes with a later version.
    BackendLater {
        /// Its name.
        name: &'static str,
    },
    /// A valid value that a later version will understand.
    Later {
        /// The value as it stands.
        found: String,
        /// The only value that this version understands; `None`: leave the key out.
        only: Option<&'static str>,
    },
    /// Two capabilities have one id.
    DuplicateId {
        /// The id.
        id: String,
        /// The line of the first.
        line: usize,
    },
    /// Two components have one name.
    DuplicateComponent {
        /// The name.
        name: String,
        /// The line of the first, where it is in the file.
        line: Option<usize>,
    },
    /// Two keys that exclude each other.
    Conflict {
        /// The other key.
        other: &'static str,
        /// Why they exclude each other.
        reason: &'static str,
    },
    /// A key that means nothing without another.
    Requires {
        /// The other key, or keys.
        other: &'static str,
        /// Why it is needed.
        reason: &'static str,
    },
    /// `group` with `topic`.
    GroupWithTopic,
    /// Dead letters would come back to where they came from.
    DeadLetterLoop {
        /// The dead-letter topic.
        topic: String,
        /// The filter that it matches.
        filter: String,
    },
    /// `max_attempts` without a word on what comes after them.
    NothingAfterAttempts,
    /// `ID:TOPIC` with the id of another capability, where only its own makes sense.
    OtherCapability {
        /// The id.
        id: String,
        /// The id of the capability that the key belongs to.
        own: String,
    },
    /// A quality of service that the backend cannot keep.
    QosTooHigh {
        /// What was asked for.
        found: Qos,
        /// The highest that it can keep.
        max: Qos,
        /// Its name.
        backend: &'static str,
    },
    /// `queue` with a backend that has no queues.
    NoQueues {
        /// Its name.
        backend: &'static str,
    },
    /// `components` names one that is not there.
    UnknownComponent {
        /// The name as it stands.
        name: String,
        /// The nearest name that would have been right.
        nearest: Option<String>,
        /// The names that would have been right.
        known: Vec<String>,
    },
    /// The component's file cannot be used.
    BadComponent {
        /// The component.
        component: String,
        /// Why.
        reason: String,
        /// What to do about it.
        help: Option<String>,
    },
    /// The component imports what the host does not have.
    ForeignImport {
        /// The component.
        component: String,
        /// The import.
        import: String,
    },
    /// The component has neither a `main` nor a handler.
    NothingToRun {
        /// The component.
        component: String,
    },
    /// The component has a handler and no `main`, and nothing is pushed to it.
    NeverPushed {
        /// The component.
        component: String,
    },
    /// The component imports a function that no binding serves.
    NotServed {
        /// The component.
        component: String,
        /// The function.
        function: &'static str,
    },
    /// A push binding in whose scope no component has a handler.
    NoHandler,
    /// A push binding names a component that has no handler.
    NotAHandler {
        /// The component.
        component: String,
    },
    /// A pull binding names a component that does not pull.
    NotAPuller {
        /// The component.
        component: String,
    },
    /// Two brokers could take a topic that the component publishes.
    AmbiguousPublish {
        /// The component.
        component: String,
        /// What the first broker takes.
        first: String,
        /// Which broker that is.
        first_broker: String,
        /// The line of its binding.
        line: usize,
        /// What the second broker takes.
        second: String,
        /// Which broker that is.
        second_broker: String,
    },
    /// A component would get the same subscription twice.
    DuplicateSubscription {
        /// The component.
        component: String,
        /// The text of `topic` or `queue`.
        name: String,
        /// The line of the first.
        line: usize,
        /// Whether it is pulled, so that its name would mean two.
        pull: bool,
    },
}

impl Problem {
    /// What was found, and what is allowed.
    #[must_use]
    pub fn message(&self) -> String {
        use Problem as P;
        match self {
            P::NotUtf8 => "the file is not UTF-8 text".into(),
            P::Syntax { message } => format!("this is not TOML: {message}"),
            P::MissingKey { key, purpose } => format!("`{key}` is missing: {purpose}"),
            P::UnknownKey { key, .. } => format!("unknown key `{key}`"),
            P::WrongType { found, expected, .. } => format!("found {found}, expected {expected}"),
            P::NotAllowed { found, allowed, .. } => {
                format!("found {found}, expected {}", list(allowed, "or"))
            }
            P::OutOfRange { found, min, max } => {
                format!("found {found}, expected {min} to {max}")
            }
            P::BadDuration { found } => {
                format!("found {found}, expected {}", super::units::DURATION_FORM)
            }
            P::BadSize { found, .. } => format!("found {found}, expected {}", super::units::SIZE_FORM),
            P::BadTopic { found, reason } => format!("found {found}: {reason}"),
            P::BadName { found } => format!(
                "found {found}, expected a name of letters, digits, `.`, `_` and `-`, \
                 of at most {} characters",
                super::section::NAME_CHARS_MAX
            ),
            P::BadValue { found, reason } => format!("found {found}: {reason}"),
            P::BadVariable { found } => {
                format!("found {found}, expected `${{NAME}}` with the name of a variable")
            }
            P::UnsetVariable { name } => {
                format!("the environment variable `{name}` is not set")
            }
            P::BadFile { path, reason } => format!("cannot use {path}: {reason}"),
            P::UnknownBackend { found, known, .. } => {
                format!("found {found}, expected {}", list(known, "or"))
            }
            P::BackendNotBuilt { name, .. } => format!("this build has no backend `{name}`"),
            P::BackendLater { name } => format!("the backend `{name}` is not in this version yet"),
            P::Later { found, only: Some(only) } => {
                format!("found {found}, which is not in this version yet; expected {only}")
            }
            P::Later { only: None, .. } => "this key is not in this version yet".into(),
            P::DuplicateId { id, line } => {
                format!("another capability has the id `{id}`, in line {line}")
            }
            P::DuplicateComponent { name, line: Some(line) } => {
                format!("another component has the name `{name}`, in line {line}")
            }
            P::DuplicateComponent { name, line: None } => {
                format!("two components on the command line have the name `{name}`")
            }
            P::Conflict { other, reason } => format!("not together with `{other}`: {reason}"),
            P::Requires { other, reason } => format!("needs {other}: {reason}"),
            P::GroupWithTopic => {
                "not together with `topic`: only the components that share a queue are a group".into()
            }
            P::DeadLetterLoop { topic, filter } => format!(
                "this binding itself subscribes to `{topic}`, through `{filter}`: \
                 dead letters would come back for ever"
            ),
            P::NothingAfterAttempts => {
                "nothing says what becomes of an event after its last attempt".into()
            }
            P::OtherCapability { id, own } => {
                format!("`{id}` is another capability; this one is `{own}`")
            }
            P::QosTooHigh { found, max, backend } => {
                format!("found {found}, but {backend} keeps qos {max} at most")
            }
            P::NoQueues { backend } => format!("{backend} has no queues"),
            P::UnknownComponent { name, .. } => format!("there is no component `{name}`"),
            P::BadComponent { component, reason, .. } => {
                format!("component `{component}` cannot be used: {reason}")
            }
            P::ForeignImport { component, import } => {
                format!("component `{component}` imports `{import}`, which this host does not have")
            }
            P::NothingToRun { component } => format!(
                "component `{component}` has nothing to run: it exports neither \
                 `wasi:pubsub-data/on-message` nor `wasi:cli/run`"
            ),
            P::NeverPushed { component } => {
                format!("component `{component}` handles events, but no binding pushes any to it")
            }
            P::NotServed { component, function } => {
                format!("component `{component}` imports `{function}`, but {}", unserved(function))
            }
            P::NoHandler => {
                "no component exports `wasi:pubsub-data/on-message` to push these events to".into()
            }
            P::NotAHandler { component } => format!(
                "component `{component}` does not export `wasi:pubsub-data/on-message`, \
                 and this binding pushes"
            ),
            P::NotAPuller { component } => format!(
                "component `{component}` imports none of `receive`, `stream` and `pull`, \
                 and this binding is pulled"
            ),
            P::AmbiguousPublish { component, first, first_broker, line, second, second_broker } => {
                format!(
                    "two brokers could take what component `{component}` publishes: \
                     {first_broker} takes {first} (line {line}), {second_broker} takes {second}"
                )
            }
            P::DuplicateSubscription { component, name, line, pull: false } => {
                format!("component `{component}` gets `{name}` from the same broker already, in line {line}")
            }
            P::DuplicateSubscription { component, name, line, pull: true } => {
                format!("`{name}` is the name of another subscription of component `{component}`, in line {line}")
            }
        }
    }

    /// What to do about it, where there is more to say.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        use Problem as P;
        Some(match self {
            P::UnknownKey { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            P::UnknownKey { of_backend: Some(backend), .. } => {
                format!("this is a key of {backend}")
            }
            P::UnknownKey { known, .. } => {
                let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
                format!("what can stand here: {}", known.join(", "))
            }
            P::WrongType { meant: Some(meant), .. } | P::BadSize { meant: Some(meant), .. } => {
                format!("did you mean {meant}?")
            }
            P::NotAllowed { nearest: Some(nearest), .. } => format!("did you mean {nearest}?"),
            P::UnknownBackend { nearest: Some(nearest), .. } => format!("did you mean {nearest}?"),
            P::BadVariable { .. } => "`$${` stands for `${` itself".into(),
            P::BackendNotBuilt { feature, .. } => format!("build it with `--features {feature}`"),
            P::Later { only: None, .. } => "leave it out".into(),
            P::DuplicateId { .. } => {
                "give each an `id` of its own; without one, it is the `name`".into()
            }
            P::DuplicateComponent { .. } => {
                "give each a `name` of its own in its [[component]] table".into()
            }
            P::GroupWithTopic => "leave `group` out, or write `queue` instead of `topic`".into(),
            P::DeadLetterLoop { .. } => "choose a topic outside of the filter".into(),
            P::NothingAfterAttempts => {
                "name a `dead_letter` topic, or write on_exhausted = \"drop\"".into()
            }
            P::UnknownComponent { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`?")
            }
            P::UnknownComponent { known, .. } => match known.as_slice() {
                [] => "there are no components".into(),
                known => {
                    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                    format!("there is {}", list(&known, "and"))
                }
            },
            P::BadComponent { help: Some(help), .. } => help.clone(),
            P::ForeignImport { .. } => {
                "the host has WASI 0.2, WASI 0.3 and `wasi:pubsub-data`, and nothing else".into()
            }
            P::NothingToRun { .. } => {
                "export a handler with `#[pubsub::on_message]`, or build a program with a `main`".into()
            }
            P::NeverPushed { component } => format!(
                "write a binding with delivery = \"push\" that `{component}` is in the scope of"
            ),
            P::NotServed { function: "publish", .. } => {
                "a binding serves all components, or those that its `components` name; \
                 its `publish` says which topics"
                    .into()
            }
            P::NotServed { .. } => {
                "write a binding with a `topic` or `queue` and delivery = \"pull\"".into()
            }
            P::NoHandler => "run a component that has one, or write delivery = \"pull\"".into(),
            P::NotAHandler { component } | P::NotAPuller { component } => {
                format!("take `{component}` out of `components`, or change `delivery`")
            }
            P::AmbiguousPublish { .. } => {
                "say in each binding what it takes, as in publish = [\"orders/#\"]; \
                 [] takes nothing. Equal connection keys mean one broker"
                    .into()
            }
            P::DuplicateSubscription { .. } => {
                "take one of the two away, or tell them apart by `components`".into()
            }
            _ => return None,
        })
    }
}

fn unserved(function: &str) -> &'static str {
    match function {
        "publish" => "no binding lets it publish anything",
        _ => "no binding gives it a subscription to pull from",
    }
}

/// `a`, `a or b`, `a, b or c`.
fn list<T: AsRef<str>>(items: &[T], last: &str) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.split_last() {
        None => String::new(),
        Some((only, [])) => (*only).to_owned(),
        Some((end, others)) => format!("{} {last} {end}", others.join(", ")),
    }
}
