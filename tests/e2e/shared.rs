//! A host with one NIC whose only addresses are also the frontend, as virtual machines in clouds are.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use forebay_tests::netlab::client::{
    Conversation, answers_ping, connect, connect_within, curl, spread, udp_ask, udp_socket,
};
use forebay_tests::netlab::{Arms, Lab, Namespace, Sniffer, address};
use nix::sys::signal::Signal;

use crate::scene::{Scene, both, client_towards, eventually};

const HOST_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);

fn host(port: u16) -> [SocketAddr; 2] {
    both(HOST_V4, HOST_V6, port)
}

/// The frontend has the addresses that the node is left with; nothing says yet that it is shared.
fn one_nic_host() -> Option<Scene> {
    let scene = Scene::install(Arms::One, |config| {
        config.frontends[0].ipv4 = HOST_V4;
        config.frontends[0].ipv6 = HOST_V6;
    })?;
    let Lab { node, client, .. } = &scene.lab;
    node.ip("address delete 203.0.113.1/24 dev net0\n\
             address delete 2001:db8:1::1/64 dev net0\n\
             route add 203.0.113.0/24 dev net0\n\
             route add 2001:db8:1::/64 dev net0")
        .unwrap();
    client
        .ip("route add 10.0.1.1 dev eth0\n\
             route add fd00:1::1 dev eth0\n\
             route replace default via 10.0.1.1\n\
             route replace default via fd00:1::1")
        .unwrap();
    Some(scene)
}

fn share(scene: &Scene) -> String {
    let text = scene.config.to_string();
    text.replacen("name = \"web\"\n", "name = \"web\"\nshared = true\n", 1)
}

fn shared() -> Option<Scene> {
    let mut scene = one_nic_host()?;
    scene.forebay.write_config(&share(&scene)).unwrap();
    scene.forebay.start().unwrap();
    Some(scene)
}

/// Accepts connections at a port and says the same word on each; ends with the test.
fn service(namespace: &Namespace, address: IpAddr, port: u16) {
    let listener = namespace
        .enter(|| TcpListener::bind((address, port)))
        .unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo(stream));
        }
    });
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

fn says(stream: &mut TcpStream, word: &str) {
    stream.write_all(word.as_bytes()).unwrap();
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, word.as_bytes());
}

