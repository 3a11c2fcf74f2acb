//! The connection as lettre sees it: whole replies, in the form that it reads.
//!
//! lettre writes the commands. What comes back passes through here first, because lettre believes a relay more than a
//! stranger deserves. Measured on 0.11.23: it panics at an EHLO line of blanks, reads a line without an end for ever, takes
//! a line end without CR for no end, gives up on a word in Latin-1 or on code 571, and takes what a relay said unasked for
//! the answer to its next question. After the final dot each of these would turn a clear verdict into doubt, and doubt
//! means a second mail.
//!
//! So a [`Wire`] reads lines, bounded, until a reply is complete; keeps it as a [`Reply`]; and hands lettre the same with
//! ASCII words and a code that it knows. The code that counts is the one in [`Wire::take_reply`]. Nothing may lie unread when
//! we speak; that is also what closes the hole in STARTTLS, where plain text that arrives together with the relay's
//! consent would be read as its first encrypted answer.

use super::outcome::{Reply, Sense};
use super::text;
use lettre::transport::smtp::client::AsyncTokioStream;
use std::fmt::{self, Write};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};

/// How much of a line is kept. A reply's line has 512 bytes at most (RFC 5321, section 4.5.3.1.5) and lettre refuses 1000.
const LINE_MAX: usize = 900;

/// How many bytes one reply may have, kept or not: a hundred lines of the longest legal kind. Real ones have five.
const REPLY_MAX: usize = 51_200;

/// How much of a reply is shown. Less than [`LINE_MAX`], so that a password that was cut in a line is never in it.
const TEXT_MAX: usize = 500;

/// What stands for a line in which the relay repeats a password.
const WITHHELD: &str = "(withheld: it repeats what we said to log in)";

/// What ends a message (RFC 5321, section 4.1.1.4).
const FINAL_DOT: &[u8] = b"\r\n.\r\n";

/// A stream in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One end is lettre's, the other ours. Only one of them acts at a time.
#[derive(Clone)]
pub(super) struct Wire {
    peer: SocketAddr,
    line: Arc<Mutex<Line>>,
}

struct Line {
    /// Away while TLS is being agreed on.
    stream: Option<BufReader<Box<dyn Stream>>>,
    /// What is there of the line that is coming in.
    partial: Vec<u8>,
    /// The lines of the reply that is coming in.
    lines: Vec<String>,
    /// How long that reply is so far.
    length: usize,
    /// The last complete reply, until something else is said.
    reply: Option<Reply>,
    /// What lettre has yet to read of it, and from where on.
    unread: (Vec<u8>, usize),
    /// What the relay did that cannot be gone on from.
    breach: Option<String>,
    /// The relay has not greeted us yet.
    greeting: bool,
    /// The end of what was written last.
    tail: [u8; FINAL_DOT.len()],
    /// A whole message has been written.
    dot_sent: bool,
    /// What must not be seen in a reply.
    secrets: Vec<String>,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>, peer: SocketAddr, secrets: Vec<String>) -> Wire {
        let line = Line {
            stream: Some(BufReader::new(stream)),
            partial: Vec::new(),
            lines: Vec::new(),
            length: 0,
            reply: None,
            unread: (Vec::new(), 0),
            breach: None,
            greeting: true,
            tail: [0; FINAL_DOT.len()],
            dot_sent: false,
            secrets,
        };
        Wire { peer, line: Arc::new(Mutex::new(line)) }
    }

    /// The reply to what was said last, if it came and is complete. It is given once: no reply answers two questions.
    pub(super) fn take_reply(&self) -> Option<Reply> {
        self.line().reply.take()
    }

    /// What the relay did that cannot be gone on from.
    pub(super) fn breach(&self) -> Option<String> {
        self.line().breach.clone()
    }

    /// The relay has greeted us. Until then nothing is said after a refusal: lettre would say QUIT and wait for an answer
    /// to it, and what the relay said before would be lost.
    pub(super) fn greeted(&self) {
        self.line().greeting = false;
    }

    /// Whether the relay may have a whole message.
    pub(super) fn dot_sent(&self) -> bool {
        self.line().dot_sent
    }

    /// The bare stream, to be encrypted. None when plain text lies unread: who sent it is not known.
    pub(super) fn take_bare(&self) -> Option<Box<dyn Stream>> {
        let mut line = self.line();
        if line.unread_lies_here() {
            return None;
        }
        line.stream.take().map(BufReader::into_inner)
    }

    /// The encrypted stream in place of the bare one.
    pub(super) fn put_encrypted(&self, stream: Box<dyn Stream>) {
        self.line().stream = Some(BufReader::new(stream));
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn unread_lies_here(&self) -> bool {
        let buffered = self.stream.as_ref().is_some_and(|stream| !stream.buffer().is_empty());
        buffered || !self.partial.is_empty() || !self.lines.is_empty() || self.unread.1 < self.unread.0.len()
    }

    fn broken(&mut self, what: &str) -> Error {
        let what = self.breach.get_or_insert_with(|| what.to_owned());
        Error::new(ErrorKind::InvalidData, what.clone())
    }

    /// Takes in what is there of one line. True at its end.
    fn take_in(&mut self, chunk: &[u8]) -> (usize, bool) {
        let (taken, ended) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (chunk.len(), false),
        };
        let room = LINE_MAX.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&chunk[..taken.min(room)]);
        self.length += taken;
        (taken, ended)
    }

    /// A line is complete.
    fn end_line(&mut self) -> Result<()> {
        let raw = std::mem::take(&mut self.partial);
        let text = String::from_utf8_lossy(&raw);
        let Some((code, last, words)) = parts(text.trim_end()) else {
            let said = self.withhold(text::line(&text, TEXT_MAX));
            return Err(self.broken(&format!("what it said is not SMTP: {said}")));
        };
        let words = self.withhold(text::line(words, LINE_MAX));
        self.lines.push(words);
        if last {
            let lines = std::mem::take(&mut self.lines);
            self.length = 0;
            self.unread = (for_lettre(code, &lines).into_bytes(), 0);
            self.reply = Some(Reply { code, text: text::line(&lines.join(" "), TEXT_MAX) });
        }
        Ok(())
    }

    fn withhold(&self, text: String) -> String {
        let repeats = self.secrets.iter().any(|secret| text.contains(secret.as_str()));
        if repeats { WITHHELD.to_owned() } else { text }
    }

    fn written(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(FINAL_DOT.len())..];
        self.tail.rotate_left(new.len());
        let from = FINAL_DOT.len() - new.len();
        self.tail[from..].copy_from_slice(new);
        self.dot_sent |= self.tail == FINAL_DOT;
    }
}

