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
    /// A `filter` that breaks its grammar. The place is within it.
    BadFilter {
        /// What was found there, and what is allowed.
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
        /// The line of the first; `None` where one of the two is on the command
        /// line.
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
    /// `order` with `queue`, with a backend that shares a queue out to all
    /// subscribers alike.
    NoOrderedQueues {
        /// Its name.
        backend: &'static str,
    },
    /// What needs topics that remember, with a backend whose topics do not.
    NoReplay {
        /// Its name.
        backend: &'static str,
        /// What therefore cannot be, in words.
        so: &'static str,
    },
    /// `group_max_in_flight` with a backend that cannot hold a group to it.
    NoGroupLimits {
        /// Its name.
        backend: &'static str,
    },
    /// `listen` with a backend whose brokers are elsewhere.
    NoListener {
        /// Its name.
        backend: &'static str,
    },
    /// Two bindings of one broker say where it listens.
    ListensTwice {
        /// The line of the first.
        line: usize,
    },
    /// `order` with a queue that another binding shares.
    SharedOrderedQueue {
        /// The text of `queue`.
        queue: String,
        /// The group.
        group: String,
        /// The line of the other binding.
        line: usize,
    },
    /// Two bindings share a queue, and do not agree on what it has once.
    QueueDiffers {
        /// The key.
        key: &'static str,
        /// The text of `queue`.
        queue: String,
        /// The group.
        group: String,
        /// The line of the other binding.
        line: usize,
    },
    /// Two bindings name one store, and do not agree on its bounds.
    StoreDiffers {
        /// The line of the other binding.
        line: usize,
    },
    /// Two subscriptions have one name at their broker.
    SubscriptionNameTaken {
        /// The name.
        name: String,
        /// The line of the first.
        line: usize,
    },
    /// A topic binding with a name is for several components, and so is several
    /// subscriptions.
    NameOfSeveral {
        /// The name.
        name: String,
        /// The components.
        components: Vec<String>,
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
