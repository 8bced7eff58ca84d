//! Probes that run over time, and change.

use std::collections::HashMap;

use super::*;

/// A member that counts its connections and answers each; from the moment it says so, with another status.
async fn counting() -> (SocketAddr, mpsc::Receiver<SocketAddr>) {
    let (listener, address) = listen().await;
    let (tell, seen) = mpsc::channel(1000);
    tokio::spawn(async move {
        loop {
            let (mut stream, peer) = listener.accept().await.unwrap();
            tell.send(peer).await.unwrap();
            tokio::spawn(async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(OK).await;
            });
        }
    });
    (address, seen)
}

fn map(probes: &[(SocketAddr, &str)]) -> BTreeMap<Probed, Arc<Probe>> {
    let each = probes.iter();
    each.map(|(to, settings)| (probed(*to), probe(settings)))
        .collect()
}

async fn take(found: &mut mpsc::Receiver<Found>, n: usize) -> Vec<Found> {
    let mut taken = Vec::new();
    while taken.len() < n {
        let next = tokio::time::timeout(Duration::from_secs(10), found.recv());
        taken.push(next.await.unwrap().unwrap());
    }
    taken
}

const OFTEN: &str = "protocol = \"http\"\ninterval = \"100ms\"\ntimeout = \"2s\"";

#[tokio::test]
async fn each_probe_is_a_new_connection_an_interval_after_the_one_before() {
    let (member, mut seen) = counting().await;
    let (mut prober, mut found) = Prober::new().unwrap();
    prober.configure(&map(&[(member, OFTEN)]));
    let taken = take(&mut found, 12).await;
    let mut peers = Vec::new();
    while peers.len() < 12 {
        peers.push(seen.recv().await.unwrap());
    }
    peers.sort_by_key(SocketAddr::port);
    peers.dedup();
    assert_eq!(peers.len(), 12);
    for one in &taken {
        assert_eq!((&one.by, one.outcome.result), (&probed(member), Ok(())));
    }
    // Lateness of single ones must not add up.
    let took = taken[11].at - taken[1].at;
    assert!(took > Duration::from_millis(900), "{took:?}");
    assert!(took < Duration::from_millis(1400), "{took:?}");
}

#[tokio::test]
async fn what_is_removed_is_probed_no_more_and_what_stays_goes_on() {
    let ((a, _seen), (b, _also_seen)) = (counting().await, counting().await);
    let (mut prober, mut found) = Prober::new().unwrap();
    let slow = "protocol = \"http\"\ninterval = \"1h\"";
    prober.configure(&map(&[(a, slow), (b, OFTEN)]));
    let mut times: HashMap<Probed, usize> = HashMap::new();
    while times.len() < 2 {
        for found in take(&mut found, 1).await {
            *times.entry(found.by).or_default() += 1;
        }
    }
    // Probes that go on do not begin anew; those that begin anew come soon.
    let judged_otherwise = format!("{slow}\nrise = 3\nflap_damping = false");
    for _ in 0..5 {
        prober.configure(&map(&[(a, &judged_otherwise)]));
        while found.try_recv().is_ok() {}
        let next = tokio::time::timeout(Duration::from_millis(300), found.recv());
        assert_eq!(next.await, Err(elapsed().await), "nothing is due");
    }
    prober.configure(&map(&[(a, "protocol = \"tcp\"\ninterval = \"1h\"")]));
    assert_eq!(take(&mut found, 1).await[0].by, probed(a));
    drop(prober);
    assert_eq!(found.recv().await, None);
}

async fn elapsed() -> tokio::time::error::Elapsed {
    let never = std::future::pending::<()>();
    let elapsed = tokio::time::timeout(Duration::ZERO, never).await;
    elapsed.unwrap_err()
}

#[tokio::test]
async fn new_targets_are_probed_soon_and_not_all_at_once() {
    let (member, _seen) = counting().await;
    let probes = (1..=60).map(|n| {
        let by = Probed {
            address: format!("127.0.0.{n}").parse().unwrap(),
            ..probed(member)
        };
        (by, probe("protocol = \"tcp\"\ninterval = \"1m\""))
    });
    let (mut prober, mut found) = Prober::new().unwrap();
    let start = std::time::Instant::now();
    prober.configure(&probes.collect());
    let taken = take(&mut found, 60).await;
    let mut tenths = [0; 10];
    for found in &taken {
        let tenth = (found.at - start).as_millis() / 100;
        tenths[tenth.min(9) as usize] += 1;
    }
    assert!(start.elapsed() < Duration::from_millis(1600), "soon");
    let busy = tenths.iter().filter(|n| **n > 0).count();
    assert!(busy >= 7, "they begin together: {tenths:?}");
}

#[tokio::test]
async fn slow_answers_do_not_delay_the_next_probe() {
    let (listener, address) = listen().await;
    let settings = "protocol = \"http\"\ninterval = \"100ms\"\ntimeout = \"1s\"\nfall = 20";
    let (mut prober, mut found) = Prober::new().unwrap();
    prober.configure(&map(&[(address, settings)]));
    let mut open = Vec::new();
    while open.len() < 8 {
        open.push(listener.accept().await.unwrap());
    }
    assert!(found.try_recv().is_err(), "none of them has ended");
    let failed = take(&mut found, 1).await;
    assert_eq!(failed[0].outcome.result, Err(Failure::AnswerTimeout));
}

#[tokio::test]
async fn certificates_that_change_are_used_from_the_next_reload_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = || {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        std::fs::write(file.path(), made.cert.pem()).unwrap();
    };
    write();
    let (listener, address) = listen().await;
    let settings = format!(
        "protocol = \"https\"\ninterval = \"1h\"\ntls_verify = true\nca_file = \"{}\"",
        file.path().display()
    );
    let (mut prober, mut found) = Prober::new().unwrap();
    let probes = map(&[(address, &settings)]);
    prober.configure(&probes);
    drop(listener.accept().await.unwrap());
    take(&mut found, 1).await;
    prober.configure(&probes);
    let again = tokio::time::timeout(Duration::from_millis(1300), listener.accept());
    assert!(again.await.is_err(), "nothing has changed");
    write();
    prober.configure(&probes);
    drop(listener.accept().await.unwrap());
    take(&mut found, 1).await;
    std::fs::write(file.path(), "").unwrap();
    prober.configure(&probes);
    let without = take(&mut found, 1).await;
    assert_eq!(without[0].outcome.result, Err(Failure::CaFile));
}
