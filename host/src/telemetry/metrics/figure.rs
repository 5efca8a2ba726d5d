//! Figures that other parts of the program bring.

use std::sync::Arc;

/// What operators are shown of something that this layer knows nothing of: a metric
/// with all its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name, without the `_total` of a counter.
    pub name: &'static str,
    /// What it means, in a sentence.
    pub help: &'static str,
    /// Whether it only grows.
    pub is_counter: bool,
    /// The values, each with the names and values of its labels.
    pub values: Vec<(Vec<(&'static str, String)>, u64)>,
}

/// Reads such figures; called for each scrape.
pub type Figures = Arc<dyn Fn() -> Vec<Figure> + Send + Sync>;
