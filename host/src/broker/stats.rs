//! What a subscription has done so far.

/// Counts since the subscription was opened, and what is there now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Deliveries handed out to takers, each attempt counted.
    pub received: u64,
    /// Events acknowledged by a verdict, or as a repetition at qos 2.
    pub acked: u64,
    /// Events that the filter did not want: they were acknowledged.
    pub filtered: u64,
    /// Deliveries that failed and are tried again.
    pub retried: u64,
    /// Events rejected by a verdict.
    pub rejected: u64,
    /// Events stored on the dead-letter topic.
    pub dead_lettered: u64,
    /// Events given up: at qos 0 because the buffer was full or they failed,
    /// otherwise as `Exhausted::Drop` and `Exhausted::Never` say.
    pub dropped: u64,
    /// Leases whose deadline passed.
    pub expired: u64,
    /// Events leased now.
    pub in_flight: usize,
    /// Events held by the core now, and not leased: they wait for a retry, for
    /// their turn, for a dead letter to be stored, or for the verdict on another
    /// delivery.
    pub waiting: usize,
    /// Events in the backend's buffer or store that nobody has taken, or that the
    /// broker holds back for a retry. Where a group shares a queue, all of the
    /// queue's.
    pub queued: usize,
}
