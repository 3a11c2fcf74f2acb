//! A listener with an end to everything: so many connections at once, and none that keeps its place for nothing.
//!
//! `axum::serve` has no deadline of its own for the head of a request, for its body, for an idle connection or for a
//! client that does not read. One rule covers all four: a connection to which nothing could be written for
//! [`QUIET_MAX`] is ended. Streams write a heartbeat more often than that.

use axum::serve::Listener;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// A connection to which nothing was written for this long is ended. Longer than any answer of ours may take (a command
/// has 5 s) and than the heartbeat of streams (10 s); short enough that a flood of idle connections passes.
pub const QUIET_MAX: Duration = Duration::from_secs(20);

/// A listener that accepts at most so many connections at once; more wait in the kernel's backlog.
#[derive(Debug)]
pub struct Bounded<L> {
    inner: L,
    places: Arc<Semaphore>,
    quiet_max: Duration,
}

/// A connection that ends when nothing could be written to it for too long, and gives its place back when it ends.
#[derive(Debug)]
pub struct Connection<I> {
    io: I,
    quiet: Pin<Box<Sleep>>,
    quiet_max: Duration,
    _place: OwnedSemaphorePermit,
}

impl<L> Bounded<L> {
    /// Bounds `inner` to `connections` at once.
    pub fn new(inner: L, connections: usize) -> Bounded<L> {
        Bounded::with_quiet_max(inner, connections, QUIET_MAX)
    }

    pub(crate) fn with_quiet_max(inner: L, connections: usize, quiet_max: Duration) -> Bounded<L> {
        Bounded { inner, places: Arc::new(Semaphore::new(connections)), quiet_max }
    }
}

impl<I> Connection<I> {
    /// What is underneath.
    pub fn get_ref(&self) -> &I {
        &self.io
    }

    fn alive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.quiet.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn wrote(&mut self, bytes: usize) {
        if bytes > 0 {
            self.quiet.as_mut().reset(Instant::now() + self.quiet_max);
        }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    // Cancelling is safe: a place that was taken is given back, and a connection is accepted in the last step.
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            // Nobody closes the semaphore; if somebody did, nothing more would be accepted.
            return pending().await;
        };
        let (io, address) = self.inner.accept().await;
        let quiet = Box::pin(sleep(self.quiet_max));
        (Connection { io, quiet, quiet_max: self.quiet_max, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Connection<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Connection<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.alive(cx)?;
        let bytes = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.wrote(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.alive(cx)?;
        let bytes = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.wrote(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive(cx)?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
