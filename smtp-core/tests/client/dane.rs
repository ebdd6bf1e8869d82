//! DANE in the client (RFC 6698, RFC 7672; STANDARDS R7672): the certificate is one that DNS names.

use std::net::SocketAddr;

use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256, Sha512};
use smtp_core::{ClientConfig, ClientConnection, ClientTls, Listener, SendCause, ServerTls, TlsaRecord};

use crate::support::tls::{pem, root_pem};
use crate::support::world::{Inbox, Log, builder, start};

/// A record for those octets.
fn record(usage: u8, selector: u8, matching: u8, octets: &[u8]) -> TlsaRecord {
    let data = match matching {
        0 => octets.to_vec(),
        1 => Sha256::digest(octets).to_vec(),
        _ => Sha512::digest(octets).to_vec(),
    };
    TlsaRecord { usage, selector, matching, data }
}

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec()
}

async fn server(chain: &str, key: &str) -> SocketAddr {
    let tls = ServerTls::from_pem(chain.as_bytes(), key.as_bytes()).expect("they belong together");
    start(builder(&Inbox::default(), &Log::default()).tls(tls).listener(Listener::new("127.0.0.1:0"))).await.address
}

async fn connects(address: SocketAddr, records: &[TlsaRecord], names: &[&str]) -> bool {
    let tls = ClientTls::dane(records.iter().cloned(), names).expect("names");
    match ClientConnection::connect(address, &ClientConfig::default().with_tls(tls)).await {
        Ok(connection) => {
            assert!(connection.tls().is_some(), "never in clear");
            true
        }
        Err(error) => {
            assert!(matches!(error.cause(), SendCause::Handshake(_)) && error.is_transient(), "{error}");
            assert_eq!(error.status().to_string(), "4.7.5");
            false
        }
    }
}

#[tokio::test] // RFC 7672 §3.1.1: neither name nor issuer nor date count.
async fn r7672_dane_ee_is_the_certificate_or_its_key() {
    let (chain, key) = pem("somewhere.else.example");
    let address = server(&chain, &key).await;
    let certificate = der(&chain);
    let public_key = KeyPair::from_pem(&key).expect("a key").subject_public_key_info();
    for matching in 0..3 {
        for (selector, octets) in [(0, &certificate), (1, &public_key)] {
            let right = record(3, selector, matching, octets);
            let wrong = record(3, 1 - selector, matching, octets);
            assert!(connects(address, std::slice::from_ref(&right), &["mx.example.org"]).await, "{right:?}");
            assert!(!connects(address, std::slice::from_ref(&wrong), &["mx.example.org"]).await, "{wrong:?}");
            assert!(connects(address, &[wrong, right], &["mx.example.org"]).await, "one of several");
        }
    }
    let mut almost = record(3, 1, 1, &public_key);
    almost.data[31] ^= 1;
    assert!(!connects(address, &[almost], &["somewhere.else.example"]).await);
}

#[tokio::test] // RFC 7672 §3.1.2, §3.2.2: an authority in the chain, and one of the names.
async fn r7672_dane_ta_is_an_authority_for_the_name() {
    let (leaf, key) = pem("mx.example.org");
    let with_root = server(&format!("{leaf}{}", root_pem()), &key).await;
    let authority = der(&root_pem());
    for matching in 0..3 {
        let record = [record(2, 0, matching, &authority)];
        assert!(connects(with_root, &record, &["mx.example.org"]).await);
        assert!(connects(with_root, &record, &["example.org", "mx.example.org"]).await, "one of the names");
        assert!(!connects(with_root, &record, &["example.org", "mx.example.net"]).await, "none of the names");
        let leaf_only = server(&leaf, &key).await;
        assert!(!connects(leaf_only, &record, &["mx.example.org"]).await, "the authority is not in the chain");
    }
    // The certificate of the server is no authority, and an authority is not the certificate of the server.
    assert!(!connects(with_root, &[record(2, 0, 1, &der(&leaf))], &["mx.example.org"]).await);
    assert!(!connects(with_root, &[record(3, 0, 1, &authority)], &["mx.example.org"]).await);
    // Another authority signed nothing here.
    let (stranger, stranger_key) = pem("mx.example.org");
    let forged = server(&format!("{stranger}{leaf}"), &stranger_key).await;
    assert!(!connects(forged, &[record(2, 0, 1, &der(&leaf))], &["mx.example.org"]).await);
}

#[tokio::test] // RFC 7672 §2.2, §3.1.3: what is of no use still says that there is TLS.
async fn r7672_unusable_records_demand_tls_and_verify_nobody() {
    let (chain, key) = pem("somewhere.else.example");
    let address = server(&chain, &key).await;
    let unusable = [
        record(0, 0, 1, b"x"),
        record(1, 1, 1, b"x"),
        record(4, 1, 1, b"x"),
        record(3, 2, 1, b"x"),
        TlsaRecord { usage: 3, selector: 1, matching: 3, data: vec![0; 32] },
        TlsaRecord { usage: 3, selector: 1, matching: 1, data: vec![0; 31] },
        TlsaRecord { usage: 3, selector: 1, matching: 2, data: vec![0; 32] },
        TlsaRecord { usage: 3, selector: 1, matching: 0, data: Vec::new() },
    ];
    assert!(unusable.iter().all(|record| !record.is_usable()));
    assert!(connects(address, &unusable, &["mx.example.org"]).await);
    let [first, ..] = unusable;
    assert!(!connects(address, &[first, record(3, 1, 1, b"x")], &["mx.example.org"]).await, "one of use decides");
    let in_clear = start(builder(&Inbox::default(), &Log::default())).await;
    let tls = ClientTls::dane([record(0, 0, 1, b"x")], ["mx.example.org"]).expect("a name");
    let error = ClientConnection::connect(in_clear.address, &ClientConfig::default().with_tls(tls)).await;
    assert!(error.is_err_and(|error| error.is_transient()), "and never without");
}
