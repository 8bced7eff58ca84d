//! Active FTP (RFC 959): the server opens the connection for the data, from port 20.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use forebay_tests::netlab::client::connect;
use forebay_tests::netlab::{Arms, Instance, Process, Wire};

use super::{Outside, PUBLIC, mirror, of_family};
use crate::scene::{eventually, has_programs};

const CONTENT: &str = "by a connection of its own\n";

fn ftp_server(outside: &Outside, instance: &Instance) -> Process {
    let home = outside.lab().path().join("ftp");
    let empty = outside.lab().path().join("empty");
    for folder in [&home, &empty] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(home.join("file"), CONTENT).unwrap();
    let mut text = String::new();
    for (key, value) in [
        ("listen", "NO"),
        ("listen_ipv6", "YES"),
        ("background", "NO"),
        ("anonymous_enable", "YES"),
        ("anon_root", &home.display().to_string()),
        ("ftp_username", "ftp"),
        ("secure_chroot_dir", &empty.display().to_string()),
        ("connect_from_port_20", "YES"),
        ("pasv_enable", "NO"),
        ("port_enable", "YES"),
        ("seccomp_sandbox", "NO"),
        ("isolate", "NO"),
        ("isolate_network", "NO"),
    ] {
        writeln!(text, "{key}={value}").unwrap();
    }
    let file = outside.lab().path().join("vsftpd.conf");
    std::fs::write(&file, text).unwrap();
    let mut command = instance.namespace.command("vsftpd");
    command.arg(&file);
    let server = Process::spawn(command, &outside.lab().path().join("vsftpd.log")).unwrap();
    let at = SocketAddr::from((instance.ipv4, 21));
    eventually("the FTP server listens", Duration::from_secs(10), || {
        connect(&instance.namespace, None, at).is_ok()
    });
    server
}

/// Whether a frame is a SYN from a port for FTP data of an address.
fn is_opening(frame: &[u8], server: SocketAddr) -> bool {
    let (source, tcp) = match server {
        SocketAddr::V4(server) => (
            frame.get(26..30) == Some(&server.ip().octets()),
            frame.get(34..),
        ),
        SocketAddr::V6(server) => (
            frame.get(22..38) == Some(&server.ip().octets()),
            frame.get(54..),
        ),
    };
    source && tcp.is_some_and(|tcp| tcp.get(..2) == Some(&[0, 20]) && tcp.get(13) == Some(&0x02))
}

#[test]
fn a_server_with_a_public_ip_opens_the_data_connection_of_active_ftp() {
    if !has_programs(&["vsftpd"]) {
        return;
    }
    let table = format!(
        "\n[[public_ip]]\nname = \"alice\"\nipv4 = \"{}\"\nipv6 = \"{}\"\n",
        PUBLIC.0, PUBLIC.1
    );
    let Some(outside) = Outside::run_with(Arms::Two, &table, |config| {
        config.instances[0].public_ip = Some("alice");
    }) else {
        return;
    };
    let instance = &outside.lab().instances[0];
    let _server = ftp_server(&outside, instance);
    for client in mirror(2, 0) {
        let public = SocketAddr::new(of_family(PUBLIC, client), 21);
        let wire = Wire::open(&outside.lab().client, "eth0").unwrap();
        let url = format!("ftp://{public}/file");
        let arguments = [
            "--silent",
            "--show-error",
            "--globoff",
            "--ftp-port",
            "-",
            "--max-time",
            "10",
        ];
        let got = outside
            .lab()
            .client
            .run("curl", &[&arguments[..], &[&url]].concat())
            .unwrap();
        assert_eq!(got, CONTENT);
        let data = SocketAddr::new(public.ip(), 20);
        let opened = wire.receive(Duration::from_secs(1), |frame| is_opening(frame, data));
        assert!(opened.is_some(), "nothing came from {data}");
    }
}
