//! The stack table on screen.

use std::fmt::Write;

use super::elf::Function;
use super::stack::Chain;

/// One line for each function, programs first.
pub(crate) fn render(functions: &[Function], chains: &[Chain]) -> String {
    let mut order: Vec<usize> = (0..functions.len()).collect();
    order.sort_by_key(|&i| (!functions[i].entry, std::cmp::Reverse(chains[i].on_6_1)));
    let names: Vec<String> = functions.iter().map(|f| short(&f.name)).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let width = width.max("function".len());
    let mut text = String::new();
    let mut line = |name: &str, cells: [&dyn std::fmt::Display; 5]| {
        let [count, own, old, new, calls] = cells;
        writeln!(
            text,
            "  {name:width$} {count:>13} {own:>10} {old:>10} {new:>11} {calls:>6}"
        )
        .expect("a string takes any text");
    };
    line(
        "function",
        [
            &"instructions",
            &"own stack",
            &"chain 6.1",
            &"chain 6.18",
            &"calls",
        ],
    );
    for i in order {
        let (function, chain) = (&functions[i], &chains[i]);
        line(
            &names[i],
            [
                &function.instructions.len(),
                &chain.own,
                &chain.on_6_1,
                &chain.on_6_18,
                &chain.calls,
            ],
        );
    }
    text
}

/// A name without the folders it lives in: of a function its module stays, of a
/// type nothing.
fn short(name: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut text = String::new();
    let mut rest = name;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        text.push_str(&last_segments(&rest[..end]));
        let next = rest[end..].find(is_part).map_or(rest.len(), |at| end + at);
        text.push_str(&rest[end..next]);
        rest = &rest[next..];
    }
    text
}

fn last_segments(path: &str) -> String {
    let segments: Vec<&str> = path.split("::").collect();
    let named = segments.iter().rposition(|segment| !segment.is_empty());
    let Some(last) = named else {
        return path.to_owned();
    };
    let is_type = segments[last].starts_with(|c: char| c.is_uppercase());
    let first = if is_type {
        last
    } else {
        last.saturating_sub(1)
    };
    segments[first..].join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_come_first_then_the_deepest() {
        let function = |name: &str, entry| Function {
            name: name.to_owned(),
            entry,
            instructions: Vec::new(),
            callees: Vec::new(),
        };
        let chain = |on_6_1| Chain {
            own: 0,
            on_6_1,
            on_6_18: 0,
            calls: 1,
            path: Vec::new(),
        };
        let text = render(
            &[
                function("leaf", false),
                function("deep", false),
                function("main", true),
            ],
            &[chain(32), chain(96), chain(64)],
        );
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(names, ["function", "main", "deep", "leaf"]);
    }

    #[test]
    fn names_lose_the_folders_they_live_in() {
        assert_eq!(
            short("app::pipeline::first::packet::<app::family::V6, other::tables::Kernel>"),
            "first::packet::<V6, Kernel>"
        );
        assert_eq!(
            short("<app::pipeline::claim::Claim>::take::<app::family::V4>"),
            "<Claim>::take::<V4>"
        );
        assert_eq!(short("memset"), "memset");
    }
}
