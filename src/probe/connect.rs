//! From an address to a stream that HTTP can be spoken over, and the exact name of what went wrong on the way.

use super::resolve::{Resolver, Unresolved};
use super::spec::{Address, Scheme, Spec};
use crate::domain::witness::ProbeFault;
use rustls_platform_verifier::BuilderVerifierExt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// How many connects are under way at a time: a site that swallows packets holds each for a whole timeout, and
/// descriptors are needed for HAProxy, Docker and the store as well.
const CONNECTS_MAX: usize = 256;

/// How long a name that was never resolved is waited for, at most. A name takes its time from the probe's timeout.
const LOOKUP_WITHIN: Duration = Duration::from_secs(2);

/// What all probes share: names, TLS, and the bound on connects.
pub struct Client {
    resolver: Arc<Resolver>,
    connects: Semaphore,
    /// Made when the first HTTPS probe needs it: a slim container without certificates probes over HTTP all the same.
    tls: OnceLock<Option<TlsConnector>>,
}

/// A stream in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Client {
    /// Trusts the certificates that this machine trusts.
    #[must_use]
    pub fn system() -> Client {
        Client::with(OnceLock::new())
    }

    /// Trusts `roots` only.
    ///
    /// # Errors
    ///
    /// When a certificate cannot be used as a root.
    pub fn trusting(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Client, rustls::Error> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root)?;
        }
        let config = tls_builder()?.with_root_certificates(store).with_no_client_auth();
        Ok(Client::with(OnceLock::from(Some(TlsConnector::from(Arc::new(config))))))
    }

    fn with(tls: OnceLock<Option<TlsConnector>>) -> Client {
        Client { resolver: Arc::new(Resolver::system()), connects: Semaphore::new(CONNECTS_MAX), tls }
    }

    /// A place among the connects. Taken before a probe starts, so that our own crowd is not held against a server; it is
    /// free again at most a timeout later, because every connect ends by then.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.connects.acquire().await.ok()
    }

    /// A new connection, with TLS where the spec wants it. `place` is given back as soon as TCP is connected.
    pub(super) async fn connect(
        &self,
        spec: &Spec,
        place: Option<SemaphorePermit<'_>>,
        deadline: Instant,
    ) -> Result<Box<dyn Stream>, ProbeFault> {
        let stream = self.connect_tcp(&spec.address, deadline).await?;
        drop(place);
        match spec.scheme {
            Scheme::Http => Ok(Box::new(stream)),
            Scheme::Https => Ok(Box::new(self.secure(stream, spec, deadline).await?)),
        }
    }

    async fn connect_tcp(&self, address: &Address, deadline: Instant) -> Result<TcpStream, ProbeFault> {
        let lookup_deadline = deadline.min(Instant::now() + LOOKUP_WITHIN);
        let addresses = match self.resolver.resolve(address, lookup_deadline).await {
            Ok(addresses) => addresses,
            Err(Unresolved) => return Err(ProbeFault::Dns),
        };
        let fault = match connect_any(&addresses, deadline).await {
            Ok(stream) => return Ok(stream),
            Err(ProbeFault::OwnResources) => return Err(ProbeFault::OwnResources),
            Err(fault) => fault,
        };
        match self.resolver.moved(address, &addresses, deadline).await {
            Some(moved) => connect_any(&moved, deadline).await,
            None => Err(fault),
        }
    }

    async fn secure(
        &self,
        stream: TcpStream,
        spec: &Spec,
        deadline: Instant,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ProbeFault> {
        let connector = self.tls.get_or_init(system_tls).as_ref().ok_or(ProbeFault::Tls)?;
        let name = server_name(spec).ok_or(ProbeFault::Tls)?;
        match timeout_at(deadline, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(handshake_fault(&error)),
            Err(_) => Err(ProbeFault::Silent),
        }
    }
}

/// The name that the certificate must be for: the `Host` header without its port.
fn server_name(spec: &Spec) -> Option<ServerName<'static>> {
    let host = spec.host.to_str().ok()?;
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => host.split(':').next()?,
    };
    ServerName::try_from(name.to_owned()).ok()
}

