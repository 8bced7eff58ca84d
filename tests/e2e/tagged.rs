//! VLAN tags that the host has no device for. Devices are tried over real NICs, in the suite `nic`: not
//! every kernel has them.

use std::time::Duration;

use forebay_tests::frame::{Frame, SERVICE_TAG, TAG, decode};
use forebay_tests::netlab::{Arms, Wire};
use forebay_tests::network::IpVersion;

use crate::endpoints::{as_received, client_wire};
use crate::scene::{Scene, eventually};

#[test]
fn tags_without_a_device_are_kept_on_the_same_nic() {
    let Some(scene) = Scene::run(Arms::One, |config| config.pools[0].members.truncate(1)) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let instance = &lab.instances[0];
    let (client, datagram) = client_wire(lab);
    let receiver = Wire::open(&instance.namespace, "eth0").unwrap();
    for tags in [vec![(TAG, 0x2007)], vec![(SERVICE_TAG, 8), (TAG, 9)]] {
        for version in IpVersion::BOTH {
            let frame = Frame {
                version,
                tags: tags.clone(),
                source_port: 43_000 + tags.len() as u16,
                ..datagram.clone()
            };
            let expected = as_received(&frame, lab, instance).build();
            for _ in 0..2 {
                client.send(&frame.build()).unwrap();
                let seen = receiver.receive(Duration::from_secs(2), |seen| seen == expected);
                assert!(
                    seen.is_some(),
                    "{}never came: {}",
                    decode(&expected),
                    forebay.json(&["show", "drops"]).unwrap()
                );
            }
        }
    }
}

#[test]
fn tags_without_a_device_do_not_cross_to_another_nic() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let (client, datagram) = client_wire(lab);
    for version in IpVersion::BOTH {
        let before = forebay.drops("vlan-crossing").unwrap();
        let frame = Frame {
            version,
            tags: vec![(TAG, 7)],
            ..datagram.clone()
        };
        client.send(&frame.build()).unwrap();
        eventually("it is dropped", Duration::from_secs(2), || {
            forebay.drops("vlan-crossing").unwrap() == before + 1
        });
    }
}
