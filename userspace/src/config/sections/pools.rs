//! `[[pool]]` and its members.

use crate::config::field::Field;
use crate::config::model::{AdminState, Member, MemberRef, Pool};
use crate::config::names::Names;
use crate::config::place::{Place, Placed};
use crate::config::reader::{Element, Table};
use crate::config::values::{Parsed, numbers, one_of, ports, text};

const ADMIN_STATES: [(&str, AdminState); 3] = [
    ("none", AdminState::None),
    ("up", AdminState::Up),
    ("down", AdminState::Down),
];

pub(super) fn pool(mut table: Table<'_>, names: &mut Names) -> Option<Placed<Pool>> {
    let name = names.read(&mut table, "pool");
    let elements = table.elements("members");
    let (members, parts) = elements
        .into_iter()
        .filter_map(|element| member(&table, element))
        .unzip();
    let finished = table.finish();
    let value = Pool {
        name: name?,
        members,
    };
    Some(finished.with(value, parts))
}

fn member(pool: &Table<'_>, element: Element<'_>) -> Option<(Member, Place)> {
    match element {
        Element::Table(table) => member_table(table),
        Element::Value(value, place) => match text::member(value) {
            Ok(target) => Some((plain_member(target), place)),
            Err(mismatch) => {
                (pool.source()).error(place.whole(), mismatch.expected, mismatch.message);
                None
            }
        },
    }
}

fn plain_member(target: MemberRef) -> Member {
    Member {
        target,
        weight: 1,
        admin_state: AdminState::None,
        nat_port: None,
    }
}

fn member_table(mut table: Table<'_>) -> Option<(Member, Place)> {
    let target = target(&mut table);
    let weight = table.get("weight", numbers::integer(1..=256)).or(1);
    let admin_state = table
        .get("admin_state", one_of(&ADMIN_STATES))
        .or(AdminState::None);
    let nat_port = table.get("nat_port", ports::port).present();
    let place = table.finish().place;
    let member = Member {
        target: target?,
        weight,
        admin_state,
        nat_port,
    };
    Some((member, place))
}

/// `instance = "web-1", ip_config = "secondary"`, or `instance = "web-1/secondary"`.
fn target(table: &mut Table<'_>) -> Option<MemberRef> {
    let with_slash = |value: &toml_edit::Value| -> Parsed<(MemberRef, bool)> {
        let slash = value.as_str().is_some_and(|text| text.contains('/'));
        Ok((text::member(value)?, slash))
    };
    let instance = table.require("instance", text::MEMBER, with_slash);
    match (instance, table.get("ip_config", text::name)) {
        (Some((target, false)), Field::Present(ip_config)) => Some(MemberRef {
            ip_config,
            ..target
        }),
        (Some((_, true)), Field::Present(_)) => {
            let message = "instance names the IP configuration already; remove one of them";
            table.source().error(
                table.place().at("ip_config"),
                "either this or the slash",
                message,
            );
            None
        }
        (Some((target, _)), Field::Absent) => Some(target),
        (None, _) | (_, Field::Invalid) => None,
    }
}
