//! Nodes that share a seed choose alike.

use std::net::SocketAddr;

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::Conversation;

use crate::scene::{Scene, client_towards, frontend};

/// Which instance thirty connections from fixed ports reach, over each family.
fn choices(arms: Arms, seed: u64) -> Option<Vec<String>> {
    let Scene { lab, .. } = &Scene::run(arms, |config| config.hash_seed = Some(seed))?;
    let mut chosen = Vec::new();
    for to in frontend(80) {
        for port in 41000..41030 {
            let from = SocketAddr::new(client_towards(to), port);
            chosen.push(
                Conversation::open(&lab.client, Some(from), to)
                    .unwrap()
                    .1
                    .instance,
            );
        }
    }
    Some(chosen)
}

#[test]
fn nodes_with_one_seed_choose_the_same_instances() {
    let Some(first) = choices(Arms::Two, 7) else {
        return;
    };
    let Some(second) = choices(Arms::One, 7) else {
        return;
    };
    let Some(other) = choices(Arms::Two, 8) else {
        return;
    };
    assert_eq!(first, second);
    assert_ne!(first, other, "the seed has no influence");
}
