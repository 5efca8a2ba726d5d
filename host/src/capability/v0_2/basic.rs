use crate::capability::PubSubCtxView;
use crate::capability::bindings::v0_2::wasi::pubsub_data::{basic, types};
use crate::capability::bindings::{Error, Event};
use crate::capability::v0_2::EventStream;
use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::DynPollable;

impl types::Host for PubSubCtxView<'_> {}

impl basic::Host for PubSubCtxView<'_> {
    async fn publish(&mut self, topic: String, message: Event) -> Result<Result<(), Error>> {
        Ok(self.session.publish(&topic, message, None).await)
    }

    async fn receive(&mut self, topic: String) -> Result<Result<Event, Error>> {
        Ok(self.session.receive(&topic).await)
    }

    async fn stream(&mut self, topic: String) -> Result<Result<Resource<EventStream>, Error>> {
        match self.session.open_stream(&topic) {
            Ok((subscription, handed)) => {
                let early = self.session.next_call_acknowledges();
                Ok(Ok(self.table.push(EventStream::new(subscription, handed, early))?))
            }
            Err(error) => Ok(Err(error)),
        }
    }
}

impl basic::HostEventStream for PubSubCtxView<'_> {
    async fn read(
        &mut self,
        stream: Resource<EventStream>,
        max: u32,
    ) -> Result<Result<Vec<Event>, Error>> {
        Ok(self.table.get_mut(&stream)?.read(max).await)
    }

    async fn subscribe(&mut self, stream: Resource<EventStream>) -> Result<Resource<DynPollable>> {
        wasmtime_wasi::p2::subscribe(self.table, stream)
    }

    async fn drop(&mut self, stream: Resource<EventStream>) -> Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
