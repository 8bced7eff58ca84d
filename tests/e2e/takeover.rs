//! A second node that knows no flows takes over from the first in the middle of transfers: they go on.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use forebay_tests::netlab::client::connect_within;
use forebay_tests::netlab::config::Rule;
use forebay_tests::netlab::{Arms, Config, Forebay, Lab, address};
use serde_json::Value;

use crate::scene::{Scene, both};

/// Transfers, a quarter of them of each family and direction.
const TRANSFERS: usize = 200;
/// How many may be lost.
const LOST: usize = TRANSFERS / 100;
const PORT: u16 = 7000;
/// What is sent at once, and how often: some seconds' worth, paced by the sender.
const BLOCK: usize = 2048;
const BLOCKS: usize = 300;
const PAUSE: Duration = Duration::from_millis(20);
/// How long one block may take: much more than a few retransmissions.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first byte of a transfer.
const DOWNLOAD: u8 = b'D';
const UPLOAD: u8 = b'U';

/// Byte number `at` of every transfer.
fn byte(at: usize) -> u8 {
    (at / 251 + at) as u8
}

fn block(number: usize) -> Vec<u8> {
    (0..BLOCK).map(|at| byte(number * BLOCK + at)).collect()
}

/// Sends everything, a block at a time.
fn send(stream: &mut TcpStream) -> Result<()> {
    for number in 0..BLOCKS {
        stream
            .write_all(&block(number))
            .with_context(|| format!("send block {number}"))?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Receives and compares everything.
fn receive(stream: &mut TcpStream) -> Result<()> {
    let mut received = vec![0; BLOCK];
    for number in 0..BLOCKS {
        stream
            .read_exact(&mut received)
            .with_context(|| format!("receive block {number}"))?;
        ensure!(received == block(number), "block {number} came changed");
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    if kind[0] == DOWNLOAD {
        send(&mut stream)?;
    } else {
        receive(&mut stream)?;
        stream.write_all(b"!")?;
    }
    Ok(stream.shutdown(Shutdown::Write)?)
}

/// Has every instance serve transfers, until the test program ends.
fn start_servers(lab: &Lab) {
    for instance in &lab.instances {
        for address in [IpAddr::from(instance.ipv4), instance.ipv6.into()] {
            let at = SocketAddr::new(address, PORT);
            let listener = instance.namespace.enter(|| TcpListener::bind(at)).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    // A transfer that fails is seen by the client.
                    std::thread::spawn(move || serve(stream));
                }
            });
        }
    }
}

fn transfer(lab: &Lab, to: SocketAddr, kind: u8) -> Result<()> {
    let mut stream = connect_within(&lab.client, None, to, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&[kind])?;
    if kind == DOWNLOAD {
        return receive(&mut stream);
    }
    send(&mut stream)?;
    let mut end = [0];
    stream.read_exact(&mut end).context("wait for the end")?;
    Ok(())
}

fn shared_by_both(config: &mut Config) {
    config.hash_seed = Some(7);
    config.frontends[0].ipv4 = address::ROUTED_FRONTEND_V4;
    config.frontends[0].ipv6 = address::ROUTED_FRONTEND_V6;
    config.rules.push(Rule::new("bulk", "tcp", PORT, PORT));
}

/// Flows begun and packets met by the rule of the transfers.
fn counted(forebay: &Forebay) -> [u64; 2] {
    let rules: Vec<Value> = forebay.list(&["show", "rules"]).unwrap();
    let bulk = rules.iter().find(|rule| rule["name"] == "bulk").unwrap();
    ["new_flows_total", "packets_total"].map(|name| bulk[name].as_u64().unwrap())
}

/// Leads everything by the second node.
fn switch_over(lab: &Lab) {
    lab.client
        .ip("route replace default via 203.0.113.200\n\
             route replace default via 2001:db8:1::200")
        .unwrap();
    for instance in &lab.instances {
        instance
            .namespace
            .ip("route replace default via 10.0.1.200\n\
                 route replace default via fd00:1::200")
            .unwrap();
    }
}

#[test]
fn transfers_go_on_when_a_node_with_empty_tables_takes_over() {
    let Some(mut scene) = Scene::run(Arms::One, shared_by_both) else {
        return;
    };
    let node = scene.lab.add_node().unwrap();
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &scene;
    let config = Config {
        bpf_fs: lab.path().join("second-bpf/forebay"),
        state_dir: lab.path().join("second-state"),
        socket: lab.path().join("second.sock"),
        ..config.clone()
    };
    let mut second = Forebay::install_beside(lab, &node, "second", &config).unwrap();
    second.start().unwrap();
    start_servers(lab);
    let frontends = both(
        address::ROUTED_FRONTEND_V4,
        address::ROUTED_FRONTEND_V6,
        PORT,
    );
    let failures: Vec<String> = std::thread::scope(|scope| {
        let transfers: Vec<_> = (0..TRANSFERS)
            .map(|number| {
                let to = frontends[number % 2];
                let kind = [DOWNLOAD, UPLOAD][number / 2 % 2];
                scope.spawn(move || transfer(lab, to, kind))
            })
            .collect();
        std::thread::sleep(PAUSE * BLOCKS as u32 / 3);
        assert_eq!(counted(forebay)[0], TRANSFERS as u64, "all have begun");
        assert_eq!(counted(&second), [0, 0], "nothing has come by the second");
        let ended = transfers.iter().filter(|one| one.is_finished()).count();
        assert_eq!(ended, 0, "transfers that ended before");
        switch_over(lab);
        std::thread::sleep(Duration::from_secs(1));
        let before = counted(forebay);
        let outcomes = transfers.into_iter().map(|one| one.join().unwrap());
        let failures = outcomes
            .filter_map(|outcome| Some(format!("{:#}", outcome.err()?)))
            .collect();
        assert_eq!(counted(forebay), before, "the first is not asked any more");
        failures
    });
    let [flows, packets] = counted(&second);
    println!(
        "{} of {TRANSFERS} transfers complete; the second node took up {flows} flows, {packets} packets",
        TRANSFERS - failures.len()
    );
    assert!(
        failures.len() <= LOST,
        "{failures:?}\n{}\n--- what the second daemon said ---\n{}",
        second.json(&["show", "drops"]).unwrap(),
        second.log()
    );
    assert!(flows >= (TRANSFERS - LOST) as u64, "{flows} flows");
}
