//! Instances talk to frontends of this node, their own included.

use forebay_tests::netlab::client::{curl, spread, udp_ask, udp_socket};
use forebay_tests::netlab::{Arms, address};

use super::{Outside, from_any, of_family, outbound_rule};
use crate::scene::frontend;

#[test]
fn an_instance_reaches_its_own_frontend_whoever_is_chosen() {
    for arms in [Arms::Two, Arms::One] {
        let Some(outside) = Outside::run(arms, &outbound_rule("")) else {
            return;
        };
        for instance in &outside.lab().instances {
            for to in frontend(80) {
                let answers = curl(&instance.namespace, to, 30).unwrap();
                assert_eq!(spread(&answers).len(), 3, "itself too");
                let nat = of_family(super::NAT, to);
                assert!(answers.iter().all(|answer| answer.client == nat));
            }
            for to in frontend(5000) {
                for _ in 0..6 {
                    let socket = udp_socket(&instance.namespace, from_any(instance, to)).unwrap();
                    udp_ask(&socket, to, "hello").unwrap();
                }
            }
        }
    }
}

#[test]
fn without_a_way_out_the_frontends_own_address_serves() {
    let Some(outside) = Outside::run_with(Arms::Two, "", |config| {
        for rule in &mut config.rules {
            rule.outbound_snat = Some(false);
        }
    }) else {
        return;
    };
    let instance = &outside.lab().instances[0];
    for to in frontend(80) {
        let answers = curl(&instance.namespace, to, 20).unwrap();
        assert_eq!(spread(&answers).len(), 3);
        let web = of_family((address::FRONTEND_V4, address::FRONTEND_V6), to);
        assert!(answers.iter().all(|answer| answer.client == web));
    }
}
