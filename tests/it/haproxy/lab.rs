//! A HAProxy of its own for each test: started from the shipped template in a temporary directory, on loopback ports that
//! the kernel chose, with upstream servers inside the test. Ended by process id.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use supervisor::actuator::haproxy::template::{
    CheckModel, DEFAULT_TEMPLATE, HttpCheck, Mode, Model, PoolModel, ProxyModel, ProxySnippets, Rendered,
    ServerModel, ServiceModel, ServiceSnippets, Timeouts, render,
};
use supervisor::actuator::haproxy::{
    APPLY_DEADLINE, BindCheck, Client, Handoff, Ident, LocalBinary, MapPath, Routes, Runtime, Socket, Target,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

/// How long a client of the design waits.
pub(crate) const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) model: Model,
    pub(crate) onprem: Upstream,
    pub(crate) cloud: Upstream,
    pub(crate) port: u16,
    sockets: Sockets,
    haproxy: Child,
}

/// Where HAProxy's command lines listen.
pub(crate) struct Sockets {
    pub(crate) admin: Socket,
    pub(crate) master: Socket,
}

impl Sockets {
    /// In `dir`.
    pub(crate) fn unix(dir: &Path) -> Sockets {
        let unix = |name| Socket::Unix(dir.join(name));
        Sockets { admin: unix("admin.sock"), master: unix("master.sock") }
    }

    /// On free ports.
    pub(crate) fn tcp() -> Sockets {
        let tcp = || Socket::Tcp(format!("127.0.0.1:{}", free_port()));
        Sockets { admin: tcp(), master: tcp() }
    }

    pub(crate) fn runtime(&self) -> Runtime {
        Runtime::new(Client::new(self.admin.clone()), Some(Client::new(self.master.clone())))
    }
}

impl Lab {
    /// One service `api` at two sites; `change` may alter the model before HAProxy starts.
    pub(crate) async fn start(change: impl FnOnce(&mut Model)) -> Lab {
        Lab::start_with(Sockets::unix, change).await
    }

    /// The same, with HAProxy's command lines elsewhere.
    pub(crate) async fn start_with(
        sockets: impl FnOnce(&Path) -> Sockets,
        change: impl FnOnce(&mut Model),
    ) -> Lab {
        let (onprem, cloud) = (Upstream::start("onprem").await, Upstream::start("cloud").await);
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut model = model(dir.path(), port, onprem.port, cloud.port);
        let sockets = sockets(dir.path());
        model.proxy.admin_socket = match &sockets.admin {
            Socket::Unix(path) => path.display().to_string(),
            Socket::Tcp(address) => format!("ipv4@{address}"),
        };
        change(&mut model);
        let rendered = render(&model, DEFAULT_TEMPLATE).unwrap();
        std::fs::write(dir.path().join("haproxy.cfg"), &rendered.text).unwrap();
        std::fs::write(dir.path().join("state"), "1\n").unwrap();
        std::fs::write(dir.path().join("routes.map"), "api api__onprem\n").unwrap();
        let haproxy = spawn_at(dir.path(), &sockets.master);
        let lab = Lab { dir, model, onprem, cloud, port, sockets, haproxy };
        lab.answers().await;
        lab
    }

    async fn answers(&self) {
        let runtime = self.runtime();
        until("HAProxy answers on both sockets", async || {
            runtime.info().await.is_ok() && runtime.processes().await.is_ok()
        })
        .await;
    }

    /// Ends HAProxy as a crash of its container would: nothing is saved.
    pub(crate) fn stop(&mut self) {
        end(&mut self.haproxy);
    }

    /// Ends its master at once, as a crash or the kernel does.
    pub(crate) fn kill(&mut self) {
        self.haproxy.kill().unwrap();
        self.haproxy.wait().unwrap();
    }

