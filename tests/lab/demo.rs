//! The tour: one network, one daemon, and every claim checked with real packets.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail};
use forebay_tests::netlab::client::{
    Answer, Conversation, connect_within, curl, spread, udp_ask, udp_socket,
};
use forebay_tests::netlab::{Arms, Config, Forebay, Lab, address, missing_requirement};

use super::report::{Report, heading, quote, say, step, table};

/// Requests a family; enough to tell a weight of 2 from a weight of 1.
const REQUESTS: usize = 240;

/// Runs the tour; an error when anything claimed turned out to be untrue.
pub(crate) fn run() -> Result<()> {
    if let Some(why) = missing_requirement(&[]) {
        bail!("{why} (`cargo xtask setup` installs what is missing)");
    }
    say!("Forebay demo: three web servers behind one address, balanced by XDP\n");
    let lab = step("making the network", || Lab::create(Arms::Two))?;
    let mut config = Config::sample(&lab);
    config.pools[0].members[1].1 = 2;
    let forebay = step("starting `forebay run`", || Forebay::run(&lab, &config))?;
    draw_network(&lab);
    let mut report = Report::default();
    let tour = tour(&lab, &config, &forebay, &mut report);
    conclude(&forebay, &report, tour)
}

fn tour(lab: &Lab, config: &Config, forebay: &Forebay, report: &mut Report) -> Result<()> {
    heading("The configuration");
    quote(&config.to_string());
    show_interfaces(forebay, report)?;
    show_flows(lab, forebay, report)?;
    show_spread(lab, config, report)?;
    show_datagrams(lab, report)?;
    show_closed_ports(lab, forebay, report)?;
    show_explanation(lab, forebay, report)
}

fn conclude(forebay: &Forebay, report: &Report, tour: Result<()>) -> Result<()> {
    if tour.is_err() || !report.failed().is_empty() {
        heading("What the daemon said");
        quote(&forebay.log());
    }
    tour?;
    say!();
    if report.failed().is_empty() {
        say!(
            "All {} checks passed. `cargo xtask lab` leaves the network up to play in.",
            report.passed()
        );
        return Ok(());
    }
    bail!(
        "{} of the claims above do not hold:\n  {}",
        report.failed().len(),
        report.failed().join("\n  ")
    )
}

fn draw_network(lab: &Lab) {
    let [first, second, third] = [0, 1, 2].map(|number| {
        let instance = &lab.instances[number];
        format!("{}  {}  {}", instance.name, instance.ipv4, instance.ipv6)
    });
    say!(
        "
  client                        node                          instances
                     ┌──────────────────────────┐        ┌──  {first}
  {:<17}──┤ client0  ──XDP──  inst0  ├────────┼──  {second}
  {:<19}└──────────────────────────┘        └──  {third}
                      {:<16} (frontend `web`)
                      {}",
        address::CLIENT_V4,
        address::CLIENT_V6,
        address::FRONTEND_V4,
        address::FRONTEND_V6
    );
}

