//! Each second something else in the file changes, under load: no connection notices, and what cannot be read
//! changes nothing. `FOREBAY_LONG` makes it a minute.

use std::time::{Duration, Instant};

use forebay_tests::netlab::config::{Frontend, Instance, Rule};
use forebay_tests::netlab::{Arms, Config, Forebay, address};

use crate::scene::Scene;
use crate::under_load::under_load;

const SECOND: Duration = Duration::from_secs(1);
/// How often the file changes.
const CHANGES: usize = 20;
const MANY_CHANGES: usize = 60;

/// The file, and what the harness has no field for.
struct File {
    config: Config,
    virtual_network: &'static str,
    limit: u32,
}

impl File {
    fn text(&self) -> String {
        let node = "[node]\n";
        let network = format!("{node}virtual_network = {}\n", self.virtual_network);
        let limits = "[limits]\n";
        let limit = format!("{limits}new_flows_per_second_per_source = {}\n", self.limit);
        let text = self.config.to_string();
        text.replacen(node, &network, 1).replacen(limits, &limit, 1)
    }
}

/// A change, and what `reload` must say of it.
type Change = (&'static str, fn(&mut File));

/// A change of each section, and the change back.
const ALL: [Change; 18] = [
    ("web", |file| file.config.pools[0].members.truncate(2)),
    ("web", |file| file.config.pools[0].members[0].1 = 5),
    ("web", |file| {
        file.config.pools[0].members.push(("web-3".to_owned(), 2));
    }),
    ("more", |file| {
        file.config.rules.push(Rule::new("more", "tcp", 81, 8081));
    }),
    ("more", |file| file.config.rules[2].port = 82),
    ("more", |file| {
        file.config.rules[2].distribution = "source-ip"
    }),
    ("more", |file| file.config.rules.truncate(2)),
    ("http", |file| {
        file.config.rules[0].idle_timeout = Some("5m")
    }),
    ("echo", |file| {
        file.config.rules[1].distribution = "source-ip"
    }),
    ("timeouts", |file| {
        file.config.timeouts = vec![("tcp_idle", "6m"), ("tcp_half_open", "20s")];
    }),
    ("timeouts", |file| file.config.timeouts.clear()),
    ("limits", |file| file.limit = 1_000_000),
    ("limits", |file| file.limit = 0),
    ("other", |file| {
        file.config.frontends.push(Frontend {
            name: "other",
            ipv4: address::ROUTED_FRONTEND_V4,
            ipv6: address::ROUTED_FRONTEND_V6,
        });
    }),
    ("other", |file| file.config.frontends.truncate(1)),
    ("node", |file| {
        file.virtual_network = "[\"10.0.0.0/8\", \"fc00::/7\"]"
    }),
    ("web-4", |file| {
        file.config.instances.push(Instance {
            name: "web-4".to_owned(),
            ipv4: [10, 0, 1, 14].into(),
            ipv6: [0xfd00, 1, 0, 0, 0, 0, 0, 0x14].into(),
            public_ip: None,
        });
    }),
    ("web-4", |file| file.config.instances.truncate(3)),
];

fn is_refused(forebay: &Forebay, text: &str, words: &[&str]) {
    let state = |words: &[&str]| forebay.json(words).unwrap();
    let before = state(&["status"])["config"]["sha256"].clone();
    forebay.write_config(text).unwrap();
    let refused = forebay.cli(&["reload"]).unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    let checked = forebay.cli(&["check"]).unwrap();
    assert_eq!(refused.stderr.trim(), checked.stderr.trim());
    for word in words {
        assert!(refused.stderr.contains(word), "{word}: {refused:?}");
    }
    assert_eq!(state(&["status"])["config"]["sha256"], before);
}

#[test]
fn a_reload_each_second_of_any_section_costs_no_request_and_no_connection() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &scene;
    let mut file = File {
        config: config.clone(),
        virtual_network: "[\"10.0.0.0/8\", \"172.16.0.0/12\", \"fc00::/7\", \"fe80::/10\"]",
        limit: 0,
    };
    let changes = if std::env::var_os("FOREBAY_LONG").is_some() {
        MANY_CHANGES
    } else {
        CHANGES
    };
    under_load(lab, || {
        let start = Instant::now();
        forebay.write_config(&file.text()).unwrap();
        forebay.text(&["reload"]).unwrap();
        for number in 0..changes {
            let (what, change) = ALL[number % ALL.len()];
            change(&mut file);
            let text = file.text();
            match number % 6 {
                2 => {
                    let name = text.find("[[pool]]\nname = \"web").unwrap();
                    is_refused(forebay, &text[..name + 18], &["forebay.toml:"]);
                }
                5 => {
                    let wrong = text.replace("pool = \"web\"", "pool = \"wep\"");
                    is_refused(forebay, &wrong, &["forebay.toml:", "pool", "wep"]);
                }
                _ => {}
            }
            forebay.write_config(&text).unwrap();
            let printed = forebay.text(&["reload"]).unwrap();
            // Later some of them have been made already.
            assert!(
                number >= ALL.len() || printed.contains(what),
                "{what} has changed: {printed}"
            );
            let next = SECOND * (number as u32 + 1);
            std::thread::sleep(next.saturating_sub(start.elapsed()));
        }
        println!("{changes} changes in {:?}", start.elapsed());
    });
}
