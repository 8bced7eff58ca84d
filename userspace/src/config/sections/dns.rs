//! `[dns]`.

use std::time::Duration;

use crate::config::model::Dns;
use crate::config::place::Placed;
use crate::config::reader::Table;
use crate::config::values::time::duration;
use crate::config::values::{boolean, net, text};

const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_hours(7 * 24);

pub(super) fn dns(mut table: Table<'_>) -> Option<Placed<Dns>> {
    let zone = table.require("zone", "a zone such as \"lb.example.org\"", text::zone);
    let server = table.require(
        "server",
        "the address of a name server with its port, such as \"192.0.2.53:53\"",
        net::socket_address,
    );
    let tsig_key_file = table.get("tsig_key_file", text::path).present();
    let ttl = table
        .get("ttl", duration(SHORTEST_TTL..=LONGEST_TTL))
        .or(Duration::from_mins(1));
    let reverse = table.get("reverse", boolean).or(true);
    let finished = table.finish();
    let value = Dns {
        zone: zone?,
        server: server?,
        tsig_key_file,
        ttl,
        reverse,
    };
    Some(finished.with(value, Vec::new()))
}
