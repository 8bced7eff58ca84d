//! The samples are what the program accepts.

use super::text;

const SAMPLE: &str = "docs/examples/forebay.toml";

#[test]
fn the_sample_configuration_is_accepted_without_a_warning() {
    let loaded = forebay::config::parse(SAMPLE, &text(SAMPLE)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn the_readme_shows_the_sample_configuration() {
    let block = format!("```toml\n{}```", text(SAMPLE));
    assert!(
        text("README.md").contains(&block),
        "the block of TOML in README.md is not {SAMPLE}"
    );
}

#[test]
fn every_block_of_toml_in_a_document_is_toml() {
    for document in ["README.md", "docs/configuration.md", "docs/operations.md"] {
        let text = text(document);
        for block in text.split("```toml\n").skip(1) {
            let (block, _) = block.split_once("```").unwrap();
            let parsed = toml_edit::Document::parse(block);
            assert!(parsed.is_ok(), "{document}: {:?}\n{block}", parsed.err());
        }
    }
}