fn tls_builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    // Named, not found by default: a second provider somewhere in the tree would make the default panic.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

fn system_tls() -> Option<TlsConnector> {
    match tls_builder().and_then(BuilderVerifierExt::with_platform_verifier) {
        Ok(config) => Some(TlsConnector::from(Arc::new(config.with_no_client_auth()))),
        Err(error) => {
            tracing::error!(
                error = %error,
                "no certificates to trust: every HTTPS probe fails; install ca-certificates, or set SSL_CERT_FILE, \
                 and start again"
            );
            None
        }
    }
}

/// Tries one address after another; each gets its share of the time that is left, so that a dead first one (IPv6 without
/// a route) leaves time for the second.
async fn connect_any(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, ProbeFault> {
    let mut worst = None;
    for (tried, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = now + deadline.saturating_duration_since(now) / left;
        let fault = match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // The request is one small write: it must not wait for an acknowledgement. Failing to say so costs
                // time, not the probe.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => connect_fault(&error),
            Err(_) => ProbeFault::ConnectTimeout,
        };
        worst = worst.max(Some((doubt(fault), fault)));
    }
    Err(worst.map_or(ProbeFault::Dns, |(_, fault)| fault))
}

/// Of several addresses' faults the most doubtful one counts: "refused" acts at once, so it must be true of every address
/// that could be reached.
fn doubt(fault: ProbeFault) -> u8 {
    match fault {
        ProbeFault::OwnResources => 3,
        ProbeFault::ConnectTimeout => 2,
        ProbeFault::Refused => 1,
        ProbeFault::Unreachable
        | ProbeFault::Status(_)
        | ProbeFault::Body
        | ProbeFault::Broken
        | ProbeFault::Silent
        | ProbeFault::Tls
        | ProbeFault::Dns => 0,
    }
}

/// What a failed `connect(2)` says. Whatever is not known to come from the other side is ours: that is the weaker claim.
pub(super) fn connect_fault(error: &io::Error) -> ProbeFault {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => ProbeFault::Refused,
        Some(libc::ETIMEDOUT) => ProbeFault::ConnectTimeout,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN) => {
            ProbeFault::Unreachable
        }
        Some(libc::ECONNRESET | libc::ECONNABORTED) => ProbeFault::Broken,
        // EMFILE, ENFILE, EADDRNOTAVAIL, ENOBUFS, ENOMEM; EPERM and EACCES are our own firewall.
        Some(_) | None => ProbeFault::OwnResources,
    }
}

/// rustls reports what is wrong with the peer's TLS as an `InvalidData` error that carries the cause; the rest is TCP.
fn handshake_fault(error: &io::Error) -> ProbeFault {
    match error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        true => ProbeFault::Tls,
        false => ProbeFault::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_connect_has_its_fault() {
        let table = [
            (libc::ECONNREFUSED, ProbeFault::Refused),
            (libc::ETIMEDOUT, ProbeFault::ConnectTimeout),
            (libc::EHOSTUNREACH, ProbeFault::Unreachable),
            (libc::ENETUNREACH, ProbeFault::Unreachable),
            (libc::EMFILE, ProbeFault::OwnResources),
            (libc::ENFILE, ProbeFault::OwnResources),
            (libc::EADDRNOTAVAIL, ProbeFault::OwnResources),
            (libc::ENOBUFS, ProbeFault::OwnResources),
            (libc::EPERM, ProbeFault::OwnResources),
        ];
        for (errno, fault) in table {
            assert_eq!(connect_fault(&io::Error::from_raw_os_error(errno)), fault, "errno {errno}");
        }
    }

    #[tokio::test]
    async fn a_name_with_one_living_address_connects() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let deadline = Instant::now() + Duration::from_secs(5);
        let dead: SocketAddr = format!("127.0.0.2:{port}").parse().unwrap();
        let alive: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
        assert!(connect_any(&[dead, alive], deadline).await.is_ok());
        assert_eq!(connect_any(&[dead], deadline).await.unwrap_err(), ProbeFault::Refused);
    }
}
