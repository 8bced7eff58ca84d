//! Every way of writing that is allowed, and every value of every enumeration.

use std::time::Duration;

use super::{added, config};
use crate::config::model::*;

#[test]
fn node_limits_timeouts_api_and_log_take_all_their_keys() {
    let config = config(
        r#"
        [node]
        name = "lb1"
        interfaces = ["eth0", "eth1.100"]
        xdp_mode = "native"
        virtual_network = []
        advertise = "standby"
        allow_direct = true
        full_nat_ipv4 = "192.0.2.1"
        full_nat_ipv6 = "2001:db8::1"
        manage_host = false
        bpf_fs = "/a"
        state_dir = "/b"
        hash_seed = 7
        [limits]
        flows = 256
        new_flows_per_second_per_source = 10
        [timeouts]
        tcp_idle = "1s"
        udp_idle = "2s"
        udp_unreplied = "3s"
        udp_dns = "4s"
        icmp_idle = "5s"
        tcp_half_open = "6s"
        tcp_fin = "7s"
        tcp_rst = "8s"
        drain = "24h"
        [api]
        socket = "/c"
        metrics = "[::1]:1"
        whoami = "10.0.0.1:9471"
        group = "adm"
        [log]
        level = "debug"
        format = "json"
        flow_log = "/d"
        "#,
    );
    let node = &config.node;
    assert_eq!(
        (node.xdp_mode, node.advertise),
        (XdpMode::Native, Advertise::Standby)
    );
    assert!(node.allow_direct && !node.manage_host && node.virtual_network.is_empty());
    assert_eq!(node.full_nat_ipv4, Some("192.0.2.1".parse().unwrap()));
    assert_eq!(node.full_nat_ipv6, Some("2001:db8::1".parse().unwrap()));
    assert_eq!(
        (node.bpf_fs.to_str(), node.state_dir.to_str()),
        (Some("/a"), Some("/b"))
    );
    assert_eq!(node.hash_seed, Some(7));
    assert_eq!(config.limits.flows, Some(256));
    assert_eq!(config.limits.new_flows_per_second_per_source, 10);
    let t = &config.timeouts;
    let all = [
        t.tcp_idle,
        t.udp_idle,
        t.udp_unreplied,
        t.udp_dns,
        t.icmp_idle,
        t.tcp_half_open,
        t.tcp_fin,
        t.tcp_rst,
    ];
    assert_eq!(
        all.map(|timeout| timeout.as_secs()),
        [1, 2, 3, 4, 5, 6, 7, 8]
    );
    assert_eq!(t.drain, Some(Duration::from_hours(24)));
    assert_eq!(config.api.socket.to_str(), Some("/c"));
    assert_eq!(config.api.metrics, Some("[::1]:1".parse().unwrap()));
    assert_eq!(config.api.whoami, Some("10.0.0.1:9471".parse().unwrap()));
    assert_eq!(config.api.group.as_deref(), Some("adm"));
    assert_eq!(
        (config.log.level, config.log.format),
        (log::LevelFilter::Debug, LogFormat::Json)
    );
    assert_eq!(config.log.flow_log.unwrap().to_str(), Some("/d"));
}

#[test]
fn an_instance_has_a_short_form() {
    let config = added(
        r#"
        [[public_ip]]
        name = "a"
        ipv4 = "203.0.113.51"
        [[security_group]]
        name = "sg"
        [[instance]]
        name = "short"
        ipv4 = "10.0.2.1"
        public_ip = "a"
        security_group = "sg"
        [[instance]]
        name = "long"
        [[instance.ip_configs]]
        name = "one"
        ipv6 = "fd00:2::1"
        security_group = "sg"
        "#,
    );
    let [.., short, long] = &config.instances[..] else {
        panic!("four instances")
    };
    assert_eq!(short.security_group.as_deref(), Some("sg"));
    let ip_config = &short.ip_configs[0];
    assert_eq!(ip_config.name, "primary");
    assert_eq!(
        (ip_config.ipv4, ip_config.ipv6),
        (Some("10.0.2.1".parse().unwrap()), None)
    );
    assert_eq!(ip_config.public_ip.as_deref(), Some("a"));
    assert_eq!(long.ip_configs[0].name, "one");
    assert_eq!(long.ip_configs[0].security_group.as_deref(), Some("sg"));
}

#[test]
fn members_are_named_in_four_ways() {
    let config = added(
        r#"
        [[pool]]
        name = "four"
        members = [
          "web-1",
          "web-1/secondary",
          { instance = "web-2", weight = 256, admin_state = "up" },
        ]
        [[pool]]
        name = "two"
        members = [
          { instance = "web-1", ip_config = "secondary", admin_state = "down" },
          { instance = "web-1/primary", nat_port = 2200 },
        ]
        "#,
    );
    let named = |pool: usize| -> Vec<_> {
        let members = config.pools[pool].members.iter();
        members
            .map(|member| (member.target.to_string(), member.weight, member.admin_state))
            .collect()
    };
    assert_eq!(
        named(1),
        [
            ("web-1/primary".into(), 1, AdminState::None),
            ("web-1/secondary".into(), 1, AdminState::None),
            ("web-2/primary".into(), 256, AdminState::Up),
        ]
    );
    assert_eq!(named(2)[0], ("web-1/secondary".into(), 1, AdminState::Down));
    assert_eq!(config.pools[2].members[1].nat_port, Some(2200));
}

#[test]
fn a_probe_takes_every_word() {
    let config = added(
        r#"
        [[probe]]
        name = "p"
        protocol = "https"
        port = 8443
        path = "/live?x=1"
        host = "www.example.org"
        expect_status = [200, "301-302"]
        interval = "100ms"
        timeout = "50ms"
        rise = 3
        fall = 4
        flap_damping = false
        family = "ipv6"
        tls_verify = true
        ca_file = "/etc/ca.pem"
        [[probe]]
        name = "q"
        protocol = "tcp"
        family = "ipv4"
        "#,
    );
    let probe = &config.probes[0];
    assert_eq!(
        (probe.protocol, probe.port),
        (ProbeProtocol::Https, Some(8443))
    );
    assert_eq!(
        (probe.path.as_str(), probe.host.as_str()),
        ("/live?x=1", "www.example.org")
    );
    assert_eq!(probe.expect_status, [200..=200, 301..=302]);
    assert_eq!(
        (probe.interval.as_millis(), probe.timeout.as_millis()),
        (100, 50)
    );
    assert_eq!((probe.rise, probe.fall, probe.flap_damping), (3, 4, false));
    assert_eq!((probe.family, probe.tls_verify), (ProbeFamily::Ipv6, true));
    assert_eq!(
        probe.ca_file.as_ref().unwrap().to_str(),
        Some("/etc/ca.pem")
    );
    assert_eq!(config.probes[1].family, ProbeFamily::Ipv4);
}

#[test]
fn tables_may_be_written_inline() {
    let config = config(
        r#"
        node = { interfaces = ["eth0"] }
        frontend = [{ name = "web", ipv4 = "203.0.113.10" }]
        instance = [{ name = "a", ipv4 = "10.0.0.1" }]
        pool = [{ name = "p", members = ["a"] }]
        rule = [{ name = "r", frontend = "web", port = 80, pool = "p" }]
        "#,
    );
    assert_eq!(config.rules[0].pool, "p");
}
