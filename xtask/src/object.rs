//! Checks of the eBPF object that the verifier would make only at load, or only
//! on some kernels: nothing left to link, no panics, stack of every call chain.

mod elf;
mod frame;
mod instruction;
mod stack;
mod table;

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Parts of symbol names that a program which cannot panic does not contain.
const OF_PANICS: &[&str] = &[
    "panicking",
    "core::panic",
    "4core5panic",
    "rust_begin_unwind",
];

/// Checks the object of this build and prints the stack of its functions.
pub(crate) fn check() -> Result<()> {
    check_file(&workspace::bpf_object())
}

fn check_file(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| {
        format!(
            "no eBPF object at {}; `cargo xtask build` makes it",
            path.display()
        )
    })?;
    let object =
        elf::parse(&bytes).with_context(|| format!("{} is not an eBPF object", path.display()))?;
    let chains = stack::chains(&object.functions)?;
    println!("{}", path.display());
    print!("{}", table::render(&object.functions, &chains));

    let mut faults = symbol_faults(&object);
    faults.extend(stack::faults(&object.functions, &chains));
    if faults.is_empty() {
        println!("object check: ok");
        return Ok(());
    }
    bail!("object check failed:\n  {}", faults.join("\n  "));
}

fn symbol_faults(object: &elf::Object) -> Vec<String> {
    let undefined = object
        .undefined
        .iter()
        .map(|name| format!("`{name}` is called but not in the object: the loader cannot link it"));
    let panics = object
        .symbols
        .iter()
        .filter(|name| OF_PANICS.iter().any(|part| name.contains(part)))
        .map(|name| {
            format!(
                "`{name}` is in the object: something can panic (an index, a division, an unwrap), \
                 which the verifier refuses"
            )
        });
    undefined.chain(panics).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object_with(symbols: &[&str], undefined: &[&str]) -> elf::Object {
        elf::Object {
            functions: Vec::new(),
            symbols: symbols.iter().map(ToString::to_string).collect(),
            undefined: undefined.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_panicking_symbol_and_an_undefined_one_are_faults() {
        let object = object_with(
            &["forebay", "core::panicking::panic_bounds_check"],
            &["memcpy"],
        );
        let faults = symbol_faults(&object);
        assert_eq!(faults.len(), 2);
        assert!(faults[0].starts_with("`memcpy`"));
        assert!(faults[1].contains("panic_bounds_check"));
    }

    #[test]
    fn ordinary_symbols_are_no_faults() {
        assert_eq!(
            symbol_faults(&object_with(&["forebay", "memset"], &[])),
            Vec::<String>::new()
        );
    }
}
