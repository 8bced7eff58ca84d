//! The node's own services behind the driver's XDP path.

use forebay_tests::netlab::address;
use forebay_tests::netlab::bulk::{self, Echo};
use forebay_tests::netlab::client::answers_ping;

use crate::scene::{ARMS, Scene, both};

#[test]
fn the_node_itself_stays_reachable_also_by_connections_from_before() {
    for arms in ARMS {
        let Some(mut scene) = Scene::install(arms, |_| {}) else {
            return;
        };
        let own = both(address::NODE_V4, address::NODE_V6, 22);
        let mut open = Vec::new();
        for to in own {
            bulk::serve(to, &scene.lab.node).unwrap();
            let mut echo = Echo::open(&scene.lab.client, to).unwrap();
            echo.exchange(1000).unwrap();
            open.push(echo);
        }
        scene.start();
        for (to, former) in own.into_iter().zip(&mut open) {
            let client = &scene.lab.client;
            assert!(answers_ping(client, to.ip()), "{arms:?}: no ping to {to}");
            former.exchange(100_000).unwrap();
            let mut echo = Echo::open(client, to).unwrap();
            echo.exchange(1_000_000)
                .unwrap_or_else(|error| panic!("{arms:?} {to}: {error:#}"));
        }
    }
}
