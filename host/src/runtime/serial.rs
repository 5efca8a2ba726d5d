//! The worker of a synchronous handler: one event after the other.

use super::component::Running;
use super::worker::{Worker, trap_text};
use crate::broker::{Lease, Verdict};
use crate::capability::{Cause, Handler, Role};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// Handles events until the subscriptions end.
pub(super) async fn serve(mut worker: Worker) {
    let mut warm: Option<(Running, Handler)> = None;
    loop {
        if warm.is_none() {
            warm = worker.recover(Role::Handler).await;
        }
        let Ok(lease) = worker.inbox.next().await else { break };
        let Some(lease) = worker.fits(lease) else { continue };
        let (running, handler, lease) = match warm.take() {
            Some((running, handler)) => (running, handler, lease),
            None => match worker.start(Role::Handler, lease).await {
                Some(started) => started,
                None => continue,
            },
        };
        if let Some(running) = handle(&worker, running, &handler, lease).await
            && !worker.is_fresh()
        {
            warm = Some((running, handler));
        }
    }
}

/// Handles one event. Returns the instance where it can handle another.
async fn handle(
    worker: &Worker,
    mut running: Running,
    handler: &Handler,
    lease: Lease,
) -> Option<Running> {
    let observation = worker.component.observe(&lease);
    if let Some(observation) = &observation {
        running.session.observe(observation, None);
    }
    let called = within(worker.timeout(), handler.call(&mut running.store, &lease)).await;
    let (verdict, cause) = match called {
        Some(Ok(verdict)) => (verdict, Cause::Returned),
        Some(Err(error)) => (retry(format!("trapped: {}", trap_text(&error))), Cause::Trapped),
        None => (retry(worker.timeout_text()), Cause::TimedOut),
    };
    if let Some(observation) = &observation {
        running.session.observed(None);
        observation.end(Some(&verdict), cause);
    }
    running.session.settle(match &verdict {
        Verdict::Ack => Ok(()),
        Verdict::Retry { reason, .. } | Verdict::Reject { reason } => Err(reason),
    });
    if cause == Cause::Returned {
        worker.conclude(lease, verdict);
        Some(running)
    } else {
        // The store goes first: what the guest still wanted to write is out, and
        // nothing of it runs any more, before the event is delivered again.
        drop(running);
        worker.component.status.instance_failed();
        worker.conclude(lease, verdict);
        None
    }
}

fn retry(reason: String) -> Verdict {
    Verdict::Retry { after: None, reason }
}

/// Waits for a call, at most so long. A call that ends at once, as most do, sets
/// no timer.
async fn within<F: Future>(limit: Duration, call: F) -> Option<F::Output> {
    let mut call = pin!(call);
    if let std::task::Poll::Ready(output) = futures_util::poll!(call.as_mut()) {
        return Some(output);
    }
    tokio::time::timeout(limit, call).await.ok()
}
