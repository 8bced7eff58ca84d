//! What surrounds TCP and UDP in a packet reaches the instance as it was sent.

use std::time::Duration;

use forebay_tests::frame::{Checksum, Frame, decode, verify};
use forebay_tests::netlab::{Arms, Wire};
use forebay_tests::network::IpVersion;

use crate::endpoints::{as_received, client_wire};
use crate::scene::Scene;

/// Protocol numbers of IPv6 extension headers.
const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;

#[test]
fn missing_checksums_options_and_extension_headers_reach_the_instance_unchanged() {
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, |config| config.pools[0].members.truncate(1)) else {
            return;
        };
        let Scene { lab, forebay, .. } = &scene;
        let instance = &lab.instances[0];
        let (client, datagram) = client_wire(lab);
        let receiver = Wire::open(&instance.namespace, "eth0").unwrap();
        let ipv6 = Frame {
            version: IpVersion::V6,
            ..datagram.clone()
        };
        let odd = [
            Frame {
                checksum: Checksum::Value(0),
                ..datagram.clone()
            },
            Frame {
                option_words: 3,
                ..datagram.clone()
            },
            Frame {
                option_words: 10,
                checksum: Checksum::Value(0),
                ..datagram
            },
            Frame {
                extensions: vec![DESTINATION_OPTIONS],
                ..ipv6.clone()
            },
            Frame {
                extensions: vec![HOP_BY_HOP, DESTINATION_OPTIONS, DESTINATION_OPTIONS],
                ..ipv6
            },
        ];
        for (frame, source_port) in odd.into_iter().zip(42_000..) {
            let frame = Frame {
                source_port,
                ..frame
            };
            let expected = as_received(&frame, lab, instance).build();
            // The second is a packet of a known flow.
            for _ in 0..2 {
                client.send(&frame.build()).unwrap();
                let is_it = |seen: &[u8]| {
                    let port = source_port.to_be_bytes();
                    seen.len() == expected.len() && seen.windows(2).any(|two| two == port)
                };
                let seen = receiver.receive(Duration::from_secs(2), is_it);
                let seen = seen.unwrap_or_else(|| {
                    panic!(
                        "{arms:?} {frame:?}: {}",
                        forebay.json(&["show", "drops"]).unwrap()
                    )
                });
                assert!(
                    seen == expected,
                    "{arms:?}\n{}instead of\n{}",
                    decode(&seen),
                    decode(&expected)
                );
                if frame.extensions.is_empty() && frame.checksum == Checksum::Right {
                    verify(&seen).unwrap();
                }
            }
        }
    }
}
