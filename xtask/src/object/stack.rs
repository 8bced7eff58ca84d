//! Stack of call chains, added up as the kernels do.

use anyhow::{Result, bail};

use super::elf::Function;
use super::frame;

/// Bytes of stack for all frames of a call chain together.
const STACK: u32 = 512;
/// Functions that may be active at the same time.
const CALLS: u32 = 8;

/// What one function needs by itself and with the deepest chain below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Bytes of its own frame.
    pub(crate) own: u32,
    /// Bytes of the deepest chain from here, as Linux 6.1 counts.
    pub(crate) on_6_1: u32,
    /// The same as Linux 6.18 counts.
    pub(crate) on_6_18: u32,
    /// Functions of the longest chain from here, itself included.
    pub(crate) calls: u32,
    /// The functions of the deepest chain, from here downwards.
    pub(crate) path: Vec<usize>,
}

/// Frames are rounded up to 32 bytes, and an empty one counts as well.
fn frame_on_6_1(own: u32) -> u32 {
    own.max(1).next_multiple_of(32)
}

/// With the JIT, frames are rounded up to 16 bytes.
fn frame_on_6_18(own: u32) -> u32 {
    own.next_multiple_of(16)
}

/// The chain of every function, in their order.
pub(crate) fn chains(functions: &[Function]) -> Result<Vec<Chain>> {
    let mut done = vec![None; functions.len()];
    for index in 0..functions.len() {
        follow(functions, index, &mut done, &mut Vec::new())?;
    }
    Ok(done.into_iter().flatten().collect())
}

fn follow(
    functions: &[Function],
    index: usize,
    done: &mut [Option<Chain>],
    active: &mut Vec<usize>,
) -> Result<Chain> {
    if let Some(chain) = &done[index] {
        return Ok(chain.clone());
    }
    let function = &functions[index];
    if active.contains(&index) {
        bail!(
            "`{}` calls itself, which the verifier refuses",
            function.name
        );
    }
    active.push(index);
    let own = frame::depth(&function.instructions);
    let mut chain = Chain {
        own,
        on_6_1: 0,
        on_6_18: 0,
        calls: 0,
        path: Vec::new(),
    };
    for &callee in &function.callees {
        let below = follow(functions, callee, done, active)?;
        if below.on_6_1 > chain.on_6_1 {
            chain.on_6_1 = below.on_6_1;
            chain.path = below.path;
        }
        chain.on_6_18 = chain.on_6_18.max(below.on_6_18);
        chain.calls = chain.calls.max(below.calls);
    }
    chain.on_6_1 += frame_on_6_1(own);
    chain.on_6_18 += frame_on_6_18(own);
    chain.calls += 1;
    chain.path.insert(0, index);
    active.pop();
    done[index] = Some(chain.clone());
    Ok(chain)
}

/// What a kernel would refuse to load.
pub(crate) fn faults(functions: &[Function], chains: &[Chain]) -> Vec<String> {
    let mut faults = Vec::new();
    for (function, chain) in functions.iter().zip(chains) {
        if chain.on_6_1 > STACK {
            faults.push(format!(
                "stack of {} is {} bytes on Linux 6.1, allowed are {STACK}",
                path_text(functions, &chain.path),
                chain.on_6_1
            ));
        }
        if chain.calls > CALLS {
            faults.push(format!(
                "`{}` starts a chain of {} calls, allowed are {CALLS}",
                function.name, chain.calls
            ));
        }
    }
    faults
}

fn path_text(functions: &[Function], path: &[usize]) -> String {
    let names: Vec<&str> = path
        .iter()
        .map(|&index| functions[index].name.as_str())
        .collect();
    names.join(" -> ")
}

#[cfg(test)]
mod tests {
    use super::super::instruction::Instruction;
    use super::*;

    fn function(name: &str, stack: i16, callees: &[usize]) -> Function {
        let store = Instruction {
            code: 0x7b,
            destination: 10,
            source: 1,
            offset: -stack,
            immediate: 0,
        };
        let exit = Instruction {
            code: 0x95,
            destination: 0,
            source: 0,
            offset: 0,
            immediate: 0,
        };
        Function {
            name: name.to_owned(),
            entry: false,
            instructions: if stack == 0 {
                vec![exit]
            } else {
                vec![store, exit]
            },
            callees: callees.to_vec(),
        }
    }

    #[test]
    fn frames_are_rounded_as_each_kernel_does() {
        let functions = [function("main", 120, &[1]), function("leaf", 0, &[])];
        let chains = chains(&functions).unwrap();
        assert_eq!((chains[0].on_6_1, chains[0].on_6_18), (128 + 32, 128));
        assert_eq!((chains[1].on_6_1, chains[1].on_6_18), (32, 0));
    }

    #[test]
    fn the_deepest_chain_counts_not_the_sum_of_all_callees() {
        let functions = [
            function("main", 64, &[1, 2]),
            function("shallow", 32, &[]),
            function("deep", 96, &[3]),
            function("leaf", 32, &[]),
        ];
        let chains = chains(&functions).unwrap();
        assert_eq!(chains[0].on_6_1, 64 + 96 + 32);
        assert_eq!(chains[0].path, [0, 2, 3]);
        assert_eq!(chains[0].calls, 3);
    }

    #[test]
    fn a_chain_that_fits_only_the_newer_kernel_is_a_fault() {
        let functions = [
            function("main", 240, &[1]),
            function("open", 208, &[2]),
            function("route", 40, &[]),
        ];
        let chains = chains(&functions).unwrap();
        assert_eq!(chains[0].on_6_18, 240 + 208 + 48);
        assert_eq!(chains[0].on_6_1, 256 + 224 + 64);
        let faults = faults(&functions, &chains);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("main -> open -> route is 544 bytes"));
    }

    #[test]
    fn exactly_512_bytes_fit() {
        let functions = [function("main", 256, &[1]), function("open", 256, &[])];
        let chains = chains(&functions).unwrap();
        assert!(faults(&functions, &chains).is_empty());
    }

    #[test]
    fn nine_frames_are_a_fault() {
        let functions: Vec<Function> = (0..9_usize)
            .map(|i| function("f", 0, if i < 8 { vec![i + 1] } else { vec![] }.as_slice()))
            .collect();
        let chains = chains(&functions).unwrap();
        assert!(faults(&functions, &chains)[0].contains("a chain of 9 calls"));
    }

    #[test]
    fn recursion_is_refused() {
        let functions = [function("one", 8, &[1]), function("two", 8, &[0])];
        assert!(
            chains(&functions)
                .unwrap_err()
                .to_string()
                .contains("calls itself")
        );
    }
}
