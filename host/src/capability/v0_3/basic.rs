use super::stream::EventProducer;
use super::{Caller, caller, enter, session};
use crate::capability::bindings::v0_3::wasi::pubsub_data::basic;
use crate::capability::bindings::{Error, Event};
use crate::capability::{HasPubSub, PubSubCtxView};
use wasmtime::Result;
use wasmtime::component::{Access, Accessor, StreamReader};

impl basic::Host for PubSubCtxView<'_> {}

impl<T: 'static> basic::HostWithStore<T> for HasPubSub {
    async fn publish(
        accessor: &Accessor<T, Self>,
        topic: String,
        message: Event,
    ) -> Result<Result<(), Error>> {
        match accessor.with(|mut access| caller(&mut access))? {
            Ok(Caller { session, task }) => Ok(session.publish(&topic, message, task).await),
            Err(refused) => Ok(Err(refused)),
        }
    }

    async fn receive(accessor: &Accessor<T, Self>, topic: String) -> Result<Result<Event, Error>> {
        match session(accessor)? {
            Ok(session) => Ok(session.receive(&topic).await),
            Err(refused) => Ok(Err(refused)),
        }
    }

    fn stream(
        mut access: Access<'_, T, Self>,
        topic: String,
    ) -> Result<Result<StreamReader<Event>, Error>> {
        let opened = enter(&mut access)?.and_then(|session| session.open_stream(&topic));
        match opened {
            Ok((subscription, handed)) => {
                let producer = EventProducer::new(subscription, handed);
                Ok(Ok(StreamReader::new(&mut access, producer)?))
            }
            Err(error) => Ok(Err(error)),
        }
    }
}
