//! What a file that says little comes to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{BASE, config};
use crate::config::model::*;

const SMALLEST: &str = "node.interfaces = [\"eth0\"]";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn one_line_is_a_whole_configuration() {
    let config = config(SMALLEST);
    let private = [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    ];
    assert_eq!(
        config,
        Config {
            node: Node {
                name: "lb-host".into(),
                interfaces: vec!["eth0".into()],
                xdp_mode: XdpMode::Auto,
                virtual_network: private.map(|prefix| prefix.parse().unwrap()).to_vec(),
                advertise: Advertise::Neighbor,
                allow_direct: false,
                full_nat_ipv4: None,
                full_nat_ipv6: None,
                manage_host: true,
                bpf_fs: PathBuf::from("/sys/fs/bpf/forebay"),
                state_dir: PathBuf::from("/var/lib/forebay"),
                hash_seed: None,
            },
            limits: Limits {
                flows: None,
                new_flows_per_second_per_source: 0,
            },
            timeouts: Timeouts {
                tcp_idle: seconds(240),
                udp_idle: seconds(240),
                udp_unreplied: seconds(30),
                udp_dns: seconds(10),
                icmp_idle: seconds(60),
                tcp_half_open: seconds(30),
                tcp_fin: seconds(65),
                tcp_rst: seconds(16),
                drain: None,
            },
            api: Api {
                socket: PathBuf::from("/run/forebay/forebay.sock"),
                metrics: Some("127.0.0.1:9470".parse().unwrap()),
                whoami: None,
                group: None,
            },
            log: Log {
                level: log::LevelFilter::Info,
                format: LogFormat::Text,
                flow_log: None,
            },
            frontends: vec![],
            public_ips: vec![],
            instances: vec![],
            pools: vec![],
            probes: vec![],
            rules: vec![],
            inbound_nat_rules: vec![],
            outbound_rules: vec![],
            default_outbound: None,
            dns: None,
            security_groups: vec![],
            host_ports: BTreeMap::new(),
        }
    );
}

#[test]
fn text_that_stands_for_nothing_is_the_same_as_no_line() {
    let unset = r#"
        [node]
        interfaces = ["eth0"]
        full_nat_ipv4 = ""
        full_nat_ipv6 = ""
        [timeouts]
        drain = ""
        [api]
        whoami = ""
        group = ""
        [log]
        flow_log = ""
    "#;
    assert_eq!(config(unset), config(SMALLEST));
    let off = format!("{SMALLEST}\napi.metrics = \"\"");
    assert_eq!(config(&off).api.metrics, None);
}

#[test]
fn a_rule_needs_a_frontend_a_port_and_a_pool() {
    let rule = config(BASE).rules.remove(0);
    assert_eq!(
        rule,
        Rule {
            name: "web-http".into(),
            frontend: "web".into(),
            protocol: Protocol::Tcp,
            port: Ports::Single(80),
            pool: "web".into(),
            backend_port: Some(8080),
            probe: None,
            distribution: Distribution::FiveTuple,
            forwarding: Forwarding::Nat,
            idle_timeout: None,
            tcp_reset: true,
            no_healthy_backends: NoHealthyBackends::Down,
            outbound_snat: true,
        }
    );
}

#[test]
fn a_frontend_and_a_member_have_few_words() {
    let config = config(BASE);
    assert!(!config.frontends[0].shared && config.frontends[0].ping);
    assert_eq!(
        config.pools[0].members[0],
        Member {
            target: MemberRef {
                instance: "web-1".into(),
                ip_config: "primary".into(),
            },
            weight: 1,
            admin_state: AdminState::None,
            nat_port: None,
        }
    );
    assert_eq!(config.instances[1].ip_configs[0].security_group, None);
}

#[test]
fn a_probe_asks_for_200_every_five_seconds() {
    let probes = config(&format!("{SMALLEST}\n[[probe]]\nname = \"p\"")).probes;
    assert_eq!(
        probes[0],
        Probe {
            name: "p".into(),
            protocol: ProbeProtocol::Http,
            port: None,
            path: "/".into(),
            host: String::new(),
            expect_status: vec![200..=200],
            interval: seconds(5),
            timeout: seconds(5),
            rise: 1,
            fall: 2,
            flap_damping: true,
            family: ProbeFamily::Each,
            tls_verify: false,
            ca_file: None,
        }
    );
}