/// The frontend and the client's own address, family by family.
fn families() -> [(&'static str, IpAddr, IpAddr); 2] {
    [
        (
            "IPv4",
            address::FRONTEND_V4.into(),
            address::CLIENT_V4.into(),
        ),
        (
            "IPv6",
            address::FRONTEND_V6.into(),
            address::CLIENT_V6.into(),
        ),
    ]
}

fn show_interfaces(forebay: &Forebay, report: &mut Report) -> Result<()> {
    heading("Interfaces (forebay status)");
    let status = forebay.json(&["status"])?;
    let interfaces = status["interfaces"].as_array().cloned().unwrap_or_default();
    let rows: Vec<[String; 3]> = interfaces
        .iter()
        .map(|interface| ["name", "xdp_mode", "attached"].map(|key| plain(&interface[key])))
        .collect();
    table(["INTERFACE", "XDP MODE", "ATTACHED"], &rows);
    say!();
    let is_native = |row: &[String; 3]| row[1] == "native" && row[2] == "true";
    report.claim(
        rows.len() == 2 && rows.iter().all(is_native),
        "XDP runs natively on both NICs",
    );
    Ok(())
}

fn plain(value: &serde_json::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn show_flows(lab: &Lab, forebay: &Forebay, report: &mut Report) -> Result<()> {
    heading("Flows (forebay show flows, with connections held open)");
    let mut open = Vec::new();
    for (_, frontend, _) in families() {
        for _ in 0..4 {
            open.push(Conversation::open(
                &lab.client,
                None,
                SocketAddr::new(frontend, 80),
            )?);
        }
    }
    quote(&forebay.text(&["show", "flows", "--limit", "20"])?);
    say!();
    let flows = forebay.list(&["show", "flows"])?;
    for (number, (conversation, answer)) in open.iter().enumerate() {
        let source = conversation.source()?;
        let listed = flows.iter().any(|flow| {
            flow["original"]["source_port"] == source.port()
                && flow["original"]["source"] == source.ip().to_string()
                && flow["instance"] == answer.instance
        });
        if !listed {
            report.claim(
                false,
                format!("connection {number} from {source} is in the flow table"),
            );
        }
    }
    let described = "every open connection is a flow towards the instance that answered it";
    report.claim(flows.len() >= open.len(), described);
    Ok(())
}

fn show_spread(lab: &Lab, config: &Config, report: &mut Report) -> Result<()> {
    heading("Spread over the instances (curl, each request a new connection)");
    let mut answers = Vec::new();
    for (family, frontend, _) in families() {
        let to = SocketAddr::new(frontend, 80);
        let what = format!("{REQUESTS} requests to http://{to}/");
        answers.push((family, step(&what, || curl(&lab.client, to, REQUESTS))?));
    }
    let counts: Vec<_> = answers.iter().map(|(_, answers)| spread(answers)).collect();
    let total: usize = config.pools[0]
        .members
        .iter()
        .map(|(_, weight)| usize::from(*weight))
        .sum();
    let mut rows = Vec::new();
    let mut all_fair = true;
    for (name, weight) in &config.pools[0].members {
        let fair = REQUESTS * usize::from(*weight) / total;
        let got = [0, 1].map(|family| counts[family].get(name.as_str()).copied().unwrap_or(0));
        // More than five standard deviations away.
        all_fair &= got
            .iter()
            .all(|&count| count.abs_diff(fair) * 10 <= fair * 6);
        rows.push([
            name.clone(),
            weight.to_string(),
            fair.to_string(),
            got[0].to_string(),
            got[1].to_string(),
        ]);
    }
    say!();
    table(["INSTANCE", "WEIGHT", "FAIR SHARE", "IPV4", "IPV6"], &rows);
    say!();
    report.claim(
        all_fair,
        "every instance got its share of requests, over IPv4 and over IPv6",
    );
    show_addresses(lab, &answers, report)
}

fn show_addresses(lab: &Lab, answers: &[(&str, Vec<Answer>)], report: &mut Report) -> Result<()> {
    heading("What the instances saw");
    let mut rows = Vec::new();
    let (mut is_kept, mut is_translated) = (true, true);
    for ((family, frontend, client), (_, answers)) in families().into_iter().zip(answers) {
        for answer in answers {
            let instance = lab.instance(&answer.instance)?;
            let own = [IpAddr::V4(instance.ipv4), IpAddr::V6(instance.ipv6)];
            is_kept &= answer.client == client;
            is_translated &= own.contains(&answer.server) && answer.server_port == 8080;
        }
        for name in spread(answers).into_keys() {
            let sample = answers.iter().find(|answer| answer.instance == name);
            rows.extend(sample.map(|answer| {
                [
                    family.to_owned(),
                    client.to_string(),
                    SocketAddr::new(frontend, 80).to_string(),
                    name.to_owned(),
                    answer.client.to_string(),
                    SocketAddr::new(answer.server, answer.server_port).to_string(),
                ]
            }));
        }
    }
    table(
        [
            "FAMILY",
            "CLIENT",
            "ASKED",
            "ANSWERED BY",
            "SAW CLIENT",
            "WAS ASKED AT",
        ],
        &rows,
    );
    say!();
    report.claim(
        is_kept,
        "every request arrived with the client's own address",
    );
    report.claim(
        is_translated,
        "every request arrived at the instance's address, port 80 as 8080",
    );
    Ok(())
}

fn show_datagrams(lab: &Lab, report: &mut Report) -> Result<()> {
    heading("Datagrams (UDP port 5000)");
    let mut rows = Vec::new();
    let mut all_right = true;
    for (family, frontend, client) in families() {
        let to = SocketAddr::new(frontend, 5000);
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..30 {
            let socket = udp_socket(&lab.client, SocketAddr::new(client, 0))?;
            let answer = udp_ask(&socket, to, "hello")?;
            all_right &= answer.from == to && answer.client == socket.local_addr()?;
            names.insert(answer.instance);
        }
        all_right &= names.len() > 1;
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        rows.push([family.to_owned(), "30".to_owned(), "30".to_owned(), names]);
    }
    table(["FAMILY", "SENT", "ANSWERED", "BY"], &rows);
    say!();
    report.claim(
        all_right,
        "every datagram was answered, from the address that was asked",
    );
    Ok(())
}

fn show_closed_ports(lab: &Lab, forebay: &Forebay, report: &mut Report) -> Result<()> {
    heading("Ports without a rule (drop reason `no-rule`)");
    let mut rows = Vec::new();
    let mut all_closed = true;
    for (family, frontend, _) in families() {
        for port in [22, 81, 8080] {
            let before = forebay.drops("no-rule")?;
            let to = SocketAddr::new(frontend, port);
            let attempt = connect_within(&lab.client, None, to, Duration::from_millis(400));
            let counted = forebay.drops("no-rule")? - before;
            all_closed &= attempt.is_err() && counted > 0;
            let result =
                attempt.map_or_else(|error| error.kind().to_string(), |_| "OPEN".to_owned());
            rows.push([
                family.to_owned(),
                format!("tcp {port}"),
                result,
                counted.to_string(),
            ]);
        }
    }
    table(["FAMILY", "PORT", "RESULT", "PACKETS DROPPED"], &rows);
    say!();
    quote(&forebay.text(&["show", "drops"])?);
    say!();
    report.claim(
        all_closed,
        "ports without a rule are closed, and what came to them is counted",
    );
    Ok(())
}

fn show_explanation(lab: &Lab, forebay: &Forebay, report: &mut Report) -> Result<()> {
    heading("Foretelling (forebay explain)");
    let mut all_right = true;
    for (_, frontend, client) in families() {
        let (from, to) = (
            SocketAddr::new(client, 40001),
            SocketAddr::new(frontend, 80),
        );
        let words = ["explain", "tcp", &from.to_string(), &to.to_string()];
        say!("  $ forebay {}", words.join(" "));
        quote(&forebay.text(&words)?);
        say!();
        let foretold = forebay.json(&words)?;
        let (_, answer) = Conversation::open(&lab.client, Some(from), to)?;
        all_right &= foretold["instance"] == answer.instance;
    }
    report.claim(
        all_right,
        "the connection then reached the instance that explain had named",
    );
    Ok(())
}
