//! One BPF instruction and what the stack analysis asks about it.

/// Registers are r0 to r10; r10 is the frame pointer.
pub(crate) const REGISTERS: usize = 11;
/// The read-only frame pointer.
pub(crate) const FRAME_POINTER: u8 = 10;
/// Bytes of one instruction.
pub(crate) const SIZE: usize = 8;

const CLASS: u8 = 0x07;
const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_ALU: u8 = 0x04;
const CLASS_JMP: u8 = 0x05;
const CLASS_JMP32: u8 = 0x06;
const CLASS_ALU64: u8 = 0x07;

const LOAD_IMMEDIATE: u8 = 0x18;
const MOVE: u8 = 0xbf;
const ADD_NUMBER: u8 = 0x07;
const SUBTRACT_NUMBER: u8 = 0x17;
const ADD_REGISTER: u8 = 0x0f;
const SUBTRACT_REGISTER: u8 = 0x1f;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const GOTO: u8 = 0x05;
const GOTO_FAR: u8 = 0x06;
const ATOMIC_32: u8 = 0xc3;
const ATOMIC_64: u8 = 0xdb;
const FETCH: i32 = 0x01;

const PSEUDO_CALL: u8 = 1;

/// One instruction as the kernel's `struct bpf_insn` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    pub(crate) destination: u8,
    pub(crate) source: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

/// What an instruction does, as far as the stack is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A register becomes a copy of another.
    Copy { to: u8, from: u8 },
    /// A number is added to a register.
    Add { to: u8, number: i64 },
    /// Something not known is added to a register.
    AddUnknown { to: u8, from: u8 },
    /// A register gets a value that is no frame address.
    Set { to: u8 },
    /// Memory at register + offset is read into a register.
    Load { to: u8, base: u8, offset: i16 },
    /// Memory at register + offset is written; `fetched` gets the old value.
    Store {
        base: u8,
        offset: i16,
        fetched: Option<u8>,
    },
    /// A helper or a function is called.
    Call,
    /// Nothing of interest.
    None,
}

/// Where control goes after an instruction, in instructions from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Fall,
    Goto(i64),
    Either(i64),
    Exit,
}

impl Instruction {
    /// Reads one instruction from its eight bytes.
    pub(crate) fn parse(bytes: [u8; SIZE]) -> Self {
        let [code, registers, o0, o1, i0, i1, i2, i3] = bytes;
        Self {
            code,
            destination: registers & 0x0f,
            source: registers >> 4,
            offset: i16::from_le_bytes([o0, o1]),
            immediate: i32::from_le_bytes([i0, i1, i2, i3]),
        }
    }

    /// Whether it takes two slots.
    pub(crate) fn is_wide(self) -> bool {
        self.code == LOAD_IMMEDIATE
    }

    /// Whether it calls a function of the program, not a helper.
    pub(crate) fn is_function_call(self) -> bool {
        self.code == CALL && self.source == PSEUDO_CALL
    }

    pub(crate) fn effect(self) -> Effect {
        let to = self.destination;
        let from = self.source;
        match self.code {
            MOVE if self.offset == 0 => Effect::Copy { to, from },
            ADD_NUMBER => Effect::Add {
                to,
                number: self.immediate.into(),
            },
            SUBTRACT_NUMBER => Effect::Add {
                to,
                number: -i64::from(self.immediate),
            },
            ADD_REGISTER | SUBTRACT_REGISTER => Effect::AddUnknown { to, from },
            CALL => Effect::Call,
            _ => self.effect_by_class(),
        }
    }

    fn effect_by_class(self) -> Effect {
        let to = self.destination;
        let store = |fetched| Effect::Store {
            base: to,
            offset: self.offset,
            fetched,
        };
        match self.code & CLASS {
            CLASS_LDX => Effect::Load {
                to,
                base: self.source,
                offset: self.offset,
            },
            CLASS_ST => store(None),
            CLASS_STX => store(self.fetches().then_some(self.source)),
            CLASS_LD | CLASS_ALU | CLASS_ALU64 => Effect::Set { to },
            _ => Effect::None,
        }
    }

    fn fetches(self) -> bool {
        matches!(self.code, ATOMIC_32 | ATOMIC_64) && self.immediate & FETCH != 0
    }

    pub(crate) fn next(self) -> Next {
        let near = i64::from(self.offset) + 1;
        match (self.code, self.code & CLASS) {
            (EXIT, _) => Next::Exit,
            (GOTO, _) => Next::Goto(near),
            (GOTO_FAR, _) => Next::Goto(i64::from(self.immediate) + 1),
            (CALL, _) => Next::Fall,
            (_, CLASS_JMP | CLASS_JMP32) => Next::Either(near),
            _ => Next::Fall,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_the_kernel_lays_them_out() {
        let read = Instruction::parse([0x7b, 0x6a, 0xf8, 0xff, 1, 0, 0, 0x80]);
        assert_eq!(
            read,
            Instruction {
                code: 0x7b,
                destination: 10,
                source: 6,
                offset: -8,
                immediate: i32::MIN + 1,
            }
        );
    }

    #[test]
    fn a_far_goto_uses_the_immediate() {
        let far = Instruction::parse([0x06, 0, 9, 0, 100, 0, 0, 0]);
        assert_eq!(far.next(), Next::Goto(101));
    }

    #[test]
    fn an_exchange_overwrites_its_source_register() {
        let exchange = Instruction::parse([0xdb, 0x21, 0, 0, 0xe1, 0, 0, 0]);
        assert_eq!(
            exchange.effect(),
            Effect::Store {
                base: 1,
                offset: 0,
                fetched: Some(2),
            }
        );
    }
}
