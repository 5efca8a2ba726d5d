use super::session;
use crate::broker::Verdict;
use crate::capability::bindings::v0_3::wasi::pubsub_data::pull;
use crate::capability::bindings::{Error, Event};
use crate::capability::delivery::Delivery;
use crate::capability::{HasPubSub, PubSubCtxView};
use wasmtime::Result;
use wasmtime::component::{Accessor, Resource};

/// The delivery behind a handle; an abandoned call gets none.
fn find<T: 'static>(
    accessor: &Accessor<T, HasPubSub>,
    delivery: &Resource<Delivery>,
) -> Result<Result<Delivery, Error>> {
    match session(accessor)? {
        Ok(_) => accessor.with(|mut access| Ok(Ok(access.get().table.get(delivery)?.clone()))),
        Err(refused) => Ok(Err(refused)),
    }
}

impl pull::Host for PubSubCtxView<'_> {}

impl pull::HostDelivery for PubSubCtxView<'_> {
    fn event(&mut self, delivery: Resource<Delivery>) -> Result<Event> {
        Ok(self.table.get(&delivery)?.event())
    }

    fn drop(&mut self, delivery: Resource<Delivery>) -> Result<()> {
        self.table.delete(delivery)?.drop_by_guest();
        Ok(())
    }
}

impl<T: 'static> pull::HostWithStore<T> for HasPubSub {
    async fn ack_all(
        accessor: &Accessor<T, Self>,
        deliveries: Vec<Resource<Delivery>>,
    ) -> Result<Vec<Result<(), Error>>> {
        let mut acks = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let found = find(accessor, &delivery)?;
            accessor.with(|mut access| access.get().table.delete(delivery))?;
            acks.push(async move { found?.settle(Verdict::Ack).await });
        }
        Ok(futures_util::future::join_all(acks).await)
    }

    async fn pull(
        accessor: &Accessor<T, Self>,
        subscription: String,
        max: u32,
        wait_ms: u64,
    ) -> Result<Result<Vec<Resource<Delivery>>, Error>> {
        let session = match session(accessor)? {
            Ok(session) => session,
            Err(refused) => return Ok(Err(refused)),
        };
        match session.pull(&subscription, max, wait_ms).await {
            Ok(leases) => accessor.with(|mut access| {
                let table = access.get().table;
                let push = |lease| table.push(Delivery::new(lease));
                Ok(Ok(leases.into_iter().map(push).collect::<Result<_, _>>()?))
            }),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl<T: 'static> pull::HostDeliveryWithStore<T> for HasPubSub {
    async fn ack(
        accessor: &Accessor<T, Self>,
        delivery: Resource<Delivery>,
    ) -> Result<Result<(), Error>> {
        match find(accessor, &delivery)? {
            Ok(delivery) => Ok(delivery.settle(Verdict::Ack).await),
            Err(refused) => Ok(Err(refused)),
        }
    }

    async fn nack(
        accessor: &Accessor<T, Self>,
        delivery: Resource<Delivery>,
        after_ms: u64,
    ) -> Result<Result<(), Error>> {
        match find(accessor, &delivery)? {
            Ok(delivery) => Ok(delivery.nack(after_ms).await),
            Err(refused) => Ok(Err(refused)),
        }
    }

    async fn reject(
        accessor: &Accessor<T, Self>,
        delivery: Resource<Delivery>,
        reason: String,
    ) -> Result<Result<(), Error>> {
        match find(accessor, &delivery)? {
            Ok(delivery) => Ok(delivery.settle(Verdict::Reject { reason }).await),
            Err(refused) => Ok(Err(refused)),
        }
    }

    async fn extend(
        accessor: &Accessor<T, Self>,
        delivery: Resource<Delivery>,
        deadline_ms: u64,
    ) -> Result<Result<(), Error>> {
        match find(accessor, &delivery)? {
            Ok(delivery) => Ok(delivery.extend(deadline_ms).await),
            Err(refused) => Ok(Err(refused)),
        }
    }
}
