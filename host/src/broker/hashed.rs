//! Tables whose keys are hashes already.

use std::hash::{BuildHasherDefault, Hasher};

/// For tables under keyed hashes of 128 bits.
pub(super) type Hashed = BuildHasherDefault<AlreadyHashed>;

/// Half of such a hash serves as its hash.
#[derive(Default)]
pub(super) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, identity: u128) {
        self.0 = identity as u64;
    }
}