#[test]
fn a_probe_waits_as_long_as_its_interval_but_at_most_30_seconds() {
    for (interval, timeout) in [
        ("100ms", 100),
        ("10s", 10_000),
        ("30s", 30_000),
        ("2m", 30_000),
    ] {
        let text = format!("{SMALLEST}\n[[probe]]\nname = \"p\"\ninterval = \"{interval}\"");
        let expected = Duration::from_millis(timeout);
        assert_eq!(config(&text).probes[0].timeout, expected, "{interval}");
    }
}

#[test]
fn an_outbound_rule_needs_a_pool_and_frontends() {
    let text =
        format!("{BASE}[[outbound_rule]]\nname = \"o\"\npool = \"web\"\nfrontends = [\"nat\"]");
    assert_eq!(
        config(&text).outbound_rules[0],
        OutboundRule {
            name: "o".into(),
            pool: "web".into(),
            frontends: vec!["nat".into()],
            protocol: Protocol::All,
            ports_per_instance: PortsPerInstance::Auto,
            burst: true,
            tcp_mapping: Mapping::PerDestination,
            udp_mapping: Mapping::EndpointIndependent,
            filtering: Filtering::AddressAndPortDependent,
            frontend_selection: FrontendSelection::Spread,
            port_selection: PortSelection::Random,
            idle_timeout: None,
            tcp_reset: true,
            on_exhaustion: OnExhaustion::Reject,
        }
    );
    let half = format!("{text}\nmapping = {{ tcp = \"endpoint-independent\" }}");
    let rule = config(&half).outbound_rules.remove(0);
    let both = (Mapping::EndpointIndependent, Mapping::EndpointIndependent);
    assert_eq!((rule.tcp_mapping, rule.udp_mapping), both);
}

#[test]
fn the_remaining_tables_have_defaults_too() {
    let text = format!(
        "{BASE}
        [[inbound_nat_rule]]
        name = \"ssh\"
        frontend = \"web\"
        port = 2201
        instance = \"web-1\"
        [default_outbound]
        frontends = [\"nat\"]
        [dns]
        zone = \"example.org\"
        server = \"[2001:db8::53]:53\"
        [[security_group]]
        name = \"sg\"
        [[security_group.rule]]
        name = \"r\"
        priority = 100
        direction = \"inbound\"
        access = \"deny\"
        protocol = \"any\"
        "
    );
    let config = config(&text);
    let nat_rule = &config.inbound_nat_rules[0];
    assert_eq!(
        (nat_rule.protocol, nat_rule.backend_port),
        (Protocol::Tcp, None)
    );
    let outbound = config.default_outbound.unwrap();
    assert_eq!(outbound.ports_per_instance, PortsPerInstance::Fixed(1024));
    let dns = config.dns.unwrap();
    assert_eq!(
        (dns.ttl, dns.reverse, dns.tsig_key_file),
        (seconds(60), true, None)
    );
    let rule = &config.security_groups[0].rules[0];
    assert!(rule.source.is_empty() && rule.destination.is_empty());
    assert!(rule.source_ports.is_empty() && rule.destination_ports.is_empty());
}

#[test]
fn a_frontend_in_the_virtual_network_is_no_way_out_unless_it_says_so() {
    let internal = BASE.replace("203.0.113.10", "10.9.9.9");
    let snat = |text: &str| config(text).rules[0].outbound_snat;
    assert!(snat(BASE));
    assert!(!snat(&internal));
    assert!(!snat(&BASE.replace("2001:db8:1::10", "fd00::10")));
    assert!(snat(&format!("{internal}outbound_snat = true")));
    assert!(!snat(&format!("{BASE}outbound_snat = false")));
    let elsewhere = "interfaces = [\"eth0\"]\nvirtual_network = [\"192.168.0.0/16\"]";
    assert!(snat(
        &internal.replace("interfaces = [\"eth0\"]", elsewhere)
    ));
}
