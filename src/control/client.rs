//! The command line's end of the control socket.

use super::protocol::{COMMANDS_PATH, CONFIGS_PATH, CommandBody, ConfigBody, ErrorBody, Reply};
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A request's whole time. The daemon gives up after 5 s itself, and says so; this only has to be longer.
const REQUEST_MAX: Duration = Duration::from_secs(8);

/// The connect's time: a local socket either accepts or refuses, unless its owner is frozen and its backlog full.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// The longest answer that is read: the status of ten thousand servers has a few megabytes.
const ANSWER_MAX_BYTES: usize = 32 * 1024 * 1024;

/// The longest single message of a stream.
const MESSAGE_MAX_BYTES: usize = 256 * 1024;

/// Silence after which a stream counts as dead: three heartbeats of the daemon.
const STREAM_QUIET_MAX: Duration = Duration::from_secs(30);

/// A client of one control socket.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    path: PathBuf,
}

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No socket there.
    #[error("there is no control socket {}; is `supervisor run` running, and with this --config or --socket?", path.display())]
    Missing {
        /// The socket.
        path: PathBuf,
    },
    /// A socket that nobody listens on.
    #[error("nobody answers on the control socket {}; the daemon is not running", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
    },
    /// Not for us.
    #[error("no permission for the control socket {}; become root, or join the group that owns it", path.display())]
    Permission {
        /// The socket.
        path: PathBuf,
    },
    /// It accepted, and then nothing.
    #[error("supervisor did not answer in time on {}; it may be frozen or overloaded", path.display())]
    TimedOut {
        /// The socket.
        path: PathBuf,
    },
    /// Anything else on the way.
    #[error("the conversation over {} failed", path.display())]
    Transport {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// An answer without end.
    #[error("the answer is longer than {limit} bytes, which no supervisor sends")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// An answer that is not understood.
    #[error("the answer is not understood; are this program and the daemon of the same version?")]
    Foreign {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The daemon said no.
    #[error("{words}")]
    Said {
        /// The HTTP status.
        status: u16,
        /// Its words.
        words: String,
    },
}

impl Client {
    /// A client of the socket at `path`. Connects with the first request.
    pub fn new(path: &Path) -> Result<Client, ClientError> {
        let built = reqwest::Client::builder()
            .unix_socket(path.to_owned())
            // A local socket has no TLS and no proxy: neither certificates nor the environment are read for it.
            .tls_certs_only([])
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .build();
        let http = built.map_err(|source| ClientError::Transport { path: path.to_owned(), source })?;
        Ok(Client { http, path: path.to_owned() })
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads `path_and_query` ("/api/v1/status").
    pub async fn get<T: DeserializeOwned>(&self, path_and_query: &str) -> Result<T, ClientError> {
        let request = self.request(Method::GET, path_and_query).timeout(REQUEST_MAX);
        let response = request.send().await.map_err(|error| self.failed(error))?;
        let (status, body) = self.read(response).await?;
        if !status.is_success() {
            return Err(said(status, &body));
        }
        parse(&body)
    }

    /// Gives an order.
    pub async fn command(&self, order: &CommandBody) -> Result<Reply, ClientError> {
        self.order(COMMANDS_PATH, order).await
    }

    /// Gives an order about HAProxy's configuration.
    pub async fn config(&self, order: &ConfigBody) -> Result<Reply, ClientError> {
        self.order(CONFIGS_PATH, order).await
    }

    async fn order(&self, path: &str, order: &impl Serialize) -> Result<Reply, ClientError> {
        let body = serde_json::to_vec(order).map_err(|source| ClientError::Foreign { source })?;
        let request = self.request(Method::POST, path).timeout(REQUEST_MAX);
        let request = request.header("content-type", "application/json").body(body);
        let response = request.send().await.map_err(|error| self.failed(error))?;
        let (status, body) = self.read(response).await?;
        // A denial comes as 409, with a verdict.
        if status.is_success() || status == StatusCode::CONFLICT {
            parse(&body)
        } else {
            Err(said(status, &body))
        }
    }

    /// Opens a stream of server-sent events.
    pub async fn stream(&self, path_and_query: &str) -> Result<Stream, ClientError> {
        let send = self.request(Method::GET, path_and_query).send();
        let Ok(sent) = tokio::time::timeout(REQUEST_MAX, send).await else {
            return Err(ClientError::TimedOut { path: self.path.clone() });
        };
        let response = sent.map_err(|error| self.failed(error))?;
        if !response.status().is_success() {
            let (status, body) = self.read(response).await?;
            return Err(said(status, &body));
        }
        Ok(Stream { response, client: self.clone(), buffer: Vec::new() })
    }

    fn request(&self, method: Method, path_and_query: &str) -> reqwest::RequestBuilder {
        // The host is a formality of HTTP: the socket decides who is asked.
        self.http.request(method, format!("http://supervisor{path_and_query}"))
    }

    async fn read(&self, mut response: Response) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
            if body.len() + chunk.len() > ANSWER_MAX_BYTES {
                return Err(ClientError::TooLong { limit: ANSWER_MAX_BYTES });
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    }

    fn failed(&self, error: reqwest::Error) -> ClientError {
        let path = self.path.clone();
        if error.is_timeout() {
            return ClientError::TimedOut { path };
        }
        match io_kind(&error) {
            Some(io::ErrorKind::NotFound) => ClientError::Missing { path },
            Some(io::ErrorKind::ConnectionRefused) => ClientError::Refused { path },
            Some(io::ErrorKind::PermissionDenied) => ClientError::Permission { path },
            _ => ClientError::Transport { path, source: error },
        }
    }
}

/// Server-sent events, as they come.
#[derive(Debug)]
pub struct Stream {
    response: Response,
    client: Client,
    buffer: Vec<u8>,
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its kind; empty when it has none.
    pub event: String,
    /// Its data.
    pub data: String,
}

impl Stream {
    /// The next message; none when the daemon ended the stream.
    pub async fn next(&mut self) -> Result<Option<Message>, ClientError> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                match message(&String::from_utf8_lossy(&block)) {
                    Some(message) => return Ok(Some(message)),
                    None => continue,
                }
            }
            if self.buffer.len() > MESSAGE_MAX_BYTES {
                return Err(ClientError::TooLong { limit: MESSAGE_MAX_BYTES });
            }
            let Ok(chunk) = tokio::time::timeout(STREAM_QUIET_MAX, self.response.chunk()).await else {
                return Err(ClientError::TimedOut { path: self.client.path.clone() });
            };
            match chunk.map_err(|error| self.client.failed(error))? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// The message of one block; none for a heartbeat (HTML standard, "Interpreting an event stream").
fn message(block: &str) -> Option<Message> {
    let mut message = Message { event: String::new(), data: String::new() };
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => message.event = value.to_owned(),
            "data" if message.data.is_empty() => message.data = value.to_owned(),
            "data" => {
                message.data.push('\n');
                message.data.push_str(value);
            }
            _ => {}
        }
    }
    (!message.data.is_empty()).then_some(message)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|source| ClientError::Foreign { source })
}

fn said(status: StatusCode, body: &[u8]) -> ClientError {
    let words = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(_) => format!("supervisor answered with status {status} and no reason"),
    };
    ClientError::Said { status: status.as_u16(), words }
}

/// The first I/O error in a chain of causes.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}
