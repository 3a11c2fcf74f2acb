//! One request over one connection, and the verdict on the answer.
//!
//! The connection is driven by the task that asks: no task is spawned for a probe, and dropping the exchange closes it.

use super::connect::Stream;
use super::spec::Spec;
use crate::domain::witness::ProbeFault;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::pin::{Pin, pin};

/// The head of an answer is cut off here; hyper's default is six times as much, for one health check.
const HEAD_MAX: usize = 64 * 1024;

type Driver = Pin<Box<Connection<TokioIo<Box<dyn Stream>>, Empty<Bytes>>>>;

/// An HTTP/1.1 connection.
pub(super) struct Exchange {
    sender: SendRequest<Empty<Bytes>>,
    /// None once the connection is over.
    driver: Option<Driver>,
    /// How many probes it has carried.
    pub carried: u32,
}

/// How an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed {
    pub fault: ProbeFault,
    /// The connection died before the head of the answer. On a connection that was kept from an earlier probe this says
    /// nothing about the server: it closes idle connections when it likes (RFC 9112, section 9.5).
    pub before_head: bool,
}

impl From<ProbeFault> for Failed {
    fn from(fault: ProbeFault) -> Failed {
        Failed { fault, before_head: false }
    }
}

/// A good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    /// The whole answer was read: the connection can carry another.
    pub whole: bool,
}

impl Exchange {
    /// Begins HTTP on a new stream; nothing is sent yet.
    pub(super) async fn begin(stream: Box<dyn Stream>) -> Result<Exchange, ProbeFault> {
        let made = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await;
        let (sender, driver) = made.map_err(|_| ProbeFault::Broken)?;
        Ok(Exchange { sender, driver: Some(Box::pin(driver)), carried: 0 })
    }

    /// Asks once. Has no deadline of its own; cancelling it leaves the connection unusable, so drop it then.
    pub(super) async fn ask(&mut self, spec: &Spec) -> Result<Answer, Failed> {
        self.carried = self.carried.saturating_add(1);
        let (sender, driver) = (&mut self.sender, &mut self.driver);
        driven(driver, async {
            let before_head = |_| Failed { fault: ProbeFault::Broken, before_head: true };
            sender.ready().await.map_err(before_head)?;
            let answer = sender.send_request(request(spec)?).await.map_err(before_head)?;
            Ok(judge(spec, answer).await?)
        })
        .await
    }
}

/// Runs `work` while the connection's two directions move.
async fn driven<T>(driver: &mut Option<Driver>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    if let Some(running) = driver {
        tokio::select! {
            biased;
            done = &mut work => return done,
            // Its error is also what `work` gets.
            _ = running.as_mut() => {}
        }
    }
    // What the connection brought is in the channels that `work` reads; what it still owes ends when it is dropped.
    *driver = None;
    work.await
}

fn request(spec: &Spec) -> Result<Request<Empty<Bytes>>, ProbeFault> {
    let connection = if spec.keep_alive { "keep-alive" } else { "close" };
    Request::get(spec.path.as_str())
        .header(HOST, &spec.host)
        .header(USER_AGENT, concat!("supervisor/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .header(CONNECTION, connection)
        .body(Empty::new())
        // Cannot happen: `Spec` holds only what can be sent. If it does, it is not the server's doing.
        .map_err(|_| ProbeFault::OwnResources)
}

async fn judge(spec: &Spec, answer: Response<Incoming>) -> Result<Answer, ProbeFault> {
    let status = answer.status().as_u16();
    // A wrong status is the verdict, whatever the body would say, and however long it would take.
    if !spec.expects(status) {
        return Err(ProbeFault::Status(status));
    }
    let mut wanted = Search::new(spec.body_contains.as_deref().unwrap_or(""));
    let mut body = answer.into_body();
    let mut left = spec.max_body;
    let mut whole = true;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ProbeFault::Broken)?;
        // Trailers say nothing about health.
        let Ok(data) = frame.into_data() else { continue };
        let taken = data.len().min(left);
        wanted.take(&data[..taken]);
        left -= taken;
        if taken < data.len() {
            whole = false;
            break;
        }
    }
    match wanted.found() {
        true => Ok(Answer { status, whole }),
        false => Err(ProbeFault::Body),
    }
}

/// Looks for a text in a body that comes in pieces.
struct Search<'a> {
    text: &'a [u8],
    /// The end of what came, in case the text begins there: shorter than the text.
    tail: Vec<u8>,
    found: bool,
}

impl<'a> Search<'a> {
    fn new(text: &'a str) -> Search<'a> {
        Search { text: text.as_bytes(), tail: Vec::new(), found: text.is_empty() }
    }

    fn take(&mut self, piece: &[u8]) {
        if self.found {
            return;
        }
        self.tail.extend_from_slice(piece);
        self.found = self.tail.windows(self.text.len()).any(|window| window == self.text);
        let spent = self.tail.len().saturating_sub(self.text.len() - 1);
        self.tail.drain(..spent);
    }

    fn found(&self) -> bool {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_is_found_however_the_body_is_cut(body in "[ab]{0,40}", text in "[ab]{0,5}", sizes in prop::collection::vec(1_usize..6, 40)) {
            let mut search = Search::new(&text);
            let mut rest = body.as_bytes();
            for size in sizes {
                let (piece, after) = rest.split_at(size.min(rest.len()));
                search.take(piece);
                rest = after;
            }
            prop_assert_eq!(search.found(), body.contains(&text));
        }
    }
}
