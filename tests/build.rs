//! Builds the eBPF programs of the benchmark, which it embeds.

#[path = "../ebpf/build_recipe.rs"]
mod build_recipe;

fn main() -> std::process::ExitCode {
    build_recipe::build("forebay-bench-xdp")
}
