//! `[[frontend]]` and `[[public_ip]]`.

use ipnet::{Ipv4Net, Ipv6Net};

use crate::config::field::Field;
use crate::config::model::{Frontend, PublicIp};
use crate::config::names::Names;
use crate::config::place::Placed;
use crate::config::reader::Table;
use crate::config::values::{boolean, net, text};

const AN_ADDRESS: &str = "ipv4, ipv6 or both";

pub(super) fn frontend(mut table: Table<'_>, names: &mut Names) -> Option<Placed<Frontend>> {
    let name = names.read(&mut table, "frontend");
    let ipv4 = table.get("ipv4", net::frontend_ipv4);
    let ipv6 = table.get("ipv6", net::frontend_ipv6);
    needs_an_address(&table, &ipv4, &ipv6);
    let shared = table.get("shared", boolean).or(false);
    let ping = table.get("ping", boolean).or(true);
    let (ipv4, ipv6) = (ipv4.optional(), ipv6.optional());
    if shared {
        refuse_shared_prefix(&table, ipv4.flatten(), ipv6.flatten());
    }
    let finished = table.finish();
    let value = Frontend {
        name: name?,
        ipv4: ipv4?,
        ipv6: ipv6?,
        shared,
        ping,
    };
    Some(finished.with(value, Vec::new()))
}

fn refuse_shared_prefix(table: &Table<'_>, ipv4: Option<Ipv4Net>, ipv6: Option<Ipv6Net>) {
    let prefixes = [
        ("ipv4", ipv4.is_some_and(|net| net.prefix_len() < 32)),
        ("ipv6", ipv6.is_some_and(|net| net.prefix_len() < 128)),
    ];
    for (key, is_prefix) in prefixes {
        if is_prefix {
            let message = "a shared frontend is an address of this host; write that address";
            table
                .source()
                .error(table.place().at(key), "one address", message);
        }
    }
}

pub(super) fn public_ip(mut table: Table<'_>, names: &mut Names) -> Option<Placed<PublicIp>> {
    let name = names.read(&mut table, "public_ip");
    let ipv4 = table.get("ipv4", net::ipv4);
    let ipv6 = table.get("ipv6", net::ipv6);
    needs_an_address(&table, &ipv4, &ipv6);
    let dns_label = table.get("dns_label", text::dns_label).present();
    let finished = table.finish();
    let value = PublicIp {
        name: name?,
        ipv4: ipv4.optional()?,
        ipv6: ipv6.optional()?,
        dns_label,
    };
    Some(finished.with(value, Vec::new()))
}

/// Refuses a table with neither family.
pub(super) fn needs_an_address<A, B>(table: &Table<'_>, ipv4: &Field<A>, ipv6: &Field<B>) {
    if matches!((ipv4, ipv6), (Field::Absent, Field::Absent)) {
        let message = "it has no address; add ipv4, ipv6 or both";
        table
            .source()
            .error(table.place().whole(), AN_ADDRESS, message);
    }
}
