//! What every test starts from: a lab over NICs, with the daemon running in native mode.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use forebay_tests::netlab::{
    Arms, Config, Forebay, Lab, Nics, address, missing_requirement, wait_for_carrier,
};

/// How the node is connected, one after the other.
pub(crate) const ARMS: [Arms; 2] = [Arms::Two, Arms::One];

/// A lab with a daemon. Fields are dropped in this order.
pub(crate) struct Scene {
    pub(crate) forebay: Forebay,
    pub(crate) lab: Lab,
    pub(crate) nics: Nics,
}

impl Scene {
    /// The sample configuration in native mode, running; `None` after saying why not.
    pub(crate) fn run(arms: Arms) -> Option<Self> {
        Self::run_with(arms, |_| {})
    }

    /// The same, changed as the test likes.
    pub(crate) fn run_with(arms: Arms, change: impl FnOnce(&mut Config)) -> Option<Self> {
        let mut scene = Self::install(arms, change)?;
        scene.start();
        Some(scene)
    }

    /// The same with the daemon only installed, not started.
    pub(crate) fn install(arms: Arms, change: impl FnOnce(&mut Config)) -> Option<Self> {
        let Some(nics) = Nics::from_environment().unwrap() else {
            println!("skipped: no NICs to try; `cargo xtask test --vm` has some");
            return None;
        };
        if let Some(why) = missing_requirement(&[]) {
            println!("skipped: {why}");
            return None;
        }
        let lab = Lab::with_nics(arms, &nics).unwrap();
        let mut config = Config::sample(&lab);
        config.xdp_mode = Some("native");
        change(&mut config);
        let forebay = Forebay::install(&lab, &config).unwrap();
        Some(Self { forebay, lab, nics })
    }

    /// Starts the daemon. Some drivers reset the link when a program comes.
    pub(crate) fn start(&mut self) {
        self.forebay.start().unwrap();
        self.assert_native();
        wait_for_carrier(&self.lab.node, &self.lab.interfaces).unwrap();
    }

    /// The kernel says that the driver itself runs the program, and the daemon says the same.
    fn assert_native(&self) {
        let status = self.forebay.json(&["status"]).unwrap();
        let listed = status["interfaces"].as_array().unwrap();
        for name in &self.lab.interfaces {
            let link = self.lab.node.link(name).unwrap();
            assert_eq!(link["xdp"]["mode"], 1, "{}: {link}", self.nics.driver);
            let interface = listed.iter().find(|one| one["name"] == *name);
            assert_eq!(interface.unwrap()["xdp_mode"], "native", "{status}");
        }
    }

    /// Packets are forwarded by the program. The kernel, to which it may leave those whose next hop is
    /// not known yet, would do all of it slowly and unnoticed.
    pub(crate) fn assert_kernel_forwards_little(&self) {
        let count = self.lab.node.enter(forwarded_by_kernel);
        assert!(count < 100, "the kernel forwarded {count} packets");
    }
}

/// Packets of both families that the kernel forwarded in the namespace of the calling thread.
fn forwarded_by_kernel() -> u64 {
    let read = |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    let table = read("snmp");
    let mut ip = table.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (ip.next().unwrap(), ip.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, ipv4) = pairs.find(|(name, _)| *name == "ForwDatagrams").unwrap();
    let table = read("snmp6");
    let mut lines = table.lines();
    let ipv6 = lines
        .find_map(|line| line.strip_prefix("Ip6OutForwDatagrams"))
        .unwrap();
    ipv4.parse::<u64>().unwrap() + ipv6.trim().parse::<u64>().unwrap()
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what the daemon said ---\n{}", self.forebay.short_log());
            let drops = self.forebay.text(&["show", "drops"]);
            eprintln!("--- where packets went ---\n{}", drops.unwrap_or_default());
        }
    }
}

/// Both addresses of a pair with a port: everything is done over both families.
pub(crate) fn both(ipv4: Ipv4Addr, ipv6: Ipv6Addr, port: u16) -> [SocketAddr; 2] {
    [
        SocketAddr::from((ipv4, port)),
        SocketAddr::from((ipv6, port)),
    ]
}

/// The frontend in both families.
pub(crate) fn frontend(port: u16) -> [SocketAddr; 2] {
    both(address::FRONTEND_V4, address::FRONTEND_V6, port)
}
