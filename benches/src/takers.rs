//! Subscribers without a guest, at the seam of the drivers.

use crate::service;
use anyhow::Result;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::Notify;
use wasi_pubsub::broker::driver::{
    Connection, Incoming, Ready, Settlement, Source, SubscribeRequest,
};
use wasi_pubsub::broker::{Event, Qos, TopicFilter};

/// How many events are taken at a time, and published before others get a turn.
pub(crate) const BURST: usize = 64;

/// Takes events and acknowledges them.
pub(crate) struct Taker {
    source: Arc<dyn Source>,
    ready: Arc<Notify>,
    taken: Vec<Incoming>,
}

impl Taker {
    pub(crate) async fn open(
        connection: &dyn Connection,
        request: SubscribeRequest,
    ) -> Result<Self> {
        let ready = Arc::new(Notify::new());
        let told = ready.clone();
        let request =
            SubscribeRequest { ready: Ready(Arc::new(move || told.notify_one())), ..request };
        let source = connection.subscribe(request).await?;
        Ok(Self { source, ready, taken: Vec::with_capacity(BURST) })
    }

    /// Acknowledges what is there now, up to [`BURST`]. Returns how many.
    pub(crate) fn take(&mut self, mut seen: impl FnMut(&Incoming)) -> Result<usize> {
        self.source.take(BURST, &mut self.taken)?;
        let count = self.taken.len();
        for incoming in self.taken.drain(..) {
            seen(&incoming);
            if incoming.qos > Qos::AtMostOnce {
                self.source.settle(incoming.token, Settlement::Ack);
            }
        }
        Ok(count)
    }

    /// Acknowledges so many, and what comes with the last ones. Returns how many.
    pub(crate) async fn take_all(
        &mut self,
        count: u64,
        mut seen: impl FnMut(&Incoming),
    ) -> Result<u64> {
        let mut taken = 0;
        while taken < count {
            match self.take(&mut seen)? {
                0 => self.ready.notified().await,
                more => {
                    taken += more as u64;
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(taken)
    }
}

/// A subscription of a name to the topics of a filter.
pub(crate) fn request(label: &str, filter: &str) -> Result<SubscribeRequest> {
    Ok(SubscribeRequest {
        label: label.to_owned(),
        filter: TopicFilter::new(filter)?,
        max_in_flight: 1024,
        ..service::request()?
    })
}

/// An event with data of its own, as publishers bring it.
pub(crate) fn event(id: u64, data: &[u8]) -> Event {
    Event {
        id: id.to_string(),
        source: "/bench".to_owned(),
        kind: "bench".to_owned(),
        data: Bytes::copy_from_slice(data),
        ..Event::default()
    }
}
