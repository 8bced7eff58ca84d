//! `[[instance]]` and its IP configurations.

use super::frontends::needs_an_address;
use crate::config::field::Field;
use crate::config::model::{Instance, IpConfig};
use crate::config::names::Names;
use crate::config::place::{Place, Placed};
use crate::config::reader::Table;
use crate::config::values::{net, text};

const SHORT_FORM: [&str; 3] = ["ipv4", "ipv6", "public_ip"];

pub(super) fn instance(mut table: Table<'_>, names: &mut Names) -> Option<Placed<Instance>> {
    let name = names.read(&mut table, "instance");
    let security_group = table.get("security_group", text::name).present();
    let (ip_configs, parts) = if table.has("ip_configs") {
        refuse_both_forms(&mut table);
        long_form(&mut table)
    } else {
        short_form(&mut table)
    };
    let finished = table.finish();
    let name = name?;
    for (ip_config, part) in ip_configs.iter().zip(&parts) {
        let reference = format!("{name}/{}", ip_config.name);
        names.note("IP configuration", reference, part.line);
    }
    if ip_configs.is_empty() {
        return None;
    }
    let value = Instance {
        name,
        security_group,
        ip_configs,
    };
    Some(finished.with(value, parts))
}

fn refuse_both_forms(table: &mut Table<'_>) {
    for key in SHORT_FORM {
        if table.has(key) {
            // Read only to know its line.
            table.get(key, |value| Ok(value.clone()));
            let message = "put it into an element of ip_configs";
            table
                .source()
                .error(table.place().at(key), "either this or ip_configs", message);
        }
    }
}

fn long_form(table: &mut Table<'_>) -> (Vec<IpConfig>, Vec<Place>) {
    let mut names = Names::default();
    let before = table.source().error_count();
    let tables = table.tables("ip_configs");
    if tables.is_empty() && table.source().error_count() == before {
        let message = "add one, as in { name = \"primary\", ipv4 = \"10.0.1.11\" }";
        let spot = table.place().at("ip_configs");
        table
            .source()
            .error(spot, "at least one IP configuration", message);
    }
    let read = tables.into_iter().filter_map(|mut table| {
        let name = names.read(&mut table, "IP configuration");
        let parts = addresses(&mut table);
        let security_group = table.get("security_group", text::name).present();
        let place = table.finish().place;
        let (ipv4, ipv6, public_ip) = parts?;
        let ip_config = IpConfig {
            name: name?,
            ipv4,
            ipv6,
            public_ip,
            security_group,
        };
        Some((ip_config, place))
    });
    read.unzip()
}

fn short_form(table: &mut Table<'_>) -> (Vec<IpConfig>, Vec<Place>) {
    let addresses = addresses(table);
    table.ignore("ip_configs");
    let ip_config = addresses.map(|(ipv4, ipv6, public_ip)| IpConfig {
        name: text::PRIMARY.to_owned(),
        ipv4,
        ipv6,
        public_ip,
        security_group: None,
    });
    let place = ip_config.is_some().then(|| table.place().clone());
    (ip_config.into_iter().collect(), place.into_iter().collect())
}

type Addresses = (
    Option<std::net::Ipv4Addr>,
    Option<std::net::Ipv6Addr>,
    Option<String>,
);

fn addresses(table: &mut Table<'_>) -> Option<Addresses> {
    let ipv4 = table.get("ipv4", net::ipv4);
    let ipv6 = table.get("ipv6", net::ipv6);
    needs_an_address(table, &ipv4, &ipv6);
    let neither = matches!((&ipv4, &ipv6), (Field::Absent, Field::Absent));
    let public_ip = table.get("public_ip", text::name).present();
    let (ipv4, ipv6) = (ipv4.optional(), ipv6.optional());
    (!neither).then_some(())?;
    Some((ipv4?, ipv6?, public_ip))
}
