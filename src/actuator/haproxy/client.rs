//! One-shot connections to HAProxy's runtime and master sockets.
//!
//! Each exchange is: connect, write the command line, half-close, read to the end of the stream. The half-close matters:
//! the 2.6 master never closes after a reply, it waits for the next command. A connection is never kept, because one
//! opened before a reload stays with the old worker.
//!
//! A reply counts only when it is whole: every reply of the worker ends with an empty line, also one without text. A read
//! error, a deadline or a stream that ends early is an error, never a success.
//!
//! Callers send one exchange at a time to one HAProxy; this file does not queue.
//!
//! Over TCP everything is the same. HAProxy knows no password there: whoever reaches the port commands it.

use super::command::Command;
use super::reply::split;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// How long one exchange may take. A worker answers in 0.2 ms, a dump of thousands of servers in some tens; two seconds
/// are reached only by a HAProxy that does not run.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// The longest reply that is read. `show stat` needs about 400 bytes for each server, so this is enough for 80,000 of
/// them, and bounds what a wrong peer can make us store.
pub const REPLY_MAX: usize = 32 << 20;

/// The longest command line that is written at once. HAProxy reads a line into one buffer of `tune.bufsize` (16 KiB by
/// default); half of it leaves room for prefixes and for smaller settings.
pub const LINE_MAX: usize = 8 << 10;

/// Where a command line of HAProxy listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Socket {
    /// A Unix socket, by path.
    Unix(PathBuf),
    /// A TCP address, `host:port`.
    Tcp(String),
}

/// Which process a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recipient {
    /// The process that owns the socket: a worker, or the master itself.
    Owner,
    /// Through the master: the worker with this process id, also an old one (`@!PID`).
    Worker(u32),
}

/// A client of one socket. Cheap to make and to clone: it holds no connection.
#[derive(Debug, Clone)]
pub struct Client {
    socket: Socket,
    deadline: Duration,
}

/// Why an exchange gave no reply. Names the socket and the command, never its values.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing was sent.
    #[error(
        "cannot connect to {socket} for `{command}`: check that HAProxy runs and that this user may open it"
    )]
    Connect {
        /// Where.
        socket: Socket,
        /// For what.
        command: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The connection broke. Whether the command was carried out is unknown.
    #[error("the connection to {socket} broke during `{command}`")]
    Broken {
        /// Where.
        socket: Socket,
        /// During what.
        command: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No whole reply in time. Whether the command was carried out is unknown.
    #[error("no whole reply from {socket} to `{command}` within {after:?}")]
    Deadline {
        /// Where.
        socket: Socket,
        /// To what.
        command: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// More than [`REPLY_MAX`].
    #[error("the reply from {socket} to `{command}` is longer than {REPLY_MAX} bytes")]
    TooLong {
        /// Where.
        socket: Socket,
        /// To what.
        command: &'static str,
    },
    /// The stream ended before the reply did, or there were more or fewer replies than commands.
    #[error("the reply from {socket} to `{command}` is not whole: {got} of {expected} replies")]
    Incomplete {
        /// Where.
        socket: Socket,
        /// To what.
        command: &'static str,
        /// How many commands there were.
        expected: usize,
        /// How many replies came.
        got: usize,
    },
    /// The master knows no such worker (any more).
    #[error("HAProxy at {socket} has no process {pid} any more (`{command}`)")]
    NoSuchProcess {
        /// Where.
        socket: Socket,
        /// For what.
        command: &'static str,
        /// Which.
        pid: u32,
    },
}

impl ClientError {
    /// True if the command certainly never reached HAProxy.
    pub fn nothing_was_sent(&self) -> bool {
        matches!(self, ClientError::Connect { .. })
    }

    /// True if the exchange began and did not end as it should; the next one may do so at once.
    pub fn is_cut_off(&self) -> bool {
        matches!(self, ClientError::Broken { .. } | ClientError::Incomplete { .. })
    }

    /// True if the process that was asked has ended.
    pub fn process_is_gone(&self) -> bool {
        matches!(self, ClientError::NoSuchProcess { .. })
    }
}

impl Client {
    /// A client of `socket` with the default [`DEADLINE`].
    pub fn new(socket: Socket) -> Client {
        Client { socket, deadline: DEADLINE }
    }

    /// A client of the Unix socket at `path`.
    pub fn unix(path: impl Into<PathBuf>) -> Client {
        Client::new(Socket::Unix(path.into()))
    }

    /// The same client with another deadline for each exchange.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Client {
        self.deadline = deadline;
        self
    }

    /// Where it connects to.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Sends one command and gives its reply, without the line ends that close it.
    pub async fn send(&self, to: Recipient, command: &Command) -> Result<String, ClientError> {
        let mut replies = self.exchange(to, std::slice::from_ref(command)).await?;
        replies.pop().ok_or_else(|| self.incomplete(command.name(), 1, 0))
    }

    /// Sends commands in their order and gives a reply for each. A command that fails does not stop those after it.
    /// As many as fit into [`LINE_MAX`] go over one connection.
    pub async fn batch(&self, to: Recipient, commands: &[Command]) -> Result<Vec<String>, ClientError> {
        let mut replies = Vec::with_capacity(commands.len());
        let mut rest = commands;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(to, rest));
            replies.append(&mut self.exchange(to, now).await?);
            rest = later;
        }
        Ok(replies)
    }

    /// Sends one command and gives whatever comes, also nothing: for `reload`, whose reply is missing up to 2.6 and
    /// ends without an empty line later.
    pub async fn raw(&self, to: Recipient, command: &Command) -> Result<String, ClientError> {
        self.talk(command.name(), &line(to, std::slice::from_ref(command))).await
    }

    async fn exchange(&self, to: Recipient, commands: &[Command]) -> Result<Vec<String>, ClientError> {
        let name = commands.first().map_or("", Command::name);
        let text = self.talk(name, &line(to, commands)).await?;
        if let Recipient::Worker(pid) = to
            && text.lines().any(|line| line.starts_with("Can't find the target PID matching the prefix"))
        {
            return Err(ClientError::NoSuchProcess { socket: self.socket.clone(), command: name, pid });
        }
        split(&text, commands.len()).map_err(|got| self.incomplete(name, commands.len(), got))
    }

    /// Cancelling this future closes the connection; HAProxy may still carry the command out.
    async fn talk(&self, command: &'static str, line: &str) -> Result<String, ClientError> {
        let socket = || self.socket.clone();
        let connect_failed = |source| ClientError::Connect { socket: socket(), command, source };
        let whole = async {
            match &self.socket {
                Socket::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(connect_failed)?;
                    self.converse(stream, command, line).await
                }
                Socket::Tcp(address) => {
                    let stream = TcpStream::connect(address).await.map_err(connect_failed)?;
                    self.converse(stream, command, line).await
                }
            }
        };
        match tokio::time::timeout(self.deadline, whole).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Deadline { socket: socket(), command, after: self.deadline }),
        }
    }

    async fn converse<S>(&self, stream: S, command: &'static str, line: &str) -> Result<String, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = stream;
        let broken = |source| ClientError::Broken { socket: self.socket.clone(), command, source };
        stream.write_all(line.as_bytes()).await.map_err(broken)?;
        stream.shutdown().await.map_err(broken)?;
        let mut reply = Vec::new();
        let limit = u64::try_from(REPLY_MAX).unwrap_or(u64::MAX).saturating_add(1);
        stream.take(limit).read_to_end(&mut reply).await.map_err(broken)?;
        if reply.len() > REPLY_MAX {
            return Err(ClientError::TooLong { socket: self.socket.clone(), command });
        }
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }

    fn incomplete(&self, command: &'static str, expected: usize, got: usize) -> ClientError {
        ClientError::Incomplete { socket: self.socket.clone(), command, expected, got }
    }
}

