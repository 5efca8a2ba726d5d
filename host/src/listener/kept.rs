//! What is kept of one session, so that it outlives the process.

use super::archive::{Archive, Promise, RECEIVED, SENT, SESSION, SUBSCRIPTION};
use super::codec::{Header, Sent, Subscribed};
use super::packets::Will;
use crate::broker::driver::RecordChange;
use std::sync::Arc;

/// Notes what becomes of a session.
pub(super) struct Kept {
    archive: Arc<Archive>,
    /// Unique, so that nothing of one session is taken for that of another one of the
    /// same client.
    number: u64,
    header: Header,
}

impl Kept {
    /// For a session that begins. Nothing is noted yet.
    pub(super) fn new(archive: &Arc<Archive>, client_id: Arc<str>) -> Self {
        let header = Header { client_id, expiry: 0, left: None, will: None };
        Self::restored(archive, archive.next_session(), header)
    }

    /// For a session that was there before.
    pub(super) fn restored(archive: &Arc<Archive>, number: u64, header: Header) -> Self {
        Self { archive: archive.clone(), number, header }
    }

    /// The client is there. `expiry` in seconds.
    pub(super) fn connected(&mut self, expiry: u32, will: Option<Will>) -> Promise {
        (self.header.expiry, self.header.left, self.header.will) = (expiry, None, will);
        self.note_header()
    }

    /// The client has left, in milliseconds since 1970; with the will that waits.
    pub(super) fn left(&mut self, at: u64, expiry: u32, will: Option<Will>) -> Promise {
        (self.header.expiry, self.header.left, self.header.will) = (expiry, Some(at), will);
        self.note_header()
    }

    /// The will is published.
    pub(super) fn will_is_out(&mut self) {
        self.header.will = None;
        self.note_header();
    }

    fn note_header(&self) -> Promise {
        self.archive.note([put(SESSION, self.key(), self.header.to_bytes())])
    }

    /// There are these subscriptions, or they have other options.
    pub(super) fn subscribed<'a>(
        &self,
        all: impl IntoIterator<Item = (&'a str, Subscribed)>,
    ) -> Promise {
        self.archive.note(all.into_iter().map(|(filter, subscribed)| {
            put(SUBSCRIPTION, self.key_of(filter.as_bytes()), subscribed.to_bytes())
        }))
    }

    /// Some subscriptions are over.
    pub(super) fn unsubscribed<'a>(&self, filters: impl IntoIterator<Item = &'a str>) -> Promise {
        let key = |filter: &str| self.key_of(filter.as_bytes());
        self.archive.note(filters.into_iter().map(|filter| removal(SUBSCRIPTION, key(filter))))
    }

    /// What is to be kept with an event that was received at qos 2.
    pub(super) fn received(&self, id: u16) -> RecordChange {
        put(RECEIVED, self.key_of(&id.to_be_bytes()), Vec::new())
    }

    /// What was received under this identifier is released, or was not taken.
    pub(super) fn released(&self, id: u16) -> Promise {
        self.archive.note([removal(RECEIVED, self.key_of(&id.to_be_bytes()))])
    }

    /// An event goes out at qos 2, or is released.
    pub(super) fn sent(&self, id: u16, sent: &Sent) -> Promise {
        self.archive.note([put(SENT, self.key_of(&id.to_be_bytes()), sent.to_bytes())])
    }

    /// The identifier is free.
    pub(super) fn completed(&self, id: u16) {
        self.archive.note([removal(SENT, self.key_of(&id.to_be_bytes()))]);
    }

    /// Everything that was noted so far.
    pub(super) fn all(&self) -> Promise {
        self.archive.all()
    }

    /// The session is over: from here on it is not found any more. Once `removed` is
    /// done, which removes its subscriptions from the broker, nothing is left of it: a
    /// crash before that leaves it to the next start.
    pub(super) fn end(
        mut self,
        filters: Vec<Arc<str>>,
        received: Vec<u16>,
        sent: Vec<u16>,
        removed: impl Future<Output = ()> + Send + 'static,
    ) -> Promise {
        (self.header.expiry, self.header.will) = (0, None);
        let ended = self.note_header();
        let archive = self.archive.clone();
        archive.clone().spawn(async move {
            removed.await;
            let ids = |kind: u8, ids: Vec<u16>| {
                ids.into_iter().map(move |id| (kind, id.to_be_bytes().to_vec()))
            };
            let filters = filters.iter().map(|filter| (SUBSCRIPTION, filter.as_bytes().to_vec()));
            let parts = filters.chain(ids(RECEIVED, received)).chain(ids(SENT, sent));
            let changes = parts.map(|(kind, part)| removal(kind, self.key_of(&part)));
            archive.note(changes.chain([removal(SESSION, self.key())]));
        });
        ended
    }

    fn key(&self) -> Vec<u8> {
        self.number.to_be_bytes().into()
    }

    fn key_of(&self, part: &[u8]) -> Vec<u8> {
        [&self.number.to_be_bytes(), part].concat()
    }
}

fn put(kind: u8, key: Vec<u8>, value: Vec<u8>) -> RecordChange {
    RecordChange { kind, key, value: Some(value) }
}

fn removal(kind: u8, key: Vec<u8>) -> RecordChange {
    RecordChange { kind, key, value: None }
}