#[test]
fn a_host_whose_only_address_is_the_frontend_keeps_what_is_its_own() {
    let Some(scene) = shared() else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let shown = forebay.list(&["show", "frontends"]).unwrap();
    assert_eq!(
        (&shown[0]["shared"], &shown[0]["advertised"]),
        (&true.into(), &false.into())
    );

    // What listens on the host, as sshd does.
    let mut sessions: Vec<TcpStream> = Vec::new();
    for at in host(2222) {
        service(&lab.node, at.ip(), at.port());
        let mut session = connect(&lab.client, None, at).unwrap();
        says(&mut session, "hello");
        sessions.push(session);
    }
    // What the host begins: towards clients, and towards instances.
    for (number, from) in host(0).into_iter().enumerate() {
        let to = client_towards(from);
        service(&lab.client, to, 3333);
        let mut own = connect(&lab.node, Some(from), SocketAddr::new(to, 3333)).unwrap();
        says(&mut own, "from the host");
        let instance = &lab.instances[number];
        let to = both(instance.ipv4, instance.ipv6, 8080)[number];
        let answers = curl(&lab.node, to, 3).unwrap();
        assert!(
            answers.iter().all(|answer| answer.client == from.ip()),
            "{answers:?}"
        );
    }
    for at in host(0) {
        assert!(answers_ping(&lab.client, at.ip()), "ping to {}", at.ip());
        assert!(
            answers_ping(&lab.node, client_towards(at)),
            "ping from {}",
            at.ip()
        );
    }
    // A closed port is the kernel's to refuse.
    for at in host(4444) {
        let error = connect_within(&lab.client, None, at, Duration::from_secs(2)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{at}");
    }
    forebay.text(&["reload"]).unwrap();
    for session in &mut sessions {
        says(session, "still here");
    }
}

#[test]
fn ports_of_rules_are_balanced_on_a_shared_address() {
    let Some(scene) = shared() else {
        return;
    };
    let Scene { lab, .. } = &scene;
    for to in host(80) {
        // Something listens on the host as well; the rule comes first.
        service(&lab.node, to.ip(), to.port());
        let answers = curl(&lab.client, to, 60).unwrap();
        assert_eq!(spread(&answers).len(), 3, "{to}");
        assert!(
            answers
                .iter()
                .all(|answer| answer.client == client_towards(to))
        );
        let (mut long, first) = Conversation::open(&lab.client, None, to).unwrap();
        assert_eq!(long.ask().unwrap().instance, first.instance);
    }
    for to in host(5000) {
        let socket = udp_socket(&lab.client, SocketAddr::new(client_towards(to), 0)).unwrap();
        let answer = udp_ask(&socket, to, "ping").unwrap();
        assert_eq!(answer.from, to);
    }
}

#[test]
fn a_removed_shared_frontend_leaves_its_address_to_the_host() {
    let Some(mut scene) = shared() else {
        return;
    };
    let session = |scene: &Scene, at: SocketAddr| {
        says(&mut connect(&scene.lab.client, None, at).unwrap(), "hello");
    };
    for at in host(2222) {
        service(&scene.lab.node, at.ip(), at.port());
        curl(&scene.lab.client, SocketAddr::new(at.ip(), 80), 3).unwrap();
    }
    scene.config.frontends[0].ipv4 = address::ROUTED_FRONTEND_V4;
    scene.config.frontends[0].ipv6 = address::ROUTED_FRONTEND_V6;
    scene
        .forebay
        .write_config(&scene.config.to_string())
        .unwrap();
    scene.forebay.text(&["reload"]).unwrap();
    for at in host(2222) {
        session(&scene, at);
    }
    scene.forebay.stop(Signal::SIGTERM).unwrap();
    scene.forebay.start().unwrap();
    for at in host(2222) {
        session(&scene, at);
    }
}

#[test]
fn the_kernel_alone_answers_for_a_shared_address() {
    let Some(mut scene) = one_nic_host() else {
        return;
    };
    let sniffer = Sniffer::start(&scene.lab.client).unwrap();
    scene.forebay.write_config(&share(&scene)).unwrap();
    scene.forebay.start().unwrap();
    let accept_local = "net/ipv4/conf/net0/accept_local";
    assert_eq!(scene.lab.node.read_sysctl(accept_local).unwrap(), "1");
    let said = scene.forebay.text(&["advertise", "on"]).unwrap();
    assert!(said.contains("0 addresses claimed"), "{said}");
    for at in host(80) {
        curl(&scene.lab.client, at, 1).unwrap();
        // What is heard is told by another thread.
        eventually("the kernel answers", Duration::from_secs(5), || {
            !sniffer.about(at.ip()).is_empty()
        });
        assert!(sniffer.announcements(at.ip()).is_empty(), "{at}");
    }
    let answered = &scene.forebay.json(&["status"]).unwrap()["packets"]["answered"];
    assert_eq!(answered, 0);
    scene.forebay.stop(Signal::SIGTERM).unwrap();
    scene.forebay.text(&["detach"]).unwrap();
    assert_eq!(scene.lab.node.read_sysctl(accept_local).unwrap(), "0");
}

#[test]
fn an_address_of_the_host_is_refused_unless_the_frontend_is_shared() {
    let Some(mut scene) = one_nic_host() else {
        return;
    };
    for (words, code) in [(["check"], 2), (["run"], 2)] {
        let refused = scene.forebay.cli(&words).unwrap();
        assert_eq!(refused.code, code, "{refused:?}");
        for part in [
            "frontend \"web\".ipv4",
            "frontend \"web\".ipv6",
            "net0",
            "shared = true",
        ] {
            assert!(
                refused.stderr.contains(part),
                "{words:?} lacks {part}: {refused:?}"
            );
        }
    }
    // The host takes the address of a running frontend: the next reload says so and changes nothing.
    scene.config.frontends[0].ipv4 = address::ROUTED_FRONTEND_V4;
    scene.config.frontends[0].ipv6 = address::ROUTED_FRONTEND_V6;
    scene
        .forebay
        .write_config(&scene.config.to_string())
        .unwrap();
    scene.forebay.start().unwrap();
    let taken = format!("address add {}/32 dev lo", address::ROUTED_FRONTEND_V4);
    scene.lab.node.ip(&taken).unwrap();
    eventually("the daemon warns", Duration::from_secs(5), || {
        scene.forebay.log().contains("on lo now")
    });
    let refused = scene.forebay.cli(&["reload"]).unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("is on lo"), "{refused:?}");
}
