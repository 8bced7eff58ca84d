//! Sums over parts of a frame.

use super::{Block, Frame, Word};
use crate::family::{Family, V6};

/// Sum of the `length` bytes at `at`, for one's complement arithmetic; `length` is a multiple of four, and at
/// most `MOST` are summed. `None` when the frame ends before.
///
/// VERIFIER: block by block, because each check of the frame's end is a path of its own; Linux 6.1 follows
/// 8,192 of them.
#[inline(always)]
pub fn sum_of<const MOST: usize, F: Frame>(frame: &F, at: usize, length: usize) -> Option<u64> {
    // VERIFIER: the compiler must not know a bound that the verifier does not, or it leaves out the check
    // that the verifier needs.
    let length = frame.blurred_far(length);
    let mut sum = 0;
    let mut done = 0;
    while done + size_of::<Block>() <= MOST {
        if done + size_of::<Block>() > length {
            break;
        }
        let block = frame.at::<Block>(at + done)?;
        sum += V6(block.first.get()).sum() + V6(block.second.get()).sum();
        done += size_of::<Block>();
    }
    let rest = at + done;
    let left = length.wrapping_sub(done);
    let mut done = 0;
    while done < size_of::<Block>() {
        if done >= left {
            break;
        }
        sum += u64::from(frame.at::<Word>(rest + done)?.value.get());
        done += size_of::<Word>();
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HostFrame;
    use crate::wire::checksum::fold;

    #[test]
    fn every_length_is_summed_once() {
        let bytes: Vec<u8> = (0..200_u32).map(|n| (n * 7 + 3) as u8).collect();
        let frame = HostFrame::new(&bytes, 1);
        for length in (0..=120).step_by(4) {
            let expected: u64 = bytes[10..10 + length]
                .chunks(2)
                .map(|word| u64::from(u16::from_ne_bytes([word[0], word[1]])))
                .sum();
            let found = sum_of::<120, _>(&frame, 10, length).unwrap();
            assert_eq!(fold(found), fold(expected), "{length} bytes");
        }
        assert_eq!(sum_of::<400, _>(&frame, 10, 196), None, "beyond the end");
    }
}
