//! The admin state of a pool's member.

use anyhow::{Result, bail};
use toml_edit::{InlineTable, Value};

use super::parse;
use super::tables::{TableMut, tables};
use crate::config::model::{AdminState, MemberRef};

const KEY: &str = "admin_state";

/// The text in which a member of a pool has this admin state.
///
/// # Errors
/// The text is no TOML, or there is no such pool or member.
pub fn set_admin_state(
    text: &str,
    pool: &str,
    member: &MemberRef,
    state: AdminState,
) -> Result<String> {
    let mut document = parse(text)?;
    let pools = document.get_mut("pool").map_or_else(Vec::new, tables);
    let mut pools = pools.into_iter();
    let Some(mut table) = pools.find(|table| table.text("name") == Some(pool)) else {
        bail!("no pool is called {pool}; `forebay show pools` lists them");
    };
    if !set_short(&mut table, member, state) && !set_long(&mut table, member, state) {
        bail!("pool {pool} has no member {member}; `forebay show pools` lists them");
    }
    Ok(document.to_string())
}

/// Of a member that is written as a name alone.
fn set_short(pool: &mut TableMut<'_>, member: &MemberRef, state: AdminState) -> bool {
    let mut names = pool.values("members").into_iter();
    let is_meant = |value: &&mut Value| {
        value
            .as_str()
            .is_some_and(|name| MemberRef::of(name) == *member)
    };
    let Some(value) = names.find(is_meant) else {
        return false;
    };
    if let Some(word) = word(state) {
        let mut long = InlineTable::new();
        long.insert("instance", Value::from(value.as_str().unwrap_or_default()));
        long.insert(KEY, Value::from(word));
        let decor = value.decor().clone();
        *value = Value::InlineTable(long);
        *value.decor_mut() = decor;
    }
    true
}

/// Of a member that is written as a table.
fn set_long(pool: &mut TableMut<'_>, member: &MemberRef, state: AdminState) -> bool {
    let is_meant = |table: &TableMut<'_>| {
        let instance = table.text("instance").unwrap_or_default();
        let named = match table.text("ip_config") {
            Some(ip_config) => MemberRef {
                instance: instance.to_owned(),
                ip_config: ip_config.to_owned(),
            },
            None => MemberRef::of(instance),
        };
        named == *member
    };
    let mut members = pool.list("members").into_iter();
    let Some(mut table) = members.find(is_meant) else {
        return false;
    };
    match word(state) {
        Some(word) => table.put(KEY, word),
        None => table.remove(KEY),
    }
    true
}

/// As the file has it; "none" is what is not written.
fn word(state: AdminState) -> Option<&'static str> {
    match state {
        AdminState::None => None,
        AdminState::Up => Some("up"),
        AdminState::Down => Some("down"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"[[pool]]
name = "web"
members = [
  "web-1", # the old one
  { instance = "web-2", ip_config = "second", weight = 2 },
  { instance = "web-3", admin_state = "up" }, # forced
]

# By headers.
[[pool]]
name = "api"
[[pool.members]]
instance = "web-1"
weight = 3
"#;

    fn changed(pool: &str, member: &str, state: AdminState) -> Vec<(String, String)> {
        let after = set_admin_state(FILE, pool, &MemberRef::of(member), state).unwrap();
        let lines = FILE.lines().zip(after.lines());
        let changed = lines.filter(|(old, new)| old != new);
        changed
            .map(|(old, new)| (old.to_owned(), new.to_owned()))
            .collect()
    }

    #[test]
    fn a_name_becomes_a_table_and_its_comment_stays() {
        assert_eq!(
            changed("web", "web-1", AdminState::Down),
            [(
                "  \"web-1\", # the old one".to_owned(),
                "  { instance = \"web-1\", admin_state = \"down\" }, # the old one".to_owned()
            )]
        );
        assert_eq!(changed("web", "web-1", AdminState::None), []);
    }

    #[test]
    fn a_table_takes_changes_and_loses_the_key() {
        let [(_, new)] = &changed("web", "web-2/second", AdminState::Up)[..] else {
            panic!("one line");
        };
        assert_eq!(
            new,
            "  { instance = \"web-2\", ip_config = \"second\", weight = 2, admin_state = \"up\" },"
        );
        let [(_, new)] = &changed("web", "web-3", AdminState::Down)[..] else {
            panic!("one line");
        };
        assert_eq!(
            new,
            "  { instance = \"web-3\", admin_state = \"down\" }, # forced"
        );
        let [(_, new)] = &changed("web", "web-3/primary", AdminState::None)[..] else {
            panic!("one line");
        };
        assert_eq!(new, "  { instance = \"web-3\" }, # forced");
    }

    #[test]
    fn a_member_of_another_pool_is_another_one() {
        let after =
            set_admin_state(FILE, "api", &MemberRef::of("web-1"), AdminState::Down).unwrap();
        assert_eq!(after, format!("{FILE}admin_state = \"down\"\n"));
    }

    #[test]
    fn who_is_not_there_is_named() {
        let error = |pool, member: &str| {
            let member = MemberRef::of(member);
            set_admin_state(FILE, pool, &member, AdminState::Up)
                .unwrap_err()
                .to_string()
        };
        assert!(error("nobody", "web-1").contains("no pool is called nobody"));
        assert!(error("api", "web-2").contains("has no member web-2/primary"));
    }
}
