//! Large transfers: checksums and segments as the drivers' offloads make them.

use std::net::SocketAddr;

use forebay_tests::netlab::bulk::{self, Echo};
use forebay_tests::netlab::config::Rule;
use forebay_tests::netlab::{Config, Forebay, Lab};

use crate::scene::{Scene, frontend};

/// The rule's port.
pub(crate) const PORT: u16 = 7000;
/// Each way.
const BYTES: usize = 3_000_000;

/// Large transfers over both families come back as they went, and the program does the work.
pub(crate) fn assert_large_transfers(scene: &Scene) {
    let Scene { lab, forebay, .. } = scene;
    serve_on_instances(lab);
    for to in frontend(PORT) {
        let mut echo = Echo::open(&lab.client, to).unwrap();
        echo.exchange(BYTES)
            .unwrap_or_else(|error| panic!("{to}: {error:#}"));
        assert_eq!(forebay.drops("too-big").unwrap(), 0, "{to}");
    }
    assert!(bytes_of_the_rule(forebay) > 4 * BYTES as u64);
    scene.assert_kernel_forwards_little();
}

/// A rule for the service that gives back what it gets.
pub(crate) fn add_rule(config: &mut Config) {
    config.rules.push(Rule::new("bulk", "tcp", PORT, PORT));
}

/// That service on every instance.
pub(crate) fn serve_on_instances(lab: &Lab) {
    for instance in &lab.instances {
        for at in [
            SocketAddr::from((instance.ipv4, PORT)),
            SocketAddr::from((instance.ipv6, PORT)),
        ] {
            bulk::serve(at, &instance.namespace).unwrap();
        }
    }
}

fn bytes_of_the_rule(forebay: &Forebay) -> u64 {
    let rules = forebay.list(&["show", "rules"]).unwrap();
    let rule = rules.iter().find(|rule| rule["name"] == "bulk").unwrap();
    rule["bytes_total"].as_u64().unwrap()
}
