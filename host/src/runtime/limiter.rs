//! The memory limit of an instance.

use wasmtime::{ResourceLimiter, Result, bail};

/// The most elements of one table.
const TABLE_ELEMENTS_MAX: usize = 100_000;
/// The most core instances, memories and tables that one component may be made of.
const PARTS_MAX: usize = 1_000;

/// Bounds all linear memories of an instance together. Growth above the limit
/// traps, so that the reason is seen rather than an allocation that failed.
pub(super) struct Limiter {
    limit: usize,
    used: usize,
}

impl Limiter {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: 0 }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            bail!("memory limit of {} bytes exceeded", self.limit);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            bail!("a table would have more than {TABLE_ELEMENTS_MAX} elements");
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_count_together() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        let error = limiter.memory_growing(60, 61, None).unwrap_err();
        assert_eq!(error.to_string(), "memory limit of 100 bytes exceeded");
    }
}
