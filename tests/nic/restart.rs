//! A new daemon puts its program in the place of the old one, without the reset that some drivers
//! make when there was none.

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::{Conversation, curl};
use nix::sys::signal::Signal;

use crate::scene::{Scene, frontend};

#[test]
fn open_connections_live_through_a_restart_of_the_daemon() {
    let Some(mut scene) = Scene::run(Arms::Two) else {
        return;
    };
    let mut open: Vec<(Conversation, String)> = Vec::new();
    for to in frontend(80) {
        let (conversation, answer) = Conversation::open(&scene.lab.client, None, to).unwrap();
        open.push((conversation, answer.instance));
    }
    let resets = carrier_changes(&scene);
    scene.forebay.stop(Signal::SIGKILL).unwrap();
    for (conversation, instance) in &mut open {
        assert_eq!(conversation.ask().unwrap().instance, *instance);
    }
    scene.start();
    for (conversation, instance) in &mut open {
        assert_eq!(conversation.ask().unwrap().instance, *instance);
    }
    for to in frontend(80) {
        curl(&scene.lab.client, to, 3).unwrap();
    }
    assert_eq!(carrier_changes(&scene), resets, "the link went down");
}

/// How often the carriers of the node's NICs went or came.
fn carrier_changes(scene: &Scene) -> u64 {
    let changes = |name: &&str| {
        let arguments = ["-json", "-s", "-s", "link", "show", "dev", name];
        let text = scene.lab.node.run("ip", &arguments).unwrap();
        let links: serde_json::Value = serde_json::from_str(&text).unwrap();
        let count = links[0]["stats64"]["tx"]["carrier_changes"].as_u64();
        count.unwrap_or_else(|| panic!("no count of carrier changes: {text}"))
    };
    scene.lab.interfaces.iter().map(changes).sum()
}
