//! Keyed hashes of 128 bits, and tables under them.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

/// Makes hashes of 128 bits with a key of its own, so that long names cost no
/// memory and nobody can choose two that collide.
#[derive(Default)]
pub(crate) struct KeyedHash([RandomState; 2]);

impl KeyedHash {
    pub(crate) fn of(&self, value: impl Hash) -> u128 {
        let [low, high] = self.0.each_ref().map(|key| u128::from(key.hash_one(&value)));
        high << 64 | low
    }
}

/// For tables under keyed hashes of 128 bits.
pub(crate) type Hashed = BuildHasherDefault<AlreadyHashed>;

/// Half of such a hash serves as its hash.
#[derive(Default)]
pub(crate) struct AlreadyHashed(u64);

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
