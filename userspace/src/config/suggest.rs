//! "Did you mean": the word an operator probably wanted.

/// The candidate that `word` is most likely a slip of.
pub(super) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted = word.to_lowercase();
    let longest_slip = (wanted.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (slip(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= longest_slip)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance; a word that only lacks its beginning or end, or swaps `-` and `_`, is near.
fn slip(wanted: &str, candidate: &str) -> usize {
    if wanted.replace('-', "_") == candidate.replace('-', "_") {
        return 0;
    }
    let shared = wanted.len().min(candidate.len());
    if shared >= 4 && (candidate.contains(wanted) || wanted.contains(candidate)) {
        return 1;
    }
    strsim::damerau_levenshtein(wanted, candidate)
}

/// Words as a sentence lists them: `"a", "b" or "c"`.
pub(super) fn alternatives<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<_> = words
        .into_iter()
        .map(|word| format!("\"{word}\""))
        .collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_word_that_was_meant() {
        let keys = [
            "interfaces",
            "xdp_mode",
            "virtual_network",
            "port",
            "protocol",
        ];
        for (typed, meant) in [
            ("interface", Some("interfaces")),
            ("xdp-mode", Some("xdp_mode")),
            ("prot", Some("port")),
            ("protocl", Some("protocol")),
            ("Port", Some("port")),
            ("network", Some("virtual_network")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(closest(typed, keys), meant, "{typed}");
        }
    }

    #[test]
    fn lists_words_as_a_sentence_does() {
        assert_eq!(alternatives(["a"]), "\"a\"");
        assert_eq!(alternatives(["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
    }
}
