//! The values of a page.

use bytes::{Bytes, BytesMut};

/// Small values share allocations of this size. Whoever keeps one of them keeps no more than this.
const SHARED_BYTES: usize = 16 << 10;
/// Longer values have an allocation of their own, so that little of a shared one stays empty.
const SMALL_BYTES: usize = SHARED_BYTES / 4;

/// Copies values, the small ones side by side: a page is allocated on one thread and freed on
/// another, which costs the more the more pieces it has.
#[derive(Default)]
pub(super) struct Values(BytesMut);

impl Values {
    pub(super) fn copy(&mut self, value: &[u8]) -> Bytes {
        if value.len() > SMALL_BYTES {
            return Bytes::copy_from_slice(value);
        }
        if self.0.capacity() < value.len() {
            self.0 = BytesMut::with_capacity(SHARED_BYTES);
        }
        self.0.extend_from_slice(value);
        self.0.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back_whatever_its_neighbours_are() {
        let lengths = [0, 1, 1_024, SMALL_BYTES, SMALL_BYTES + 1, SHARED_BYTES, 3 * SHARED_BYTES];
        let originals: Vec<Vec<u8>> = (0..200_u8)
            .map(|number| vec![number; lengths[usize::from(number) * 5 % lengths.len()]])
            .collect();
        let mut values = Values::default();
        let copies: Vec<_> = originals.iter().map(|original| values.copy(original)).collect();
        drop(values);
        assert_eq!(copies, originals);
    }
}
