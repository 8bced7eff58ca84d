//! Ten thousand rules and ten thousand members: nothing grows with the product of the two.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::*;

const RULES: usize = 10_000;
const MEMBERS: usize = 10_000;
/// Rules of each frontend.
const PER_FRONTEND: usize = 500;

/// Rules of every form over pools of different sizes.
/// Each with backend ports of its own, the single ones counted from `first`.
fn large(first: usize) -> String {
    let mut text = String::from("[node]\nname = \"lb1\"\ninterfaces = [\"c0\", \"i0\"]\n");
    for n in 0..RULES / PER_FRONTEND {
        let _ = write!(
            text,
            "[[frontend]]\nname = \"f{n}\"\nipv4 = \"203.0.113.{}\"\nipv6 = \"2001:db8:1::{:x}\"\n",
            n + 10,
            n + 16
        );
    }
    for n in 0..MEMBERS {
        let (high, low) = (n / 250, n % 250 + 1);
        let _ = write!(
            text,
            "[[instance]]\nname = \"i{n}\"\nipv4 = \"10.1.{high}.{low}\"\nipv6 = \"fd00:1::{:x}\"\n",
            n + 1
        );
    }
    let all: Vec<String> = (0..MEMBERS).map(|n| format!("\"i{n}\"")).collect();
    let _ = writeln!(
        text,
        "[[pool]]\nname = \"all\"\nmembers = [{}]",
        all.join(", ")
    );
    for (n, some) in all.chunks(1_000).enumerate() {
        let _ = writeln!(
            text,
            "[[pool]]\nname = \"p{n}\"\nmembers = [{}]",
            some.join(", ")
        );
    }
    for n in 0..RULES {
        let (frontend, port) = (n / PER_FRONTEND, n % PER_FRONTEND);
        let kind = if n % 5 == 1 {
            "inbound_nat_rule"
        } else {
            "rule"
        };
        let _ = writeln!(text, "[[{kind}]]");
        let _ = write!(text, "name = \"r{n}\"\nfrontend = \"f{frontend}\"\n");
        let _ = match n % 5 {
            0 => write!(
                text,
                "protocol = \"all\"\nport = \"{}-{}\"\npool = \"all\"\nbackend_port = {}\n",
                20_000 + port * 10,
                20_008 + port * 10,
                20_000 + n / 5 * 9
            ),
            1 => write!(
                text,
                "port = {}\ninstance = \"i{n}\"\nbackend_port = {}\n",
                port + 1,
                first + n
            ),
            _ => write!(
                text,
                "port = {}\npool = \"p{}\"\nbackend_port = {}\n",
                port + 1,
                n % 10,
                first + n
            ),
        };
    }
    text
}

/// Far above what it takes when each rule and member is looked at a few times, far below what it takes when
/// each rule looks at each member.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn ten_thousand_rules_and_ten_thousand_members_take_seconds() {
    let timed = |what: &str, begin: Instant| {
        let took = begin.elapsed();
        println!("{what}: {took:?}");
        assert!(took < PATIENCE, "{what}: {took:?}");
    };
    let (first, second) = (large(1_024), large(1_025));
    let begin = Instant::now();
    let first = parsed(&first);
    timed("read and check the file", begin);
    let second = parsed(&second);

    let mut control_plane = control_plane();
    let begin = Instant::now();
    let changes = control_plane.handle(Event::Config(first.clone())).unwrap();
    timed(&format!("{} writes of a first start", changes.len()), begin);
    let begin = Instant::now();
    assert_eq!(
        control_plane.handle(Event::Config(first.clone())).unwrap(),
        []
    );
    timed("nothing has changed", begin);
    let begin = Instant::now();
    let changes = control_plane.handle(Event::Config(second.clone())).unwrap();
    timed(
        &format!("{} writes when 8,000 rules change", changes.len()),
        begin,
    );
    let begin = Instant::now();
    control_plane.handle(Event::HopsInvalid(1)).unwrap();
    timed("a route has changed", begin);
    let begin = Instant::now();
    let changes = plan(Some(&first), &second);
    timed(&format!("{} planned changes", changes.len()), begin);
    let mut next = ControlPlane::new(TickRate(250), SIZES, [1, 2], left_behind(&control_plane));
    next.handle(Event::Host(host())).unwrap();
    let begin = Instant::now();
    let changes = next.handle(Event::Config(second)).unwrap();
    timed(
        &format!("{} writes of the next daemon", changes.len()),
        begin,
    );
}
