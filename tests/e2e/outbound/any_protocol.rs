//! Packets without ports: of other protocols, and later fragments.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use forebay_tests::netlab::client::udp_socket;
use forebay_tests::netlab::{Arms, Namespace};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{NAT, Outside, PUBLIC, mirror, of_family, outbound_rule, private};

/// Encapsulating Security Payload (RFC 4303).
const ESP: i32 = 50;
const PORT: u16 = 7300;

/// A node whose first instance has a public IP; the others go out by SNAT.
fn outside(arms: Arms) -> Option<Outside> {
    let tables = format!(
        "{}\n[[public_ip]]\nname = \"alice\"\nipv4 = \"{}\"\nipv6 = \"{}\"\n",
        outbound_rule(""),
        PUBLIC.0,
        PUBLIC.1
    );
    Outside::run_with(arms, &tables, |config| {
        config.instances[0].public_ip = Some("alice");
    })
}

/// A socket for all packets of a protocol to an address of a host. Its calls do the same on any socket of messages.
fn raw_socket(host: &Namespace, at: IpAddr, protocol: i32) -> UdpSocket {
    let family = match at {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = host.enter(|| {
        let flags = SockType::Raw as i32 | SockFlag::SOCK_CLOEXEC.bits();
        // SAFETY: only numbers are passed.
        let descriptor = unsafe { libc::socket(family as i32, flags, protocol) };
        assert!(descriptor >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the descriptor was just opened, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let address = SockaddrStorage::from(SocketAddr::new(at, 0));
        bind(socket.as_raw_fd(), &address).unwrap();
        UdpSocket::from(socket)
    });
    let patience = Some(Duration::from_secs(2));
    socket.set_read_timeout(patience).unwrap();
    socket
}

/// The next message, which for IPv4 has its header before it, and who sent it.
fn next(socket: &UdpSocket) -> (Vec<u8>, IpAddr) {
    let mut buffer = [0; 65_535];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    let header = if from.is_ipv4() { 20 } else { 0 };
    (buffer[header..length].to_vec(), from.ip())
}

#[test]
fn encrypted_packets_pass_a_public_ip_in_both_directions() {
    for arms in [Arms::Two, Arms::One] {
        let Some(outside) = outside(arms) else { return };
        let instance = &outside.lab().instances[0];
        for to in mirror(2, 0) {
            let near = raw_socket(&instance.namespace, private(instance, to), ESP);
            let far = raw_socket(&outside.lab().client, to.ip(), ESP);
            let public = SocketAddr::new(of_family(PUBLIC, to), 0);
            // From outside first, then from the instance: nothing has to be opened. The last is cut on its way.
            for length in [60, 1_400, 4_000] {
                let sent: Vec<u8> = (0..length).map(|at| (at / 3) as u8).collect();
                far.send_to(&sent, public).unwrap();
                let (received, from) = next(&near);
                assert_eq!((received == sent, from), (true, to.ip()), "{length}");
                near.send_to(&sent, to).unwrap();
                let (received, from) = next(&far);
                assert_eq!((received == sent, from), (true, public.ip()), "{length}");
            }
        }
    }
}

#[test]
fn encrypted_packets_have_no_way_out_by_ports() {
    let Some(outside) = outside(Arms::Two) else {
        return;
    };
    let instance = &outside.lab().instances[1];
    for to in mirror(2, 0) {
        let near = raw_socket(&instance.namespace, private(instance, to), ESP);
        let far = raw_socket(&outside.lab().client, to.ip(), ESP);
        far.set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        near.send_to(&[1; 60], to).unwrap();
        far.recv_from(&mut [0; 128]).unwrap_err();
    }
}

#[test]
fn datagrams_that_are_cut_pass_a_public_ip_and_ports_in_both_directions() {
    for arms in [Arms::Two, Arms::One] {
        let Some(outside) = outside(arms) else { return };
        for (instance, goes_by) in outside.lab().instances.iter().zip([PUBLIC, NAT]) {
            for to in mirror(2, PORT) {
                let far = udp_socket(&outside.lab().client, to).unwrap();
                let source = SocketAddr::new(private(instance, to), PORT + 1);
                let near = udp_socket(&instance.namespace, source).unwrap();
                let mut buffer = vec![0; 40_000];
                for length in [4_000, 20_000] {
                    let sent: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
                    // A busy host may lose a fragment.
                    let across = |from: &UdpSocket, at, to: &UdpSocket, buffer: &mut [u8]| {
                        let mut tries = 3;
                        loop {
                            from.send_to(&sent, at).unwrap();
                            tries -= 1;
                            match to.recv_from(buffer) {
                                Err(_) if tries > 0 => {}
                                other => break other.unwrap(),
                            }
                        }
                    };
                    let (received, seen) = across(&near, to, &far, &mut buffer);
                    assert!(buffer[..received] == sent, "{to}: {received} of {length}");
                    assert_eq!(seen.ip(), of_family(goes_by, to));
                    let (received, from) = across(&far, seen, &near, &mut buffer);
                    assert!(buffer[..received] == sent, "{to}: {received} of {length}");
                    assert_eq!(from, to);
                }
            }
        }
    }
}