    /// All processes of it, old ones and those of an earlier start, too.
    pub(crate) fn running(&self) -> Vec<u32> {
        let config = self.config_file().display().to_string();
        let started_with_it = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == config.as_bytes())
        };
        let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let name = entry.unwrap().file_name();
            name.to_str()?.parse().ok()
        });
        pids.filter(started_with_it).collect()
    }

    pub(crate) async fn start_again(&mut self) {
        self.haproxy = spawn_at(self.dir.path(), &self.sockets.master);
        self.answers().await;
    }

    pub(crate) fn runtime(&self) -> Runtime {
        self.sockets.runtime()
    }

    pub(crate) fn map(&self) -> MapPath {
        self.model.proxy.map_path.clone()
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.path().join("haproxy.cfg")
    }

    pub(crate) fn target(&self, binds: BindCheck) -> Target {
        Target {
            runtime: self.runtime(),
            config_file: self.config_file(),
            state_file: self.dir.path().join("state"),
            map_file: self.dir.path().join("routes.map"),
            validator: Arc::new(LocalBinary(binary())),
            binds,
            deadline: APPLY_DEADLINE,
            handoff: Handoff::default(),
        }
    }

    /// The model with `change`, rendered.
    pub(crate) fn rendered(&self, change: impl FnOnce(&mut Model)) -> Rendered {
        let mut model = self.model.clone();
        change(&mut model);
        render(&model, DEFAULT_TEMPLATE).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Which site answers a new connection.
    pub(crate) async fn site(&self) -> String {
        get(self.port).await.unwrap()
    }
}

impl Drop for Lab {
    #[expect(clippy::print_stderr, reason = "a failed test shows what HAProxy said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("HAProxy's log:\n{}", self.log());
        }
        self.stop();
    }
}

/// HAProxy with the files and sockets of `dir`.
pub(crate) fn spawn(dir: &Path) -> Child {
    spawn_at(dir, &Sockets::unix(dir).master)
}

