//! What most tests start from: a lab with the daemon running in its node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forebay_tests::netlab::client::{Conversation, udp_ask, udp_socket};
use forebay_tests::netlab::{Arms, Config, Forebay, Lab, address, missing_requirement};
use serde_json::Value;

/// A lab with a daemon. Fields are dropped in this order.
pub(crate) struct Scene {
    pub(crate) forebay: Forebay,
    pub(crate) lab: Lab,
    pub(crate) config: Config,
    _turn: Turn,
}

impl Scene {
    /// The sample configuration, changed as the test likes, running; `None` after saying why not.
    pub(crate) fn run(arms: Arms, change: impl FnOnce(&mut Config)) -> Option<Self> {
        let mut scene = Self::install(arms, change)?;
        scene.forebay.start().unwrap();
        Some(scene)
    }

    /// The same with the daemon only installed, not started.
    pub(crate) fn install(arms: Arms, change: impl FnOnce(&mut Config)) -> Option<Self> {
        let (lab, turn) = lab_for(arms)?;
        let mut config = Config::sample(&lab);
        change(&mut config);
        let forebay = Forebay::install(&lab, &config).unwrap();
        Some(Self {
            forebay,
            lab,
            config,
            _turn: turn,
        })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what the daemon said ---\n{}", self.forebay.log());
        }
    }
}

/// A lab without daemon; `None` after saying why not.
pub(crate) fn lab_for(arms: Arms) -> Option<(Lab, Turn)> {
    if !has_programs(&[]) {
        return None;
    }
    let turn = Turn::take();
    Some((Lab::create(arms).unwrap(), turn))
}

/// Whether a lab can be made here and these programs besides; says why not.
pub(crate) fn has_programs(programs: &[&str]) -> bool {
    let missing = missing_requirement(programs);
    if let Some(why) = &missing {
        println!("skipped: {why}");
    }
    missing.is_none()
}

/// Leave to use the machine. Tests measure time, so only a few run at once however many threads
/// the test runner has.
pub(crate) struct Turn(());

const TURNS: u32 = 2;
static TAKEN: Mutex<u32> = Mutex::new(0);
static RETURNED: Condvar = Condvar::new();

impl Turn {
    fn take() -> Self {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= TURNS {
            taken = RETURNED.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        Self(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RETURNED.notify_one();
    }
}

/// Both addresses of a pair with a port: most tests do everything over both families.
pub(crate) fn both(ipv4: Ipv4Addr, ipv6: Ipv6Addr, port: u16) -> [SocketAddr; 2] {
    [
        SocketAddr::from((ipv4, port)),
        SocketAddr::from((ipv6, port)),
    ]
}

/// The on-link frontend in both families.
pub(crate) fn frontend(port: u16) -> [SocketAddr; 2] {
    both(address::FRONTEND_V4, address::FRONTEND_V6, port)
}

/// The client's usual address in the family of `to`.
pub(crate) fn client_towards(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => address::CLIENT_V4.into(),
        SocketAddr::V6(_) => address::CLIENT_V6.into(),
    }
}

/// A connection that this instance has.
pub(crate) fn connection_to(lab: &Lab, instance: &str, to: SocketAddr) -> Conversation {
    let opened = (0..60).find_map(|_| {
        let (conversation, answer) = Conversation::open(&lab.client, None, to).unwrap();
        (answer.instance == instance).then_some(conversation)
    });
    opened.expect("one of sixty connections goes to each of three instances")
}

/// A socket whose datagrams this instance has.
pub(crate) fn socket_to(lab: &Lab, instance: &str, to: SocketAddr) -> UdpSocket {
    let opened = (0..60).find_map(|_| {
        let socket = udp_socket(&lab.client, SocketAddr::new(client_towards(to), 0)).unwrap();
        let answer = udp_ask(&socket, to, "who").unwrap();
        (answer.instance == instance).then_some(socket)
    });
    opened.expect("one of sixty sockets goes to each of three instances")
}

/// Waits until something becomes true; says what did not when it never does.
pub(crate) fn eventually(what: &str, at_most: Duration, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < at_most, "not within {at_most:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The listed flow whose client is at `source`.
pub(crate) fn flow_from(forebay: &Forebay, source: SocketAddr) -> Option<Value> {
    let address = source.ip().to_string();
    let flows = forebay
        .list(&["show", "flows", "--source", &address])
        .unwrap();
    flows
        .into_iter()
        .find(|flow| flow["original"]["source_port"] == source.port())
}
