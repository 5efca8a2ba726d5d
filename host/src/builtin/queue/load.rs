//! How much there is of events of a kind.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

impl Load {
    /// Whether one more fits. The first one always does.
    pub(super) fn fits(self, size: usize, events_max: usize, bytes_max: usize) -> bool {
        self.events == 0 || self.events < events_max && self.bytes.saturating_add(size) <= bytes_max
    }

    pub(super) fn add(&mut self, size: usize) {
        self.events += 1;
        self.bytes += size;
    }

    pub(super) fn remove(&mut self, size: usize) {
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
    }
}
