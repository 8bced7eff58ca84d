//! Builds the eBPF object that the binary embeds.

#[path = "../ebpf/build_recipe.rs"]
mod build_recipe;

fn main() -> std::process::ExitCode {
    build_recipe::build("forebay-xdp")
}
