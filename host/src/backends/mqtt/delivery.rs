//! One delivery of a broker, as the inbox knows it.

use super::parcel::Parcel;
use crate::broker::driver::Token;
use crate::broker::{Event, Qos, Topic};
use std::sync::Arc;

/// One delivery, until the broker knows that it is settled.
pub(super) struct Delivery {
    pub(super) token: Token,
    pub(super) qos: Qos,
    pub(super) event: Arc<Event>,
    pub(super) topic: Topic,
    pub(super) identified: bool,
    pub(super) bytes: usize,
    /// The last connection on which the broker sent it.
    pub(super) connection: u64,
    pub(super) state: State,
}

/// How far its settlement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Buffered, or with the core.
    Unsettled,
    /// Settled, and the broker cannot know: nothing was sent.
    Unsent,
    /// Settled and acknowledged, at qos 2: the broker has not confirmed it.
    Acknowledged,
}

impl Delivery {
    /// Whether a packet may be the one that this delivery came in.
    pub(super) fn carries(&self, parcel: &Parcel) -> bool {
        let (old, new) = (&self.event, &parcel.event);
        let same_name = match parcel.identified {
            true => old.identity() == new.identity(),
            false => old.attributes == new.attributes,
        };
        self.qos == parcel.qos && self.topic == parcel.topic && same_name && old.data == new.data
    }
}