/// As it is read: the path, or `tcp://HOST:PORT`.
impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Socket::Unix(path) => path.display().fmt(f),
            Socket::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// A text that names no socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no socket of HAProxy's: write an absolute path, or tcp://HOST:PORT")]
pub struct SocketError(String);

impl FromStr for Socket {
    type Err = SocketError;

    fn from_str(text: &str) -> Result<Socket, SocketError> {
        let no = || SocketError(text.to_owned());
        if let Some(address) = text.strip_prefix("tcp://") {
            let (host, port) = address.rsplit_once(':').ok_or_else(no)?;
            let host = !host.is_empty() && !host.contains(['/', '@']) && !host.contains(char::is_whitespace);
            let port = port.parse::<u16>().is_ok_and(|port| port != 0);
            return if host && port { Ok(Socket::Tcp(address.to_owned())) } else { Err(no()) };
        }
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.starts_with('/') { Ok(Socket::Unix(PathBuf::from(path))) } else { Err(no()) }
    }
}

/// The command line for `commands`. Each command needs its own prefix: after `@!7 a; b` the master runs `b` itself.
fn line(to: Recipient, commands: &[Command]) -> String {
    let prefix = prefix(to);
    let parts: Vec<String> = commands.iter().map(|command| format!("{prefix}{}", command.text())).collect();
    parts.join(";") + "\n"
}

fn prefix(to: Recipient) -> String {
    match to {
        Recipient::Owner => String::new(),
        Recipient::Worker(pid) => format!("@!{pid} "),
    }
}

/// How many of `commands` fit into one line; at least one.
fn fitting(to: Recipient, commands: &[Command]) -> usize {
    let overhead = prefix(to).len() + 1;
    let mut length = 0;
    for (count, command) in commands.iter().enumerate() {
        length += command.text().len() + overhead;
        if length > LINE_MAX {
            return count.max(1);
        }
    }
    commands.len()
}

#[cfg(test)]
mod tests;