/// The same, with the master's command line at `master`.
pub(crate) fn spawn_at(dir: &Path, master: &Socket) -> Child {
    let master = match master {
        Socket::Unix(path) => path.display().to_string(),
        Socket::Tcp(address) => address.clone(),
    };
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new(binary())
        .args(["-W", "-S"])
        .arg(master)
        .arg("-f")
        .arg(dir.join("haproxy.cfg"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Ends HAProxy at once.
pub(crate) fn end(haproxy: &mut Child) {
    // The master takes its workers along, also old ones.
    // Once it was waited for, its process id may be somebody else's.
    if let Ok(None) = haproxy.try_wait() {
        let kill = format!("kill -TERM {}", haproxy.id());
        let _ = Command::new("sh").args(["-c", &kill]).status();
        let _ = haproxy.wait();
    }
}

/// `HAPROXY`, or the distribution's.
pub(crate) fn binary() -> PathBuf {
    let program =
        std::env::var_os("HAPROXY").map_or_else(|| PathBuf::from("/usr/sbin/haproxy"), PathBuf::from);
    assert!(
        program.is_file(),
        "{} is missing: `apt-get install haproxy`, or set HAPROXY to its path",
        program.display()
    );
    program
}

pub(crate) fn ident(text: &str) -> Ident {
    text.parse().unwrap()
}

pub(crate) fn routes(entries: &[(&str, &str)]) -> Routes {
    entries.iter().map(|(key, backend)| (ident(key), ident(backend))).collect()
}

/// A port that nobody had a moment ago, and that no other test is given. Not one of those that the kernel gives to whoever
/// connects (32768 and up): until it is used, a connection of another test would take it.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Test programs that run side by side begin far from each other.
    let begin = std::process::id().wrapping_mul(997);
    loop {
        let n = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::SeqCst));
        let port = u16::try_from(FIRST + n % COUNT).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub(crate) async fn until(what: &str, condition: impl AsyncFnMut() -> bool) {
    until_within(Duration::from_secs(10), what, condition).await;
}

pub(crate) async fn until_within(longest: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let ends = Instant::now() + longest;
    while !condition().await {
        assert!(Instant::now() < ends, "waited {} s in vain until {what}", longest.as_secs());
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn model(dir: &Path, port: u16, onprem: u16, cloud: u16) -> Model {
    let path = |name: &str| dir.join(name).display().to_string();
    let pool = |site: &str, port: u16| PoolModel {
        site: ident(site),
        servers: vec![ServerModel {
            name: ident(&format!("api-{site}")),
            address: format!("127.0.0.1:{port}"),
            maxconn: None,
        }],
    };
    Model {
        proxy: ProxyModel {
            owner: ident("lab"),
            user: None,
            group: None,
            admin_socket: path("admin.sock"),
            socket_mode: "660".into(),
            socket_gid: None,
            map_path: path("routes.map").parse().unwrap(),
            state_file: path("state"),
            maxconn: 500,
            nameservers: vec![],
            metrics_bind: None,
            timeouts: Timeouts::default(),
            snippets: ProxySnippets::default(),
        },
        services: vec![ServiceModel {
            slow_start: Duration::ZERO,
            maintenance_page: None,
            name: ident("api"),
            mode: Mode::Http,
            bind: format!("127.0.0.1:{port}"),
            tls: None,
            host: None,
            path: None,
            pools: vec![pool("onprem", onprem), pool("cloud", cloud)],
            check: CheckModel {
                http: Some(HttpCheck { path: "/health".into(), host: "api".into(), status: "200".into() }),
                interval: Duration::from_millis(200),
                timeout: Duration::from_millis(200),
                fall: 2,
                rise: 2,
            },
            stateful: false,
            retry_reads_after: Some(Duration::from_millis(1200)),
            observe: true,
            snippets: ServiceSnippets::default(),
        }],
    }
}

const HANGS: u8 = 1;

/// Longer than a test needs to change something meanwhile, shorter than any timeout of the lab.
pub(crate) const SLOWLY: Duration = Duration::from_millis(600);

const SLOW: u8 = 2;

/// An HTTP server that names its site, counts what it did, and can be told to answer slowly, to accept and never answer, or
/// to be gone.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) port: u16,
    pub(crate) requests: Arc<AtomicU64>,
    site: &'static str,
    mood: Arc<AtomicU8>,
    /// The task that accepts, and owns what it accepted.
    listening: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// Bound to the port and never listening: while this server is gone, nobody else gets the port and answers in its place.
    _held: Arc<TcpSocket>,
}

impl Upstream {
    pub(crate) async fn start(site: &'static str) -> Upstream {
        let held = bound(0);
        let port = held.local_addr().unwrap().port();
        let upstream = Upstream {
            port,
            requests: Arc::default(),
            site,
            mood: Arc::default(),
            listening: Arc::default(),
            _held: Arc::new(held),
        };
        upstream.open().await;
        upstream
    }

    /// Back at the same port.
    pub(crate) async fn open(&self) {
        let listener = bound(self.port).listen(128).unwrap();
        let shared = self.clone();
        *self.listening.lock().await = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(shared.clone().serve(stream));
                while connections.try_join_next().is_some() {}
            }
        }));
    }

    /// As a process that died: its connections are cut, new ones are refused.
    pub(crate) async fn close(&self) {
        if let Some(task) = self.listening.lock().await.take() {
            task.abort();
            let _ = task.await;
        }
    }

    pub(crate) fn hang(&self, hangs: bool) {
        self.mood.store(if hangs { HANGS } else { 0 }, Ordering::SeqCst);
    }

    /// It answers its check at once, and everything else after [`SLOWLY`].
    pub(crate) fn slow(&self, slow: bool) {
        self.mood.store(if slow { SLOW } else { 0 }, Ordering::SeqCst);
    }

    async fn serve(self, stream: TcpStream) {
        let site = self.site;
        let mut stream = BufReader::new(stream);
        loop {
            let mut request = String::new();
            loop {
                match stream.read_line(&mut request).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) if request.ends_with("\r\n\r\n") => break,
                    Ok(_) => {}
                }
            }
            if self.mood.load(Ordering::SeqCst) == HANGS {
                // Holds the connection, as a stopped process does, until the peer gives up.
                let _ = stream.read_u8().await;
                return;
            }
            if !request.starts_with("GET /health") {
                self.requests.fetch_add(1, Ordering::SeqCst);
                if self.mood.load(Ordering::SeqCst) == SLOW {
                    sleep(SLOWLY).await;
                }
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{site}", site.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// A socket at a port of its own, or one that shares a port that we have.
fn bound(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // Connections that have just ended have the port, too.
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind((std::net::Ipv4Addr::LOCALHOST, port).into()).unwrap();
    socket
}

/// A client that keeps its connection.
pub(crate) struct KeepAlive(Option<BufReader<TcpStream>>);

impl KeepAlive {
    pub(crate) async fn connect(port: u16) -> KeepAlive {
        KeepAlive::open(port).await.unwrap()
    }

    pub(crate) async fn open(port: u16) -> Result<KeepAlive, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
        Ok(KeepAlive(Some(BufReader::new(stream))))
    }

    /// True once HAProxy has said that it closes the connection.
    pub(crate) fn closed(&self) -> bool {
        self.0.is_none()
    }

    /// The site that answered.
    pub(crate) async fn get(&mut self) -> Result<String, String> {
        let stream = self.0.as_mut().ok_or("closed")?;
        let (site, close) =
            timeout(CLIENT_TIMEOUT, exchange(stream)).await.map_err(|_| "no answer in 2 s")??;
        if close {
            self.0 = None;
        }
        Ok(site)
    }
}

