//! A broker that exists for one handler under test: it delivers one event after
//! the other, as it is told, and takes whatever is published.

use crate::broker::driver::{
    Connection, Features, Incoming, Ready, Settlement, Source, SubscribeRequest, Token,
};
use crate::broker::{BrokerError, Event, Qos, Topic};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// One event to be handled.
#[derive(Clone, Debug)]
pub(super) struct Fed {
    pub(super) topic: Topic,
    pub(super) event: Arc<Event>,
    pub(super) attempt: u32,
}

/// See the module.
#[derive(Default)]
pub(super) struct Bench(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Option<Fed>>,
    ready: Mutex<Option<Ready>>,
}

impl Bench {
    /// The handler is to get this event next.
    pub(super) fn feed(&self, fed: Fed) {
        *self.0.waiting.lock() = Some(fed);
        let ready = self.0.ready.lock().clone();
        if let Some(ready) = ready {
            ready.notify();
        }
    }

    /// The broker's side.
    pub(super) fn connection(&self) -> Arc<dyn Connection> {
        Arc::new(BenchConnection(Arc::clone(&self.0)))
    }
}

struct BenchConnection(Arc<Shared>);

#[async_trait]
impl Connection for BenchConnection {
    fn features(&self) -> Features {
        Features {
            queue: false,
            ordered_queue: false,
            pins_keys: false,
            filters: false,
            qos_max: Qos::EffectivelyOnce,
            delayed_redelivery: false,
            replay: false,
            group_limits: false,
            listener: false,
            network: false,
        }
    }

    async fn publish(
        &self,
        _: &Topic,
        _: Arc<Event>,
        _: Qos,
        _: Option<&str>,
    ) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        *self.0.ready.lock() = Some(request.ready);
        Ok(Arc::new(BenchSource(Arc::clone(&self.0))))
    }

    async fn close(&self, _: Duration) {}
}

struct BenchSource(Arc<Shared>);

#[async_trait]
impl Source for BenchSource {
    /// At qos 0, so that nothing is handled again by itself.
    fn take(&self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError> {
        let fed = self.0.waiting.lock().take_if(|_| max > 0);
        into.extend(fed.map(|fed| Incoming {
            token: Token(0),
            event: fed.event,
            topic: fed.topic,
            qos: Qos::AtMostOnce,
            attempt: Some(fed.attempt),
            number: None,
        }));
        Ok(())
    }

    fn settle(&self, _: Token, _: Settlement) {}

    async fn confirmed(&self, _: Token) -> Result<(), BrokerError> {
        Ok(())
    }

    fn dropped(&self) -> u64 {
        0
    }

    fn stop(&self) {}
}
