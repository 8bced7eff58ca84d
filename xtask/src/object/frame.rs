//! How much stack a function uses: the lowest address it reaches below r10.

use super::instruction::{Effect, FRAME_POINTER, Instruction, Next, REGISTERS};

/// Deeper than any frame can be: following a loop downwards ends here.
const FLOOR: i64 = -4096;

/// The lowest frame offset each register may hold; nothing when it holds no
/// address of this frame.
type Registers = [Option<i64>; REGISTERS];

/// Bytes of stack that the instructions of one function use.
pub(crate) fn depth(instructions: &[Instruction]) -> u32 {
    let mut analysis = Analysis {
        seen: vec![None; instructions.len()],
        lowest: 0,
    };
    let mut entry = [None; REGISTERS];
    entry[usize::from(FRAME_POINTER)] = Some(0);
    let mut waiting = vec![(0_i64, entry)];
    while let Some((at, registers)) = waiting.pop() {
        let Some(&instruction) = usize::try_from(at).ok().and_then(|i| instructions.get(i)) else {
            continue;
        };
        let Some(mut registers) = analysis.merge(at, registers) else {
            continue;
        };
        analysis.apply(instruction.effect(), &mut registers);
        let slots = if instruction.is_wide() { 2 } else { 1 };
        match instruction.next() {
            Next::Exit => {}
            Next::Fall => waiting.push((at + slots, registers)),
            Next::Goto(distance) => waiting.push((at + distance, registers)),
            Next::Either(distance) => {
                waiting.push((at + 1, registers));
                waiting.push((at + distance, registers));
            }
        }
    }
    u32::try_from(-analysis.lowest).expect("the lowest offset is between the floor and zero")
}

struct Analysis {
    seen: Vec<Option<Registers>>,
    lowest: i64,
}

impl Analysis {
    /// Joins the registers with those seen here before; nothing when that
    /// tells nothing new.
    fn merge(&mut self, at: i64, new: Registers) -> Option<Registers> {
        let slot = &mut self.seen[usize::try_from(at).expect("checked by the caller")];
        let joined = match slot {
            None => new,
            Some(old) => std::array::from_fn(|i| lower(old[i], new[i])),
        };
        if *slot == Some(joined) {
            return None;
        }
        *slot = Some(joined);
        Some(joined)
    }

    fn apply(&mut self, effect: Effect, registers: &mut Registers) {
        match effect {
            Effect::Copy { to, from } => registers[usize::from(to)] = registers[usize::from(from)],
            Effect::Add { to, number } => {
                let moved = registers[usize::from(to)].map(|at| (at + number).max(FLOOR));
                registers[usize::from(to)] = moved;
                self.reach(moved);
            }
            Effect::AddUnknown { to, from } => {
                registers[usize::from(to)] =
                    lower(registers[usize::from(to)], registers[usize::from(from)]);
            }
            Effect::Set { to } => registers[usize::from(to)] = None,
            Effect::Load { to, base, offset } => {
                self.access(registers, base, offset);
                registers[usize::from(to)] = None;
            }
            Effect::Store {
                base,
                offset,
                fetched,
            } => {
                self.access(registers, base, offset);
                if let Some(register) = fetched {
                    registers[usize::from(register)] = None;
                }
            }
            Effect::Call => registers[..=5].fill(None),
            Effect::None => {}
        }
    }

    fn access(&mut self, registers: &Registers, base: u8, offset: i16) {
        let at = registers[usize::from(base)];
        self.reach(at.map(|at| at + i64::from(offset)));
    }

    fn reach(&mut self, at: Option<i64>) {
        if let Some(at) = at {
            self.lowest = self.lowest.min(at.max(FLOOR));
        }
    }
}

fn lower(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: Instruction = insn(0x95, 0, 0, 0, 0);

    const fn insn(
        code: u8,
        destination: u8,
        source: u8,
        offset: i16,
        immediate: i32,
    ) -> Instruction {
        Instruction {
            code,
            destination,
            source,
            offset,
            immediate,
        }
    }

    #[test]
    fn a_function_that_touches_no_stack_has_an_empty_frame() {
        assert_eq!(depth(&[insn(0xb7, 0, 0, 0, 2), EXIT]), 0);
    }

    #[test]
    fn a_store_below_the_frame_pointer_counts() {
        assert_eq!(depth(&[insn(0x7b, 10, 1, -24, 0), EXIT]), 24);
    }

    #[test]
    fn a_load_below_the_frame_pointer_counts() {
        assert_eq!(depth(&[insn(0x79, 1, 10, -40, 0), EXIT]), 40);
    }

    #[test]
    fn a_pointer_into_the_frame_counts_from_its_lowest_byte() {
        let code = [
            insn(0xbf, 2, 10, 0, 0),
            insn(0x07, 2, 0, 0, -72),
            insn(0x85, 0, 0, 0, 1),
            EXIT,
        ];
        assert_eq!(depth(&code), 72);
    }

    #[test]
    fn a_copy_of_a_copy_is_followed() {
        let code = [
            insn(0xbf, 6, 10, 0, 0),
            insn(0x17, 6, 0, 0, 64),
            insn(0xbf, 7, 6, 0, 0),
            insn(0x73, 7, 1, -16, 0),
            EXIT,
        ];
        assert_eq!(depth(&code), 80);
    }

    #[test]
    fn a_store_through_another_pointer_does_not_count() {
        let code = [insn(0x7b, 1, 2, -256, 0), EXIT];
        assert_eq!(depth(&code), 0);
    }

    #[test]
    fn an_overwritten_register_is_forgotten() {
        let code = [
            insn(0xbf, 2, 10, 0, 0),
            insn(0xb7, 2, 0, 0, 0),
            insn(0x7b, 2, 1, -48, 0),
            EXIT,
        ];
        assert_eq!(depth(&code), 0);
    }

    #[test]
    fn a_call_takes_the_argument_registers_away_and_keeps_the_others() {
        let code = [
            insn(0xbf, 1, 10, 0, 0),
            insn(0xbf, 6, 10, 0, 0),
            insn(0x85, 0, 0, 0, 1),
            insn(0x7b, 1, 0, -100, 0),
            insn(0x7b, 6, 0, -8, 0),
            EXIT,
        ];
        assert_eq!(depth(&code), 8);
    }

    #[test]
    fn both_sides_of_a_branch_count() {
        let code = [
            insn(0xbf, 3, 10, 0, 0),
            insn(0x15, 1, 0, 2, 0),
            insn(0x07, 3, 0, 0, -16),
            insn(0x05, 0, 0, 1, 0),
            insn(0x07, 3, 0, 0, -32),
            insn(0x7b, 3, 1, -8, 0),
            EXIT,
        ];
        assert_eq!(depth(&code), 40);
    }

    #[test]
    fn a_pointer_that_sinks_in_a_loop_ends_at_the_floor() {
        let code = [
            insn(0xbf, 3, 10, 0, 0),
            insn(0x07, 3, 0, 0, -8),
            insn(0x15, 1, 0, -2, 0),
            EXIT,
        ];
        assert_eq!(depth(&code), 4096);
    }

    #[test]
    fn the_second_slot_of_a_wide_load_is_no_instruction() {
        let code = [
            insn(0x18, 1, 0, 0, 0),
            insn(0x7b, 10, 0, -500, 0),
            insn(0x7b, 10, 1, -8, 0),
            EXIT,
        ];
        assert_eq!(depth(&code), 8);
    }
}