/// A line of a reply: its code, whether it is the last one, its words (RFC 5321, section 4.2). Bare codes are taken as
/// the same section asks for.
fn parts(line: &str) -> Option<(u16, bool, &str)> {
    let (code, rest) = line.split_at_checked(3)?;
    let code = code.parse().ok().filter(|code| (200..600).contains(code))?;
    match rest.strip_prefix('-') {
        Some(words) => Some((code, false, words)),
        None if rest.is_empty() => Some((code, true, "")),
        None => Some((code, true, rest.strip_prefix(' ')?)),
    }
}

/// A reply as lettre reads it: CRLF, ASCII, a word on every line, the same code on each, and its second digit up to 5.
fn for_lettre(code: u16, lines: &[String]) -> String {
    let known = code / 100 * 100 + (code / 10 % 10).min(5) * 10 + code % 10;
    let mut reply = String::new();
    for (index, line) in lines.iter().enumerate() {
        let mark = if index + 1 == lines.len() { ' ' } else { '-' };
        let line = if line.is_empty() { "-" } else { line };
        let line: String = line.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
        // Writing to a string does not fail.
        let _ = write!(reply, "{known}{mark}{line}\r\n");
    }
    reply
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let mut guard = self.line();
        let line = &mut *guard;
        loop {
            let (unread, from) = (&line.unread.0, line.unread.1);
            if from < unread.len() {
                let until = unread.len().min(from + buf.remaining());
                buf.put_slice(&unread[from..until]);
                line.unread.1 = until;
                return Poll::Ready(Ok(()));
            }
            if let Some(what) = line.breach.clone() {
                return Poll::Ready(Err(line.broken(&what)));
            }
            // Taken for the time of the call, so that the line can take in what it lends.
            let Some(mut stream) = line.stream.take() else {
                return Poll::Ready(Err(ErrorKind::NotConnected.into()));
            };
            let ended = match Pin::new(&mut stream).poll_fill_buf(cx) {
                Poll::Ready(Ok([])) => None,
                Poll::Ready(Ok(chunk)) => {
                    let (taken, ended) = line.take_in(chunk);
                    Pin::new(&mut stream).consume(taken);
                    Some(ended)
                }
                Poll::Ready(Err(error)) => {
                    line.stream = Some(stream);
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    line.stream = Some(stream);
                    return Poll::Pending;
                }
            };
            line.stream = Some(stream);
            match ended {
                // The end: lettre takes an empty read for it.
                None => return Poll::Ready(Ok(())),
                Some(true) => line.end_line()?,
                Some(false) => {}
            }
            if line.length > REPLY_MAX {
                return Poll::Ready(Err(line.broken("its reply has no end")));
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let mut guard = self.line();
        let line = &mut *guard;
        if line.unread_lies_here() {
            return Poll::Ready(Err(line.broken("it said more than it was asked")));
        }
        let refused = |reply: &Reply| matches!(reply.sense(), Sense::NotNow | Sense::No);
        if line.greeting && line.reply.as_ref().is_some_and(refused) {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        line.reply = None;
        let Some(stream) = &mut line.stream else {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        };
        let taken = ready!(Pin::new(stream).poll_write(cx, buf))?;
        line.written(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.line().stream {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Err(ErrorKind::NotConnected.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.line().stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What went over it is nobody's business.
        f.debug_struct("Wire").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
