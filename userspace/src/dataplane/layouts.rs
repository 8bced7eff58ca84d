//! Pins of older layouts: where flows are alike, they are taken over.
//!
//! The flow tables and the links are moved into this version's folder; all other tables are made anew, while the
//! old program goes on with the old ones. It leaves when this version's takes its place on each link. Then
//! nothing is left of the older folder but what nobody uses.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use forebay_common::abi::{COMPATIBLE_FLOW_LAYOUTS, LAYOUT_VERSION, names};

use super::pins::{FLOW_TABLES, LINKS, MAPS, next_name};

/// What the folders beside this version's are.
#[derive(Debug, PartialEq, Eq)]
enum Others {
    /// Folders of layouts whose flows are as this version's.
    Compatible(Vec<String>),
    /// Folders that this version can do nothing with.
    Strange(Vec<String>),
}

fn judge(found: &[String]) -> Others {
    let is_compatible = |name: &&String| {
        let layout = name
            .strip_prefix('v')
            .and_then(|layout| layout.parse().ok());
        layout.is_some_and(|layout: u32| COMPATIBLE_FLOW_LAYOUTS.contains(&layout))
    };
    let (compatible, strange): (Vec<_>, Vec<_>) = found.iter().partition(is_compatible);
    if strange.is_empty() {
        Others::Compatible(compatible.into_iter().cloned().collect())
    } else {
        Others::Strange(strange.into_iter().cloned().collect())
    }
}

/// Folders of older layouts under `root`, beside `ours`, whose flows this version can use.
///
/// # Errors
/// There are folders of other layouts.
pub(super) fn older(root: &Path, ours: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(root).with_context(|| format!("read {}", root.display()))?;
    let found: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| ours.file_name().is_none_or(|ours| ours != name.as_str()))
        .collect();
    let older = match judge(&found) {
        Others::Compatible(older) => older,
        Others::Strange(strange) => bail!(
            "{} holds flows of another layout ({}) than this version's (v{LAYOUT_VERSION}): either run the version that made them, or give them up: `forebay detach` ends those flows and removes the program from the interfaces, then start again",
            root.display(),
            strange.join(", "),
        ),
    };
    Ok(older.iter().map(|name| root.join(name)).collect())
}

/// Takes flow tables and links of older layouts over into `ours`. The older folders are to be removed when no
/// link has their program any more. A daemon that dies in between is of no harm: the next one takes over
/// the rest.
///
/// # Errors
/// The file system refuses.
pub(super) fn take_over(older: &[PathBuf], ours: &Path) -> Result<()> {
    for folder in older {
        let tables = FLOW_TABLES.into_iter().map(str::to_owned);
        let nexts = FLOW_TABLES.into_iter().map(next_name);
        for name in tables.chain(nexts).chain([names::MOVING.to_owned()]) {
            adopt(&folder.join(MAPS).join(&name), &ours.join(MAPS).join(&name))?;
        }
        let links = fs::read_dir(folder.join(LINKS))
            .into_iter()
            .flatten()
            .flatten();
        for link in links {
            adopt(&link.path(), &ours.join(LINKS).join(link.file_name()))?;
        }
        log::info!("took over the flows and links in {}", folder.display());
    }
    Ok(())
}

/// Moves a pin, unless it is not there or there is one at its new place.
fn adopt(from: &Path, to: &Path) -> Result<()> {
    if !from.exists() || to.exists() {
        return Ok(());
    }
    fs::rename(from, to).with_context(|| format!("rename {} to {}", from.display(), to.display()))
}

/// Removes the folder of an older layout.
pub(super) fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(layouts: &[&str]) -> Vec<String> {
        layouts.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn only_layouts_with_the_same_flows_are_taken_over() {
        let known = COMPATIBLE_FLOW_LAYOUTS.map(|layout| format!("v{layout}"));
        assert_eq!(judge(&[]), Others::Compatible(Vec::new()));
        assert_eq!(judge(&known), Others::Compatible(known.to_vec()));
        for strange in ["v1", "v999", "v", "2", "notes"] {
            let mut found = known.to_vec();
            found.push(strange.to_owned());
            assert_eq!(judge(&found), Others::Strange(names(&[strange])));
        }
    }

    #[test]
    fn flow_tables_and_links_move_and_the_rest_stays() {
        let root = tempfile::tempdir().unwrap();
        let older = root.path().join(format!("v{}", COMPATIBLE_FLOW_LAYOUTS[0]));
        let ours = root.path().join(format!("v{LAYOUT_VERSION}"));
        for folder in [&older, &ours] {
            fs::create_dir_all(folder.join(MAPS)).unwrap();
            fs::create_dir_all(folder.join(LINKS)).unwrap();
        }
        for pin in [
            "maps/FLOWS4",
            "maps/NEXT_FLOWS6",
            "maps/RULES",
            "links/eth0",
        ] {
            fs::write(older.join(pin), pin).unwrap();
        }
        // Done by a daemon that died in between.
        fs::write(ours.join("maps/FLOWS6"), "").unwrap();
        for _ in 0..2 {
            let found = super::older(root.path(), &ours).unwrap();
            assert_eq!(found, std::slice::from_ref(&older));
            take_over(&found, &ours).unwrap();
            for pin in ["maps/FLOWS4", "maps/NEXT_FLOWS6", "links/eth0"] {
                assert_eq!(fs::read_to_string(ours.join(pin)).unwrap(), pin);
                assert!(!older.join(pin).exists(), "{pin}");
            }
            assert!(older.join("maps/RULES").exists());
            assert!(!ours.join("maps/RULES").exists());
        }
        remove(&older).unwrap();
        let none: [PathBuf; 0] = [];
        assert_eq!(super::older(root.path(), &ours).unwrap(), none);
    }

    #[test]
    fn strange_layouts_are_named_with_what_can_be_done() {
        let root = tempfile::tempdir().unwrap();
        let ours = root.path().join(format!("v{LAYOUT_VERSION}"));
        fs::create_dir_all(root.path().join("v1")).unwrap();
        let text = format!("{:#}", older(root.path(), &ours).unwrap_err());
        for word in ["v1", "forebay detach", "the version that made them"] {
            assert!(text.contains(word), "{text}");
        }
    }
}
