//! The host functions of `wasi:pubsub-data@0.3.0-draft`.

mod basic;
mod pull;
mod stream;

use super::bindings::Error;
use super::session::Session;
use super::{HasPubSub, PubSubCtxView};
use std::sync::Arc;
use wasmtime::component::{Access, Accessor, GuestTaskId};
use wasmtime::{AsContextMut, Result};

/// The session of the instance that calls; `Err` where the call was abandoned.
fn enter<T: 'static>(access: &mut Access<'_, T, HasPubSub>) -> Result<Result<Arc<Session>, Error>> {
    Ok(caller(access)?.map(|caller| caller.session))
}

/// The same, from an asynchronous host function.
fn session<T: 'static>(accessor: &Accessor<T, HasPubSub>) -> Result<Result<Arc<Session>, Error>> {
    accessor.with(|mut access| enter(&mut access))
}

/// Who calls.
struct Caller {
    session: Arc<Session>,
    /// The call of the handler that it is a part of, where that matters.
    task: Option<GuestTaskId>,
}

fn caller<T: 'static>(access: &mut Access<'_, T, HasPubSub>) -> Result<Result<Caller, Error>> {
    let session = {
        let view: PubSubCtxView<'_> = access.get();
        Arc::clone(view.session)
    };
    if !session.has_abandoned() && !session.tells_calls_apart() {
        return Ok(Ok(Caller { session, task: None }));
    }
    let task = access.as_context_mut().async_call_stack()?.last();
    if task.is_some_and(|task| session.is_abandoned(task)) {
        return Ok(Err(Error::Closed));
    }
    Ok(Ok(Caller { session, task }))
}
