//! The eBPF object as a list of functions and the calls between them.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use object::read::elf::ElfFile64;
use object::{
    LittleEndian, Object as _, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex,
    SectionKind, SymbolKind,
};

use super::instruction::{Instruction, SIZE};

type File<'data> = ElfFile64<'data, LittleEndian>;
type Section<'data, 'file> = object::read::elf::ElfSection64<'data, 'file, LittleEndian>;

/// What the checks look at.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) functions: Vec<Function>,
    /// Names of all symbols, readable.
    pub(crate) symbols: Vec<String>,
    /// Names that something refers to and nothing defines.
    pub(crate) undefined: Vec<String>,
}

/// One function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Whether the kernel calls it: it stands in a program section.
    pub(crate) entry: bool,
    pub(crate) instructions: Vec<Instruction>,
    /// The functions it calls or hands to a helper, as indices.
    pub(crate) callees: Vec<usize>,
}

/// Reads an object file.
pub(crate) fn parse(bytes: &[u8]) -> Result<Object> {
    let file = File::parse(bytes).context("not a little-endian 64-bit ELF file")?;
    let places = places(&file)?;
    let mut functions = Vec::with_capacity(places.len());
    for place in &places {
        functions.push(function(&file, place, &places)?);
    }
    let mut symbols = Vec::new();
    let mut undefined = Vec::new();
    for symbol in file.symbols() {
        let name = readable(symbol.name().context("a symbol has no readable name")?);
        if name.is_empty() {
            continue;
        }
        if symbol.is_undefined() {
            undefined.push(name.clone());
        }
        symbols.push(name);
    }
    Ok(Object {
        functions,
        symbols,
        undefined,
    })
}

/// Where a function stands.
struct Place {
    name: String,
    section: SectionIndex,
    start: u64,
    size: u64,
}

fn places(file: &File<'_>) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for symbol in file.symbols() {
        let Some(section) = symbol.section_index() else {
            continue;
        };
        let is_code = file.section_by_index(section)?.kind() == SectionKind::Text;
        if symbol.kind() != SymbolKind::Text || symbol.size() == 0 || !is_code {
            continue;
        }
        places.push(Place {
            name: readable(symbol.name().context("a function has no readable name")?),
            section,
            start: symbol.address(),
            size: symbol.size(),
        });
    }
    if places.is_empty() {
        bail!("it holds no function");
    }
    Ok(places)
}

fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

fn function(file: &File<'_>, place: &Place, places: &[Place]) -> Result<Function> {
    let section = file.section_by_index(place.section)?;
    let code = section
        .data_range(place.start, place.size)?
        .with_context(|| format!("`{}` reaches beyond its section", place.name))?;
    let (slots, rest) = code.as_chunks::<SIZE>();
    if !rest.is_empty() {
        bail!("`{}` ends inside an instruction", place.name);
    }
    let instructions: Vec<Instruction> = slots.iter().copied().map(Instruction::parse).collect();
    let targets = relocated(file, &section, place);
    let mut callees = Vec::new();
    for (index, instruction) in instructions.iter().enumerate() {
        let offset = place.start + (index * SIZE) as u64;
        let Some(target) = called(*instruction, offset, place.section, targets.get(&offset)) else {
            continue;
        };
        let callee = position(places, target)
            .with_context(|| format!("`{}` calls what is no function", place.name))?;
        callees.push(callee);
    }
    callees.sort_unstable();
    callees.dedup();
    Ok(Function {
        name: place.name.clone(),
        entry: section.name()? != ".text",
        instructions,
        callees,
    })
}

type Address = (SectionIndex, u64);

/// Where the relocations of a function's instructions point, if into code.
fn relocated(file: &File<'_>, section: &Section<'_, '_>, place: &Place) -> HashMap<u64, Address> {
    let range = place.start..place.start + place.size;
    section
        .relocations()
        .filter(|(offset, _)| range.contains(offset))
        .filter_map(|(offset, relocation)| {
            let RelocationTarget::Symbol(index) = relocation.target() else {
                return None;
            };
            let symbol = file.symbol_by_index(index).ok()?;
            let section = symbol.section_index()?;
            let is_code = file.section_by_index(section).ok()?.kind() == SectionKind::Text;
            is_code.then_some((offset, (section, symbol.address())))
        })
        .collect()
}

/// The address that an instruction calls or takes as a function.
fn called(
    instruction: Instruction,
    offset: u64,
    section: SectionIndex,
    target: Option<&Address>,
) -> Option<Address> {
    if instruction.is_wide() {
        let (section, start) = *target?;
        return Some((
            section,
            start.wrapping_add_signed(instruction.immediate.into()),
        ));
    }
    if !instruction.is_function_call() {
        return None;
    }
    let (section, start) = target.copied().unwrap_or((section, offset));
    let distance = (i64::from(instruction.immediate) + 1) * SIZE as i64;
    Some((section, start.wrapping_add_signed(distance)))
}

fn position(places: &[Place], (section, offset): Address) -> Option<usize> {
    places
        .iter()
        .position(|place| place.section == section && place.start == offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: SectionIndex = SectionIndex(2);
    const PROGRAM: SectionIndex = SectionIndex(3);

    fn call(source: u8, immediate: i32) -> Instruction {
        Instruction {
            code: 0x85,
            destination: 0,
            source,
            offset: 0,
            immediate,
        }
    }

    #[test]
    fn a_call_without_relocation_counts_from_the_next_instruction() {
        assert_eq!(called(call(1, 3), 80, TEXT, None), Some((TEXT, 80 + 32)));
        assert_eq!(called(call(1, -11), 80, TEXT, None), Some((TEXT, 0)));
    }

    #[test]
    fn a_call_of_a_named_function_goes_to_its_symbol() {
        let target = (TEXT, 160);
        assert_eq!(called(call(1, -1), 8, PROGRAM, Some(&target)), Some(target));
    }

    #[test]
    fn a_call_through_the_section_symbol_adds_the_immediate() {
        let target = (TEXT, 0);
        assert_eq!(
            called(call(1, 19), 8, PROGRAM, Some(&target)),
            Some((TEXT, 160))
        );
    }

    #[test]
    fn a_helper_is_no_function_of_the_program() {
        assert_eq!(called(call(0, 1), 8, PROGRAM, None), None);
    }

    #[test]
    fn a_callback_counts_as_called() {
        let load = Instruction {
            code: 0x18,
            destination: 2,
            source: 0,
            offset: 0,
            immediate: 24,
        };
        let target = (TEXT, 8);
        assert_eq!(called(load, 0, PROGRAM, Some(&target)), Some((TEXT, 32)));
    }

    #[test]
    fn anything_else_than_elf_is_refused() {
        assert!(parse(b"#!/bin/sh\n").is_err());
    }
}
