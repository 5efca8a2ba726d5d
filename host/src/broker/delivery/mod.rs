//! What becomes of the events of one subscription: a state machine without
//! input, output, clock or threads.

/// Names one delivery within its subscription. A key of a delivery that is over
/// names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotKey {
    index: u32,
    generation: u32,
}
