//! From a relay's name to a stream, and to an encrypted one.

use super::outcome::{FaultClass, RelayFault, Stage};
use super::relay::Relay;
use super::wire::Stream;
use crate::chain::chain;
use rustls_platform_verifier::BuilderVerifierExt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// How many lookups run at a time. A `getaddrinfo` that hangs keeps its thread after the attempt has given up, and the
/// threads are shared with everything else that blocks (512 of them). Attempts are few: four hanging ones are a fault of
/// the resolver, which a fifth would not get past.
const LOOKUPS_MAX: usize = 4;

/// How many addresses of one name are tried.
const ADDRESSES_MAX: usize = 4;

static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);

/// A TCP connection to the relay, and the address it leads to.
pub(super) async fn connect(relay: &Relay, within: Duration) -> Result<(TcpStream, SocketAddr), RelayFault> {
    let deadline = Instant::now() + within;
    let addresses = match timeout_at(deadline, resolve(relay)).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(why)) => return Err(unresolved(relay, &why.to_string())),
        Err(_) => return Err(unresolved(relay, &format!("no answer within {within:?}"))),
    };
    let mut last = None;
    for (tried, address) in addresses.iter().enumerate() {
        // Each address gets its share of the time that is left: one without a route leaves time for the next.
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = now + deadline.saturating_duration_since(now) / left;
        last = Some(match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Commands are small writes that wait for an answer. Failing to say so costs time, not the mail.
                let _ = stream.set_nodelay(true);
                return Ok((stream, *address));
            }
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address}: no connection in time"),
        });
    }
    let why = last.unwrap_or_else(|| format!("{} has no address", relay.host));
    Err(RelayFault::new(Stage::Connect, FaultClass::Unreachable, &why))
}

async fn resolve(relay: &Relay) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = relay.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, relay.port)]);
    }
    let permit = LOOKUPS.acquire().await.map_err(io::Error::other)?;
    let (host, port) = (relay.host.clone(), relay.port);
    let found = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(|all| all.take(ADDRESSES_MAX).collect());
        // The permit is free when the thread is, not when somebody stops waiting for it.
        drop(permit);
        found
    });
    found.await.map_err(io::Error::other)?
}

fn unresolved(relay: &Relay, why: &str) -> RelayFault {
    let why = format!("{:?} cannot be resolved: {why}", relay.host);
    RelayFault::new(Stage::Resolve, FaultClass::Unresolved, &why)
}

/// TLS over `stream`, with a certificate that is trusted and for the relay's name.
pub(super) async fn secure(
    relay: &Relay,
    stream: Box<dyn Stream>,
    within: Duration,
) -> Result<Box<dyn Stream>, RelayFault> {
    let Ok(name) = ServerName::try_from(relay.host.clone()) else {
        let why = format!("{:?} is no name that a certificate could be for", relay.host);
        return Err(RelayFault::new(Stage::Tls, FaultClass::Tls, &why));
    };
    let ca = relay.ca.clone();
    let handshake = async {
        // The machine's certificates are read anew each time, so that new ones count without a restart; a disk may hang.
        let config = tokio::task::spawn_blocking(move || client_config(ca.as_deref()));
        let config = config.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    match timeout(within, handshake).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(handshake_fault(&error)),
        Err(_) => {
            let why = format!("no TLS within {within:?}; is this the port for it?");
            Err(RelayFault::new(Stage::Tls, FaultClass::Silent, &why))
        }
    }
}

/// Why there is nothing to trust.
#[derive(Debug, thiserror::Error)]
enum TrustError {
    #[error("the certificates given for this relay are not in PEM form")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error(
        "the file given for this relay holds no certificate; PEM ones begin with -----BEGIN CERTIFICATE-----"
    )]
    NoCertificate,
    #[error("a certificate given for this relay cannot be trusted as a root")]
    Root(#[source] rustls::Error),
    #[error("this machine has no certificates to trust; install ca-certificates, or give the relay its own")]
    Machine(#[source] rustls::Error),
    #[error("TLS cannot be set up")]
    Provider(#[source] rustls::Error),
}

fn client_config(ca: Option<&[u8]>) -> Result<ClientConfig, TrustError> {
    // Named, not found by default: a second provider somewhere in the tree would make the default panic.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Provider)?;
    let builder = match ca {
        None => builder.with_platform_verifier().map_err(TrustError::Machine)?,
        Some(pem) => builder.with_root_certificates(roots(pem)?),
    };
    Ok(builder.with_no_client_auth())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, TrustError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(TrustError::Pem)?;
        store.add(certificate).map_err(TrustError::Root)?;
    }
    if store.is_empty() { Err(TrustError::NoCertificate) } else { Ok(store) }
}

/// rustls reports what is wrong with the peer's TLS as an `InvalidData` error that carries the cause, and trust that we
/// lack comes as ours; the rest is TCP.
fn handshake_fault(error: &io::Error) -> RelayFault {
    let inner = error.get_ref();
    let tls = inner.is_some_and(|inner| inner.is::<rustls::Error>() || inner.is::<TrustError>());
    let class = if tls { FaultClass::Tls } else { FaultClass::Lost };
    let why = inner.map_or_else(|| error.to_string(), |inner| chain(inner));
    RelayFault::new(Stage::Tls, class, &why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_certificate_is_said_before_anything_is_sent() {
        for (pem, words) in [
            (&b""[..], "holds no certificate"),
            (b"not a certificate", "holds no certificate"),
            (b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "not in PEM form"),
            (
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "cannot be trusted as a root",
            ),
        ] {
            let error = client_config(Some(pem)).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
