//! Ports without a rule are closed.

use std::time::Duration;

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::{connect_within, curl, udp_ask, udp_socket};

use crate::scene::{Scene, client_towards, frontend};

#[test]
fn a_port_without_a_rule_is_closed_and_counted() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    for to in frontend(81) {
        let before = forebay.drops("no-rule").unwrap();
        let source = Some((client_towards(to), 0).into());
        let attempt = connect_within(&lab.client, source, to, Duration::from_millis(500));
        assert!(attempt.is_err(), "{to} accepts connections");
        let after = forebay.drops("no-rule").unwrap();
        assert!(
            after > before,
            "{}",
            forebay.json(&["show", "drops"]).unwrap()
        );
    }
    for to in frontend(5001) {
        let before = forebay.drops("no-rule").unwrap();
        let socket = udp_socket(&lab.client, (client_towards(to), 0).into()).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        assert!(udp_ask(&socket, to, "anybody?").is_err(), "{to} answers");
        assert_eq!(forebay.drops("no-rule").unwrap(), before + 1);
    }
    // A rule is for its own protocol only.
    for to in frontend(5000) {
        let attempt = connect_within(&lab.client, None, to, Duration::from_millis(500));
        assert!(attempt.is_err(), "{to} accepts connections");
    }
    for to in frontend(80) {
        curl(&lab.client, to, 1).unwrap();
    }
}
