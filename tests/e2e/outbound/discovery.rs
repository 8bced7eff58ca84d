//! What a program that asks a STUN server with two addresses (RFC 5780) finds out about the way out.

use std::time::Duration;

use forebay_tests::netlab::{Arms, Lab, Process};

use super::{Outside, mirror, outbound_rule};
use crate::scene::{eventually, has_programs};

/// A STUN server at two addresses of each family.
fn stun_server(lab: &Lab) -> Process {
    let mut command = lab.client.command("turnserver");
    command.args(["-n", "--stun-only", "--no-tls", "--no-dtls", "--no-cli"]);
    command.args(["--log-file", "stdout", "--simple-log"]);
    for (option, file) in [("--userdb", "turn.db"), ("--pidfile", "turn.pid")] {
        command.arg(option).arg(lab.path().join(file));
    }
    for at in [2, 3].into_iter().flat_map(|host| mirror(host, 0)) {
        command.arg("--listening-ip").arg(at.ip().to_string());
    }
    let server = Process::spawn(command, &lab.path().join("turn.log")).unwrap();
    eventually("the STUN server listens", Duration::from_secs(20), || {
        server.output().contains("Total General servers")
    });
    server
}

fn found(outside: &Outside, test: &str, version: usize) -> String {
    let to = mirror(2, 0)[version].ip().to_string();
    let instance = &outside.lab().instances[0].namespace;
    let said = instance.run("turnutils_natdiscovery", &[test, &to]);
    let said = said.unwrap();
    let class = said.lines().find(|line| line.starts_with("NAT with"));
    class.unwrap_or(&said).to_owned()
}

#[test]
fn a_stun_client_finds_the_mapping_and_the_filtering_that_the_rule_says() {
    if !has_programs(&["turnserver", "turnutils_natdiscovery"]) {
        return;
    }
    let Some(mut outside) = Outside::run(Arms::Two, &outbound_rule("")) else {
        return;
    };
    let _server = stun_server(outside.lab());
    for version in 0..2 {
        let mapping = found(&outside, "-m", version);
        assert_eq!(mapping, "NAT with Endpoint Independent Mapping!");
    }
    for (filtering, class) in [
        ("endpoint-independent", "Endpoint Independent"),
        ("address-dependent", "Address Dependent"),
        ("address-and-port-dependent", "Address and Port Dependent"),
    ] {
        let rule = outbound_rule(&format!("filtering = {filtering:?}"));
        outside.reload(&rule, |_| {});
        for version in 0..2 {
            let filtering = found(&outside, "-f", version);
            assert_eq!(filtering, format!("NAT with {class} Filtering!"));
            if class == "Endpoint Independent" {
                // It asks its own port, which only everybody may.
                let said = found(&outside, "-H", version);
                assert!(said.contains("a successful hairpinning"), "{said}");
            }
        }
    }
    let rule = outbound_rule("mapping = { udp = \"per-destination\" }");
    outside.reload(&rule, |_| {});
    for version in 0..2 {
        // Two destinations may be given the same port by chance.
        let is_found = (0..3).any(|_| {
            let mapping = found(&outside, "-m", version);
            mapping == "NAT with Address and Port Dependent Mapping!"
        });
        assert!(is_found);
        let filtering = found(&outside, "-f", version);
        assert_eq!(filtering, "NAT with Address and Port Dependent Filtering!");
    }
}
