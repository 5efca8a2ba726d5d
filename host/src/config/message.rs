//! The text of each problem, in one place.

use super::Problem;
use super::section::NAME_CHARS_MAX;
use super::units::{DURATION_FORM, SIZE_FORM};

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
                format!("found {found}, expected {}", DURATION_FORM)
            }
            P::BadSize { found, .. } => format!("found {found}, expected {}", SIZE_FORM),
            P::BadTopic { found, reason } => format!("found {found}: {reason}"),
            P::BadName { found } => format!(
                "found {found}, expected a name of letters, digits, `.`, `_` and `-`, \
                 of at most {} characters",
                NAME_CHARS_MAX
            ),
            P::BadValue { found, reason } => format!("found {found}: {reason}"),
            P::BadFilter { reason } => reason.clone(),
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
            P::DuplicateId { id, line } => {
                format!("another capability has the id `{id}`, in line {line}")
            }
            P::DuplicateComponent { name, line: Some(line) } => {
                format!("another component has the name `{name}`, in line {line}")
            }
            P::DuplicateComponent { name, line: None } => {
                format!("two components have the name `{name}`, one of them on the command line")
            }
            P::Conflict { other, reason } => format!("not together with `{other}`: {reason}"),
            P::Requires { other, reason } => format!("needs {other}: {reason}"),
            P::GroupWithTopic => {
                "not together with `topic`: only the components that share a queue are a group"
                    .into()
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
                format!("{backend} cannot keep qos {found}: it has {max} at most")
            }
            P::NoQueues { backend } => format!("{backend} has no queues"),
            P::NoOrderedQueues { backend } => format!(
                "not together with `queue`: {backend} shares the events of a queue out to all \
                 its subscribers, wherever they run, and keeps none of them in order"
            ),
            P::SharedOrderedQueue { queue, group, line } => format!(
                "another binding shares the queue `{queue}` of group `{group}`, in line {line}: \
                 events that go to two subscriptions have no order"
            ),
            P::NoReplay { backend, so } => {
                format!("{backend} does not remember what was published: {so}")
            }
            P::NoGroupLimits { backend } => format!(
                "{backend} has no limit for all subscribers of a queue together: \
                 each has its `max_in_flight`"
            ),
            P::NoListener { backend } => format!(
                "{backend} cannot listen here: only the built-in broker can, in builds that have the feature `listener`"
            ),
            P::ListensTwice { line } => {
                format!("another binding says where this broker listens, in line {line}")
            }
            P::QueueDiffers { key, queue, group, line } => format!(
                "another binding shares the queue `{queue}` of group `{group}`, in line {line}, \
                 and says something else of `{key}`: a queue has one"
            ),
            P::StoreDiffers { line } => format!(
                "the binding in line {line} has the same `path`, and another `max_bytes` or \
                 `subscription_expiry`: a store has one of each"
            ),
            P::SubscriptionNameTaken { name, line } => {
                format!("another subscription at this broker has the name `{name}`, in line {line}")
            }
            P::NameOfSeveral { name, components } => {
                let components: Vec<_> = components.iter().map(|c| format!("`{c}`")).collect();
                format!(
                    "{} would each have a subscription of the name `{name}`",
                    list(&components, "and")
                )
            }
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
                format!(
                    "component `{component}` gets `{name}` from the same broker already, in line {line}"
                )
            }
            P::DuplicateSubscription { component, name, line, pull: true } => {
                format!(
                    "`{name}` is the name of another subscription of component `{component}`, in line {line}"
                )
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
            P::BadFilter { .. } => {
                "a filter reads like attributes.region = \"eu\" AND NOT attributes:test".into()
            }
            P::NoOrderedQueues { .. } => {
                "write `topic` instead of `queue` for one subscriber, or leave `order` out".into()
            }
            P::SharedOrderedQueue { .. } => {
                "take one of the two away: the components of one binding share the queue".into()
            }
            P::QueueDiffers { .. } => "say the same in both, or give one another `group`".into(),
            P::NoListener { .. } => "write it for pubsub.memory or pubsub.disk".into(),
            P::ListensTwice { .. } => "write all addresses in one of the two".into(),
            P::StoreDiffers { .. } => "say the same in both, or name another `path`".into(),
            P::SubscriptionNameTaken { .. } => {
                "give one of the two a name of its own: subscription = \"NAME\"".into()
            }
            P::NameOfSeveral { .. } => {
                "say in `components` which one it is for, and write a binding for each".into()
            }
            P::BadVariable { .. } => "`$${` stands for `${` itself".into(),
            P::BackendNotBuilt { feature, .. } => format!("build it with `--features {feature}`"),
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
            P::ForeignImport { import, .. } if import.starts_with("wasi:pubsub") => {
                "the host has the interfaces `basic` and `pull` of `wasi:pubsub-data`, in the versions \
                 0.2.0-draft and 0.3.0-draft; the version of a draft must match exactly"
                    .into()
            }
            P::ForeignImport { .. } => {
                "the host has WASI 0.2, WASI 0.3 and `wasi:pubsub-data`, and nothing else".into()
            }
            P::NothingToRun { .. } => {
                "export a handler with `#[pubsub::on_message]`, or build a program with a `main`"
                    .into()
            }
            P::NeverPushed { component } => {
                format!("write a [[capability.config]] with delivery = \"push\" for `{component}`")
            }
            P::NotServed { function: "publish", .. } => {
                "a binding serves all components, or those that its `components` name; \
                 its `publish` says which topics"
                    .into()
            }
            P::NotServed { .. } => {
                "write a [[capability.config]] with a `topic` or `queue` and delivery = \"pull\""
                    .into()
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
pub(super) fn list<T: AsRef<str>>(items: &[T], last: &str) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.split_last() {
        None => String::new(),
        Some((only, [])) => (*only).to_owned(),
        Some((end, others)) => format!("{} {last} {end}", others.join(", ")),
    }
}
