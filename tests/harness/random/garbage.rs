//! Frames that no honest machine sends.

use crate::chance::Chance;
use crate::engine::SHORTEST;

/// Random bytes, most often behind a plausible Ethernet type.
pub fn bytes(chance: &mut Chance) -> Vec<u8> {
    let length = chance.within(SHORTEST as u64, 120);
    let mut bytes: Vec<u8> = (0..length).map(|_| chance.bits() as u8).collect();
    let types = [
        0x0800_u16, 0x0800, 0x86dd, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x88cc,
    ];
    if !chance.one_in(8) {
        bytes[12..14].copy_from_slice(&chance.pick(&types).to_be_bytes());
    }
    if chance.one_in(2)
        && let Some(first) = bytes.get_mut(14)
    {
        *first = *chance.pick(&[0x45, 0x46, 0x4f, 0x60, 0x65]);
    }
    bytes
}

/// Changes some bytes of a frame, or cuts it.
pub fn damage(bytes: &mut Vec<u8>, chance: &mut Chance) {
    match chance.below(5) {
        // The length field, if this is IPv4 or IPv6 without tags.
        4 if bytes.len() > 20 => {
            let at = *chance.pick(&[16, 18]);
            let length = *chance.pick(&[0, 7, 19, 20, 27, 39, 40, 60, 1_500, 0xffff_u16]);
            bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
        }
        0 => {
            let length = chance.within(SHORTEST as u64, bytes.len() as u64);
            bytes.truncate(length as usize);
        }
        1 => {
            // Headers only: what lies behind them is nobody's business.
            let end = bytes.len().min(60) as u64;
            for _ in 0..chance.within(1, 4) {
                let at = chance.within(12, end - 1) as usize;
                bytes[at] = *chance.pick(&[0, 0xff, chance.clone().bits() as u8]);
            }
        }
        2 => {
            let end = bytes.len().min(60) as u64;
            let at = chance.within(12, end - 1) as usize;
            bytes[at] ^= 1 << chance.below(8);
        }
        _ => {
            let length = chance.within(0, 12) as usize;
            bytes.resize(bytes.len() + length, 0);
        }
    }
}
