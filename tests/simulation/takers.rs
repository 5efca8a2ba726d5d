//! Those who take events, as the workers of the runtime and the guests that pull
//! do.

use crate::belief::Said;
use crate::guest::{Deed, Desk, End, Held, Mood, Waiting, retry};
use fastrand::Rng;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use wasi_pubsub::broker::BrokerError;

/// How somebody takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// One after the other.
    Serial,
    /// So many at once in one instance.
    Concurrent(usize),
    /// By `receive` and `pull`, with deadlines.
    Pull,
}

/// One taker. Takes until the subscriptions end.
pub(crate) struct Taker {
    pub(crate) desks: Vec<Desk>,
    pub(crate) mood: Arc<Mood>,
    pub(crate) rng: Rng,
    /// Those of its subscriptions that it waits for.
    pub(crate) waits: Vec<Waiting>,
}

impl Taker {
    pub(crate) async fn run(self, manner: Manner) {
        match manner {
            Manner::Serial => self.serial().await,
            Manner::Concurrent(max) => self.concurrent(max).await,
            Manner::Pull => self.pull().await,
        }
    }

    async fn serial(mut self) {
        while let Ok(held) = self.take().await {
            let Deed { time, end } = self.mood.deed(&mut self.rng);
            if !time.is_zero() {
                sleep(time).await;
            }
            held.end(end);
        }
    }

    /// From all subscriptions in turn, as a worker does.
    async fn take(&mut self) -> Result<Held, BrokerError> {
        if let [desk] = &self.desks[..] {
            return desk.next().await;
        }
        poll_fn(|cx| self.poll_take(cx)).await
    }

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<Held, BrokerError>> {
        self.waits.clear();
        self.desks.rotate_left(1);
        let mut index = 0;
        let mut ended = None;
        while let Some(desk) = self.desks.get(index) {
            match desk.subscription.poll_next(cx) {
                Poll::Ready(Ok(lease)) => return Poll::Ready(Ok(desk.begin(lease))),
                Poll::Ready(Err(error)) => {
                    desk.checker.closed(desk.opening);
                    self.desks.remove(index);
                    ended = Some(error);
                }
                Poll::Pending => index += 1,
            }
        }
        match ended {
            Some(error) if self.desks.is_empty() => Poll::Ready(Err(error)),
            _ => {
                self.waits.extend(self.desks.iter().map(Desk::wait));
                Poll::Pending
            }
        }
    }

    async fn concurrent(mut self, max: usize) {
        let mut instance = Instance { max, ..Instance::default() };
        while poll_fn(|cx| self.poll_instance(&mut instance, cx)).await == Life::Replaced {
            // Starting the next one may fail a few times.
            if self.rng.u8(0..4) == 0 && !self.mood.is_calm() {
                sleep(Duration::from_millis(self.rng.u64(0..300))).await;
            }
        }
    }

    fn poll_instance(&mut self, instance: &mut Instance, cx: &mut Context<'_>) -> Poll<Life> {
        self.waits.clear();
        loop {
            if let Some((held, end)) = instance.poll_ended(cx) {
                if matches!(end, End::Trap) && !instance.calls.is_empty() {
                    // The guilty one is unknown: all of them run again alone.
                    instance.trap(held);
                    return Poll::Ready(Life::Replaced);
                }
                held.end(end);
                continue;
            }
            instance.alone &= !instance.calls.is_empty();
            if instance.calls.is_empty()
                && let Some(held) = instance.parked.take()
            {
                instance.alone = true;
                self.call(instance, held);
                continue;
            }
            let full = instance.calls.len() >= instance.max;
            if full || instance.alone || instance.parked.is_some() || self.desks.is_empty() {
                let over = self.desks.is_empty() && instance.calls.is_empty();
                return if over { Poll::Ready(Life::Over) } else { Poll::Pending };
            }
            match self.poll_take(cx) {
                Poll::Ready(Ok(held)) if held.is_isolated() => instance.parked = Some(held),
                Poll::Ready(Ok(held)) => self.call(instance, held),
                Poll::Ready(Err(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn call(&mut self, instance: &mut Instance, held: Held) {
        let Deed { time, end } = self.mood.deed(&mut self.rng);
        instance.calls.push((Instant::now() + time, held, end));
    }

    async fn pull(mut self) {
        loop {
            if self.rng.u8(0..8) == 0 && !self.mood.is_calm() {
                sleep(Duration::from_millis(self.rng.u64(0..1000))).await;
            }
            let patience = Duration::from_millis(self.rng.u64(0..3000));
            // A call that is given up loses nothing.
            let Ok(taken) = timeout(patience, self.take()).await else { continue };
            let Ok(held) = taken else { return };
            let mut batch = vec![held];
            self.fill(&mut batch);
            while !batch.is_empty() {
                let held = batch.swap_remove(self.rng.usize(..batch.len()));
                self.handle_pulled(held).await;
            }
        }
    }

    fn fill(&mut self, batch: &mut Vec<Held>) {
        let desk = &self.desks[0];
        for _ in 0..self.rng.usize(0..4) {
            if let Ok(Some(lease)) = desk.subscription.try_next() {
                batch.push(desk.begin(lease));
            }
        }
    }

    async fn handle_pulled(&mut self, held: Held) {
        let Deed { time, end } = self.mood.deed(&mut self.rng);
        let extend = self.rng.u8(0..5) == 0 && !self.mood.is_calm();
        sleep(time / 2).await;
        if extend {
            let longest = if self.rng.u8(0..5) == 0 { 1 } else { 3000 };
            held.extend(Duration::from_millis(self.rng.u64(0..longest)));
        }
        sleep(time * if extend { 3 } else { 1 }).await;
        match end {
            End::Verdict(said) if self.rng.bool() => {
                // Who confirms may lose patience.
                let patience = Duration::from_millis(self.rng.u64(0..20_000));
                let _late = timeout(patience, held.confirm(said)).await;
            }
            end => held.end(end),
        }
    }
}

/// An instance with many calls under way.
#[derive(Default)]
struct Instance {
    max: usize,
    calls: Vec<(Instant, Held, End)>,
    /// An event that is to run alone, until the others are done.
    parked: Option<Held>,
    alone: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Replaced,
    Over,
}

impl Instance {
    /// The next call that has ended.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Option<(Held, End)> {
        let calls = self.calls.iter().enumerate();
        let (index, at) = calls.map(|(i, (at, ..))| (i, *at)).min_by_key(|(_, at)| *at)?;
        if at > Instant::now() {
            let mut timer = Box::pin(sleep_until(at));
            if timer.as_mut().poll(cx).is_pending() {
                self.timer = Some(timer);
                return None;
            }
        }
        let (_, held, end) = self.calls.remove(index);
        Some((held, end))
    }

    fn trap(&mut self, first: Held) {
        self.alone = false;
        let calls = self.calls.drain(..).map(|(_, held, _)| held);
        for held in std::iter::once(first).chain(calls).chain(self.parked.take()) {
            held.say(Said::GiveBack { isolate: true });
        }
    }
}

/// Somebody who takes one event, and then no more: nobody but whoever settles it
/// can tell the others that there is room again.
pub(crate) async fn pass_by(desk: Desk, mut rng: Rng) {
    let patience = Duration::from_millis(rng.u64(0..1000));
    let Ok(Ok(held)) = timeout(patience, desk.next()).await else { return };
    sleep(Duration::from_millis(rng.u64(0..4000))).await;
    held.say(match rng.u8(0..4) {
        0 => Said::GiveBack { isolate: false },
        1 => retry(None, "no instance"),
        _ => Said::Ack,
    });
}
