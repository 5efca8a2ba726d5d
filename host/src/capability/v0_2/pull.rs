use crate::broker::Verdict;
use crate::capability::PubSubCtxView;
use crate::capability::bindings::v0_2::wasi::pubsub_data::pull;
use crate::capability::bindings::{Error, Event};
use crate::capability::delivery::Delivery;
use wasmtime::Result;
use wasmtime::component::Resource;

impl pull::Host for PubSubCtxView<'_> {
    async fn ack_all(
        &mut self,
        deliveries: Vec<Resource<Delivery>>,
    ) -> Result<Vec<Result<(), Error>>> {
        let mut acks = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let delivery = self.table.delete(delivery)?;
            acks.push(async move { delivery.settle(Verdict::Ack).await });
        }
        Ok(futures_util::future::join_all(acks).await)
    }

    async fn pull(
        &mut self,
        subscription: String,
        max: u32,
        wait_ms: u64,
    ) -> Result<Result<Vec<Resource<Delivery>>, Error>> {
        match self.session.pull(&subscription, max, wait_ms).await {
            Ok(leases) => Ok(Ok(leases
                .into_iter()
                .map(|lease| self.table.push(Delivery::new(lease)))
                .collect::<Result<_, _>>()?)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl pull::HostDelivery for PubSubCtxView<'_> {
    async fn event(&mut self, delivery: Resource<Delivery>) -> Result<Event> {
        Ok(self.table.get(&delivery)?.event())
    }

    async fn ack(&mut self, delivery: Resource<Delivery>) -> Result<Result<(), Error>> {
        Ok(self.table.get(&delivery)?.settle(Verdict::Ack).await)
    }

    async fn nack(
        &mut self,
        delivery: Resource<Delivery>,
        after_ms: u64,
    ) -> Result<Result<(), Error>> {
        Ok(self.table.get(&delivery)?.nack(after_ms).await)
    }

    async fn reject(
        &mut self,
        delivery: Resource<Delivery>,
        reason: String,
    ) -> Result<Result<(), Error>> {
        Ok(self.table.get(&delivery)?.settle(Verdict::Reject { reason }).await)
    }

    async fn extend(
        &mut self,
        delivery: Resource<Delivery>,
        deadline_ms: u64,
    ) -> Result<Result<(), Error>> {
        Ok(self.table.get(&delivery)?.extend(deadline_ms).await)
    }

    async fn drop(&mut self, delivery: Resource<Delivery>) -> Result<()> {
        self.table.delete(delivery)?.drop_by_guest();
        Ok(())
    }
}
