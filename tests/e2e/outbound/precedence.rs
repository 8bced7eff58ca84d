//! Which of the four ways out counts, on a live system.

use forebay_tests::netlab::mirror::Reflection;
use forebay_tests::netlab::{Arms, address};

use super::{NAT, Outside, PUBLIC, frontend_table, mirror, of_family, outbound_rule};

const DEFAULT: (std::net::Ipv4Addr, std::net::Ipv6Addr) = (
    std::net::Ipv4Addr::new(203, 0, 113, 30),
    std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x30),
);

#[test]
fn the_highest_method_counts_for_new_flows_and_old_ones_keep_theirs() {
    let default = format!(
        "{}\n[default_outbound]\nfrontends = [\"default\"]\n",
        frontend_table("default", DEFAULT)
    );
    let none = |config: &mut forebay_tests::netlab::Config| {
        config
            .rules
            .retain(|rule| rule.name != "http" && rule.name != "echo");
    };
    let Some(mut outside) = Outside::run_with(Arms::Two, "", none) else {
        return;
    };
    let rules = forebay_tests::netlab::Config::sample(&outside.scene.lab).rules;
    let public = format!(
        "\n[[public_ip]]\nname = \"alice\"\nipv4 = \"{}\"\nipv6 = \"{}\"\n",
        PUBLIC.0, PUBLIC.1
    );
    let web = (address::FRONTEND_V4, address::FRONTEND_V6);
    let refuses = |outside: &Outside| {
        let instance = &outside.lab().instances[0].namespace;
        for to in mirror(2, 7000) {
            Reflection::open(instance, None, to).unwrap_err();
        }
    };
    let opens = |outside: &Outside, address, method: &str| {
        let instance = &outside.lab().instances[0];
        let listed = outside.scene.forebay.list(&["show", "instances"]).unwrap();
        let listed = listed
            .iter()
            .find(|one| one["name"] == instance.name.as_str());
        assert_eq!(listed.unwrap()["ip_configs"][0]["outbound"], method);
        mirror(2, 7000).map(|to| {
            let flow = Reflection::open(&instance.namespace, None, to).unwrap();
            assert_eq!(flow.seen.ip(), of_family(address, to), "{method}");
            flow
        })
    };
    refuses(&outside);
    outside.reload(&default, |_| {});
    let mut by_default = opens(&outside, DEFAULT, "default-outbound");
    outside.reload(&default, |config| config.rules.clone_from(&rules));
    let mut implied = opens(&outside, web, "rule-implied");
    let with_rule = format!("{default}{}", outbound_rule(""));
    outside.reload(&with_rule, |_| {});
    let mut by_rule = opens(&outside, NAT, "outbound-rule");
    outside.reload(&format!("{with_rule}{public}"), |config| {
        config.instances[0].public_ip = Some("alice");
    });
    let mut public_ip = opens(&outside, PUBLIC, "public-ip");
    let older = by_default
        .iter_mut()
        .chain(&mut implied)
        .chain(&mut by_rule);
    for flow in older {
        assert_eq!(flow.ask().unwrap(), flow.seen, "it keeps its translation");
    }
    for flow in &mut public_ip {
        assert_eq!(flow.ask().unwrap(), flow.seen);
    }
    outside.reload(&with_rule, |config| config.instances[0].public_ip = None);
    let mut again = opens(&outside, NAT, "outbound-rule");
    outside.reload(&default, |_| {});
    opens(&outside, web, "rule-implied");
    outside.reload(&default, |config| config.rules.clear());
    opens(&outside, DEFAULT, "default-outbound");
    outside.reload("", |_| {});
    refuses(&outside);
    let older = by_default.iter_mut().chain(&mut implied);
    for flow in older.chain(&mut by_rule).chain(&mut again) {
        assert_eq!(
            flow.ask().unwrap(),
            flow.seen,
            "its way out is gone, it is not"
        );
    }
}
