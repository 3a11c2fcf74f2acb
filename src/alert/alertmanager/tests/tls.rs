//! Over TLS: whom is trusted, and a system that trusts nobody.

use super::*;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// A key and a certificate for `localhost`, made for this test.
fn certificate(directory: &Path) {
    let request = "[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n\
                   [name]\nCN = localhost\n\
                   [extensions]\nsubjectAltName = DNS:localhost\nbasicConstraints = critical, CA:FALSE\n";
    std::fs::write(directory.join("request.cnf"), request).unwrap();
    let made = std::process::Command::new("openssl")
        .current_dir(directory)
        .args(
            "req -x509 -config request.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
                .split(' '),
        )
        .args("-days 2 -keyout key.pem -out cert.pem".split(' '))
        .output()
        .expect("openssl makes the certificates of this test: apt-get install openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// TLS in front of `target`.
async fn tls_to(target: SocketAddr, directory: &Path) -> SocketAddr {
    let chain = CertificateDer::from_pem_file(directory.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us ends the handshake.
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let mut inside = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn the_authority_of_the_settings_is_trusted_and_the_name_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path());
    let fake = Fake::start().await;
    let port = tls_to(fake.address, directory.path()).await.port();
    let ca = Some(std::fs::read(directory.path().join("cert.pem")).unwrap());
    let at =
        |host: &str, ca: &Option<Vec<u8>>| Peer { ca: ca.clone(), ..peer(&format!("https://{host}:{port}")) };

    let mut running = Running::start(at("localhost", &ca), QUICK, vec![alert(1, "api")]);
    assert_eq!(running.words().await, [(1, Word::Active)]);

    let words = Running::start(at("localhost", &None), QUICK, Vec::new()).failure().await;
    assert!(words.contains("invalid peer certificate: "), "the system does not trust it: {words}");
    let words = Running::start(at("127.0.0.1", &ca), QUICK, Vec::new()).failure().await;
    assert!(words.contains("not valid for name"), "{words}");
}

#[tokio::test]
async fn a_port_that_speaks_no_tls_is_told() {
    let fake = Fake::start().await;
    let mut running = Running::start(peer(&format!("https://{}", fake.address)), QUICK, Vec::new());
    let words = running.failure().await;
    assert!(words.contains("received corrupt message"), "{words}");
}

/// On a system without authorities: this test runs itself there.
#[test]
fn without_any_authority_plain_http_still_works() {
    const INSIDE: &str = "SUPERVISOR_TEST_WITHOUT_AUTHORITIES";
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert!(reqwest::Client::builder().build().is_err(), "there are authorities after all");
            let fake = Fake::start().await;
            let mut running = Running::start(fake.peer(), QUICK, vec![alert(1, "api")]);
            assert_eq!(running.words().await, [(1, Word::Active)]);
        });
        return;
    }
    let name = "alert::alertmanager::tests::tls::without_any_authority_plain_http_still_works";
    let empty = tempfile::tempdir().unwrap();
    let inside = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .env("SSL_CERT_FILE", empty.path().join("none"))
        .env("SSL_CERT_DIR", empty.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(
        inside.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&inside.stderr)
    );
}