/// One GET over a connection of its own.
pub(crate) async fn get(port: u16) -> Result<String, String> {
    get_of(port, "api", "/").await
}

/// The same, of a host and a path.
pub(crate) async fn get_of(port: u16, host: &str, path: &str) -> Result<String, String> {
    let once = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
        exchange_of(&mut BufReader::new(stream), host, path).await
    };
    timeout(CLIENT_TIMEOUT, once).await.map_err(|_| "no answer in 2 s")?.map(|(site, _)| site)
}

/// The same from this address and port.
pub(crate) async fn get_from(from: std::net::SocketAddr, port: u16) -> Result<String, String> {
    let once = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(from).map_err(|error| error.to_string())?;
        let to = (std::net::Ipv4Addr::LOCALHOST, port).into();
        let stream = socket.connect(to).await.map_err(|error| error.to_string())?;
        exchange(&mut BufReader::new(stream)).await
    };
    timeout(CLIENT_TIMEOUT, once).await.map_err(|_| "no answer in 2 s")?.map(|(site, _)| site)
}

async fn exchange(stream: &mut BufReader<TcpStream>) -> Result<(String, bool), String> {
    exchange_of(stream, "api", "/").await
}

async fn exchange_of(
    stream: &mut BufReader<TcpStream>,
    host: &str,
    path: &str,
) -> Result<(String, bool), String> {
    let text = |error: std::io::Error| error.to_string();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(text)?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.map_err(text)? == 0 {
            return Err(format!("the connection ended after {head:?}"));
        }
    }
    let head = head.to_ascii_lowercase();
    let length =
        head.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.ok_or("no content-length")?];
    stream.read_exact(&mut body).await.map_err(text)?;
    match head.starts_with("http/1.1 200 ") {
        true => Ok((String::from_utf8_lossy(&body).into_owned(), head.contains("connection: close"))),
        false => {
            let status = head.lines().next().unwrap_or_default();
            Err(format!("{status}: {}", String::from_utf8_lossy(&body)))
        }
    }
}
