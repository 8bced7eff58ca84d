//! TLS of https probes: whom they believe, and what they call the server.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::config::model::{Probe, ProbeProtocol};

/// What is wrong with the TLS of a probe, on this machine and now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFault {
    /// The key of the probe that has to be changed.
    pub key: &'static str,
    /// What belongs there.
    pub expected: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// What would keep a probe from asking over TLS: files that cannot be read or hold no certificates, a host that
/// cannot be in a certificate. Reads the files.
pub fn tls_fault(probe: &Probe) -> Option<TlsFault> {
    if probe.protocol != ProbeProtocol::Https {
        return None;
    }
    if server_name(&probe.host).is_err() {
        return Some(TlsFault {
            key: "host",
            expected: "a host name or an address",
            message: "TLS names the server in its handshake, and this is no name of a host"
                .to_owned(),
        });
    }
    Clients::default().of(probe).err()
}

/// The name of the server in the handshake; `None`: the address, which is not sent.
pub(super) fn server_name(host: &str) -> Result<Option<ServerName<'static>>, ()> {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None if host.parse::<IpAddr>().is_ok() => host,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    if name.is_empty() && host.is_empty() {
        return Ok(None);
    }
    let name = ServerName::try_from(name.to_owned()).map_err(|_| ())?;
    Ok(Some(name))
}

/// Settings of TLS, made once for all probes that have the same.
#[derive(Debug, Default)]
pub(super) struct Clients {
    believing: Option<Arc<ClientConfig>>,
    with_roots_of_the_system: Option<Arc<ClientConfig>>,
    /// By file, with the text of the file that they were made from.
    with_file: BTreeMap<PathBuf, (Vec<u8>, Arc<ClientConfig>)>,
}

impl Clients {
    /// The settings for a probe: the same as before if the file of certificates is.
    pub(super) fn of(&mut self, probe: &Probe) -> Result<Arc<ClientConfig>, TlsFault> {
        let client = match (probe.tls_verify, &probe.ca_file) {
            (false, _) => (self.believing).get_or_insert_with(|| Arc::new(believing())),
            (true, Some(file)) => return self.of_file(file),
            (true, None) => match &mut self.with_roots_of_the_system {
                Some(client) => client,
                none => none.insert(Arc::new(verifying(roots_of_the_system()?))),
            },
        };
        Ok(client.clone())
    }

    fn of_file(&mut self, file: &Path) -> Result<Arc<ClientConfig>, TlsFault> {
        let text = std::fs::read(file)
            .map_err(|error| bad_file(format!("{} cannot be read: {error}", file.display())))?;
        if let Some((before, client)) = self.with_file.get(file)
            && *before == text
        {
            return Ok(client.clone());
        }
        let client = Arc::new(verifying(roots_of(file, &text)?));
        self.with_file
            .insert(file.to_owned(), (text, client.clone()));
        Ok(client)
    }
}

fn bad_file(message: String) -> TlsFault {
    TlsFault {
        key: "ca_file",
        expected: "a file of certificates in PEM",
        message,
    }
}

fn roots_of(file: &Path, text: &[u8]) -> Result<RootCertStore, TlsFault> {
    let file = file.display();
    let mut roots = RootCertStore::empty();
    for (n, certificate) in (1..).zip(CertificateDer::pem_slice_iter(text)) {
        let problem = match certificate {
            Ok(certificate) => roots.add(certificate).err().map(|e| e.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            let message = format!("certificate {n} in {file} cannot be used: {problem}");
            return Err(bad_file(message));
        }
    }
    if roots.is_empty() {
        let message = format!(
            "there is no certificate in {file}; it needs those that sign the members' certificates, in PEM"
        );
        return Err(bad_file(message));
    }
    Ok(roots)
}

fn roots_of_the_system() -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // A system has some that are too old to be read.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(TlsFault {
            key: "tls_verify",
            expected: "a ca_file beside it, or certificates on this machine",
            message: "this machine has no certificates to verify against: install ca-certificates, or set ca_file"
                .to_owned(),
        });
    }
    Ok(roots)
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder() -> Builder {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the suites of TLS 1.2 and 1.3")
}

fn verifying(roots: RootCertStore) -> ClientConfig {
    let builder = builder().with_root_certificates(roots);
    each_time_anew(builder.with_no_client_auth())
}

fn believing() -> ClientConfig {
    let builder = builder();
    let provider = builder.crypto_provider().clone();
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believing(provider)));
    each_time_anew(builder.with_no_client_auth())
}

fn each_time_anew(mut client: ClientConfig) -> ClientConfig {
    client.resumption = Resumption::disabled();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    client
}

/// Takes any certificate, also one that cannot be read.
#[derive(Debug)]
struct Believing(Arc<CryptoProvider>);

impl ServerCertVerifier for Believing {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
