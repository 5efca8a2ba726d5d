//! How long a client is waited for, and when nothing is read from it.

use super::connection::{Client, End};
use super::reason::{Fault, Reason};
use std::time::Duration;
use tokio::time::Instant;

/// How much of a packet has to arrive within the keep-alive, in bytes, where all of it
/// does not.
const LIVELY_BYTES: usize = 1024;

/// Since when a client is waited for.
pub(super) struct Patience {
    /// When it was heard.
    read: Instant,
    /// What has come since then of a packet that is not complete, in bytes.
    unfinished: usize,
    /// Since when bytes wait that it does not take.
    pub(super) written: Option<Instant>,
    /// Since when its publishes wait for room.
    pub(super) published: Option<Instant>,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self { read: now, unfinished: 0, written: None, published: None }
    }

    pub(super) fn waits_for_write(&mut self) {
        self.written.get_or_insert_with(Instant::now);
    }

    pub(super) fn waits_for_publish(&mut self) {
        self.published.get_or_insert_with(Instant::now);
    }
}

impl Client {
    /// Notes that so many bytes were read. The standard asks for packets; but a large
    /// one may take its time.
    pub(super) fn heard(&mut self, bytes: usize) {
        let now = Instant::now();
        self.pace.read(bytes, || now);
        self.patience.unfinished += bytes;
        let is_packet = !self.wire.inbox.is_empty() || self.wire.fault.is_some();
        if is_packet || self.patience.unfinished >= LIVELY_BYTES {
            self.patience.unfinished = 0;
            self.patience.read = now;
        }
    }

    /// Whether more may be read: what is read has to be answered, and kept.
    pub(super) fn has_room(&self) -> bool {
        let limits = &self.hub.settings.limits;
        self.wire.inbox.is_empty()
            && self.pace.readable(Instant::now) > 0
            && self.wire.unwritten() < limits.send_buffer_bytes_max
            && self.inbound.len() < usize::from(limits.receive_max)
            && self.inbound.bytes() < limits.receive_bytes_max
            && self.promised.len() < usize::from(limits.receive_max.max(limits.in_flight_max))
    }

    /// When a client that is slowed down is heard again.
    pub(super) fn goes_on_at(&self) -> Option<Instant> {
        match self.wire.inbox.is_empty() {
            false => self.pace.admits_at(),
            true if self.pace.readable(Instant::now) == 0 => self.pace.readable_at(),
            true => None,
        }
    }

    /// When to look whether something takes too long.
    pub(super) fn next_check(&self) -> Instant {
        let (now, limits) = (Instant::now(), &self.hub.settings.limits);
        let (written, published) = (self.patience.written, self.patience.published);
        let others = (written.unwrap_or(now) + limits.send_time_max)
            .min(published.unwrap_or(now) + limits.publish_time_max);
        let Some(keep_alive) = self.keep_alive else { return others };
        // Of who is not read at the moment it may be over already.
        let silent_at = Some(self.patience.read + keep_alive).filter(|at| *at > now);
        others.min(silent_at.unwrap_or(now + keep_alive))
    }

    /// What has taken too long.
    pub(super) fn overdue(&self) -> Option<End> {
        let (now, limits) = (Instant::now(), &self.hub.settings.limits);
        let is_over =
            |since: Option<Instant>, time_max| since.is_some_and(|since| now - since >= time_max);
        if is_over(self.patience.published, limits.publish_time_max) {
            let text = "publishes waited too long for room";
            return Some(End::Fault(Fault::new(Reason::QUOTA_EXCEEDED, text)));
        }
        if is_over(self.patience.written, limits.send_time_max) {
            return Some(End::Gone);
        }
        // While we do not read, the client cannot be heard.
        let is_heard = self.has_room();
        let is_silent = |keep_alive: &Duration| now - self.patience.read >= *keep_alive;
        if is_heard && self.keep_alive.as_ref().is_some_and(is_silent) {
            let text = "nothing was heard for one and a half times the keep-alive";
            return Some(End::Fault(Fault::new(Reason::KEEP_ALIVE_TIMEOUT, text)));
        }
        None
    }
}
