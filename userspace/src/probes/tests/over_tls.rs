//! Probes over TLS.

use std::path::PathBuf;

use rcgen::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

/// A member with a certificate of its own, for these names.
struct Member {
    address: SocketAddr,
    certificate: tempfile::NamedTempFile,
    /// The names of servers that clients asked for, and the heads of their requests.
    seen: mpsc::Receiver<(Option<String>, String)>,
}

async fn member(names: &[&str]) -> Member {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    let mut certificate = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut certificate, cert.pem().as_bytes()).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(settings));
    let (listener, address) = listen().await;
    let (tell, seen) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let name = stream.get_ref().1.server_name().map(str::to_owned);
            let head = read_head(&mut stream).await;
            let _ = stream.write_all(OK).await;
            let _ = stream.shutdown().await;
            tell.send((name, head)).await.unwrap();
        }
    });
    Member {
        address,
        certificate,
        seen,
    }
}

const HTTPS: &str = "protocol = \"https\"\ntimeout = \"2s\"";

fn verified_by(file: &tempfile::NamedTempFile, host: &str) -> String {
    let file = file.path().display();
    format!("{HTTPS}\ntls_verify = true\nca_file = \"{file}\"\nhost = \"{host}\"")
}

#[tokio::test]
async fn any_certificate_will_do_unless_it_is_verified() {
    let mut member = member(&["whatever.example"]).await;
    assert_eq!(ask(member.address, HTTPS).await.result, Ok(()));
    let (name, head) = member.seen.recv().await.unwrap();
    assert_eq!(name, None, "an address is no name");
    let host = format!("\r\nHost: {}\r\n", member.address);
    assert!(head.contains(&host), "{head}");
    let system = format!("{HTTPS}\ntls_verify = true");
    // Where the system has no certificates at all, there is nothing to verify against.
    let result = ask(member.address, &system).await.result;
    assert!(
        matches!(result, Err(Failure::Certificate | Failure::CaFile)),
        "{result:?}"
    );
}

#[tokio::test]
async fn verified_certificate_is_signed_by_the_file_and_for_the_host() {
    let mut member = member(&["www.example.org", "127.0.0.1"]).await;
    let address = member.address;
    let right = verified_by(&member.certificate, "www.example.org");
    assert_eq!(ask(address, &right).await.result, Ok(()));
    let (name, head) = member.seen.recv().await.unwrap();
    assert_eq!(name.as_deref(), Some("www.example.org"));
    assert!(head.contains("\r\nHost: www.example.org\r\n"), "{head}");
    let by_address = verified_by(&member.certificate, "");
    assert_eq!(ask(address, &by_address).await.result, Ok(()));
    let other_name = verified_by(&member.certificate, "www.example.net");
    let outcome = ask(address, &other_name).await;
    assert_eq!(outcome.result, Err(Failure::Certificate));
    let stranger = super::over_tls::member(&["www.example.org"]).await;
    let other_signer = verified_by(&stranger.certificate, "www.example.org");
    let outcome = ask(address, &other_signer).await;
    assert_eq!(outcome.result, Err(Failure::Certificate));
}

#[tokio::test]
async fn host_with_a_port_is_named_without_it() {
    let mut member = member(&["www.example.org"]).await;
    let settings = verified_by(&member.certificate, "www.example.org:8443");
    assert_eq!(ask(member.address, &settings).await.result, Ok(()));
    let (name, head) = member.seen.recv().await.unwrap();
    assert_eq!(name.as_deref(), Some("www.example.org"));
    assert!(
        head.contains("\r\nHost: www.example.org:8443\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn what_goes_wrong_before_the_answer_has_its_own_word() {
    let (listener, address) = listen().await;
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = end_of(&mut stream).await;
    };
    let (_, outcome) = tokio::join!(plain, ask(address, HTTPS));
    assert_eq!(outcome.result, Err(Failure::TlsHandshake), "plain");
    let closes = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
    };
    let (_, outcome) = tokio::join!(closes, ask(address, HTTPS));
    assert_eq!(outcome.result, Err(Failure::Closed), "closes");
    let silent = "protocol = \"https\"\ntimeout = \"200ms\"";
    let outcome = ask(address, silent).await;
    assert_eq!(outcome.result, Err(Failure::TlsTimeout), "silent");
}

#[test]
fn files_that_cannot_be_verified_against_are_named() {
    let fault = |file: &tempfile::NamedTempFile, text: &str| {
        std::fs::write(file.path(), text).unwrap();
        tls_fault(&probe(&verified_by(file, "")))
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (text, part) in [
        ("", "no certificate in"),
        ("not PEM", "no certificate in"),
        (key.as_str(), "no certificate in"),
        (broken, "certificate 1 in"),
    ] {
        let fault = fault(&file, text).unwrap();
        assert_eq!(fault.key, "ca_file");
        assert!(fault.message.contains(part), "{fault:?}");
        assert!(fault.message.contains(&path), "{fault:?}");
    }
    let good = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    assert_eq!(fault(&file, &good.cert.pem()), None);
    let absent = PathBuf::from(&path);
    drop(file);
    let settings = format!(
        "{HTTPS}\ntls_verify = true\nca_file = \"{}\"",
        absent.display()
    );
    let fault = tls_fault(&probe(&settings)).unwrap();
    assert!(fault.message.contains("cannot be read"), "{fault:?}");
}

#[test]
fn host_that_no_certificate_can_have_is_found() {
    for host in [
        "www.example.org",
        "www.example.org:8443",
        "[fd00::1]:443",
        "10.0.0.1",
        "a_b.example",
    ] {
        let settings = format!("{HTTPS}\nhost = \"{host}\"");
        assert_eq!(tls_fault(&probe(&settings)), None, "{host}");
    }
    for host in ["a..b", "-", "[", ":443"] {
        let fault = tls_fault(&probe(&format!("{HTTPS}\nhost = \"{host}\"")));
        assert_eq!(fault.map(|fault| fault.key), Some("host"), "{host}");
    }
    assert_eq!(
        tls_fault(&probe("protocol = \"http\"\nhost = \"a..b\"")),
        None
    );
}
