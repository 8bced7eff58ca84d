//! Services that are asked from a new socket each time: names and the time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use forebay_tests::netlab::client::udp_socket;
use forebay_tests::netlab::mirror::{Mirror, reflect_by};
use forebay_tests::netlab::{Arms, Instance};

use super::{Outside, from_any, mirror, outbound_rule};

const SECONDS: u32 = 10;
const PER_SECOND: u32 = 500;
const NTP: u16 = 123;

/// Asks from new sockets at a steady rate; returns how many were not answered.
fn asks(instance: &Instance, to: SocketAddr) -> u32 {
    let begun = Instant::now();
    let mut lost = 0;
    for number in 0..SECONDS * PER_SECOND {
        let due = Duration::from_secs(1) / PER_SECOND * number;
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let socket = udp_socket(&instance.namespace, from_any(instance, to)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        // Datagrams get lost where processors are busy; an instance asks again.
        let is_answered = (0..3).any(|_| reflect_by(&socket, to).is_ok());
        lost += u32::from(!is_answered);
    }
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(u64::from(SECONDS) * 2),
        "{took:?}"
    );
    lost
}

#[test]
fn five_hundred_new_sockets_a_second_for_names_and_the_time_do_not_use_up_the_ports() {
    let Some(outside) = Outside::run_with(Arms::Two, "", |config| config.flows = 131_072) else {
        return;
    };
    let lab = outside.lab();
    let _ntp = Mirror::start(&lab.client, &mirror(2, NTP)).unwrap();
    let [dns, ntp] = [53, NTP].map(|port| mirror(2, port));
    std::thread::scope(|scope| {
        let askers = [(&lab.instances[0], dns[0]), (&lab.instances[1], ntp[1])]
            .map(|(instance, to)| scope.spawn(move || asks(instance, to)));
        for asker in askers {
            assert_eq!(asker.join().unwrap(), 0);
        }
    });
    nobody_was_refused(&outside);
}

#[test]
fn ports_of_answered_names_come_back_soon_enough_for_a_small_allocation() {
    let rule = outbound_rule("ports_per_instance = 4096\nburst = false");
    let Some(outside) = Outside::run_with(Arms::Two, &rule, |config| {
        config.timeouts = vec![("udp_dns", "2s")];
    }) else {
        return;
    };
    let instance = &outside.lab().instances[0];
    assert_eq!(asks(instance, mirror(2, 53)[0]), 0);
    nobody_was_refused(&outside);
}

fn nobody_was_refused(outside: &Outside) {
    let forebay = &outside.scene.forebay;
    for reason in ["snat-exhausted", "snat-searching"] {
        assert_eq!(forebay.drops(reason).unwrap(), 0, "{reason}");
    }
    for row in forebay.list(&["show", "snat"]).unwrap() {
        assert_eq!(row["failed_total"], 0, "{row}");
    }
}
