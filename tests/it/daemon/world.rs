//! What a daemon stands on: two upstream servers, a HAProxy that nobody has configured yet, a settings file; all of it
//! in one temporary directory. And the daemon itself, whose log is shown when a test fails.

use crate::haproxy::lab::{self, Upstream, free_port};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use supervisor::actuator::haproxy::{Client, Command as Order, Recipient, Runtime};
use supervisor::control;
use supervisor::domain::explain::Grade;
use supervisor::status::{ServiceView, View};
use tokio::time::sleep;

pub(crate) const SUPERVISOR: &str = env!("CARGO_BIN_EXE_supervisor");

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) onprem: Upstream,
    pub(crate) cloud: Upstream,
    /// Where HAProxy serves.
    pub(crate) port: u16,
    /// Where the daemon shows its status.
    pub(crate) status: u16,
    haproxy: Option<Child>,
}

impl World {
    /// With an HAProxy that runs a configuration of somebody else's making.
    pub(crate) async fn new() -> World {
        let mut world = World::without_haproxy().await;
        let stub = format!(
            "global\n    stats socket {} mode 660 level admin\n\
             defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n\
             listen stub\n    bind unix@{}\n",
            world.path("admin.sock").display(),
            world.path("stub.sock").display()
        );
        std::fs::write(world.path("haproxy.cfg"), stub).unwrap();
        world.start_haproxy().await;
        world
    }

    pub(crate) async fn without_haproxy() -> World {
        let world = World {
            dir: tempfile::tempdir().unwrap(),
            onprem: Upstream::start("onprem").await,
            cloud: Upstream::start("cloud").await,
            port: free_port(),
            status: free_port(),
            haproxy: None,
        };
        world.write(&world.settings());
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("supervisor.toml")
    }

    /// Settings under which a failover takes tenths of a second, and a failback one second.
    pub(crate) fn settings(&self) -> String {
        let dir = self.dir.path().display();
        let (onprem, cloud) = (self.onprem.port, self.cloud.port);
        format!(
            r#"state_dir = "{dir}/state"
control_socket = "{dir}/control.sock"
startup_grace = "1s"

[status]
listen = "127.0.0.1:{status}"

[proxies.edge]
config_file = "{dir}/haproxy.cfg"
map_file = "{dir}/routes.map"
state_file = "{dir}/servers.state"
master_socket = "{dir}/master.sock"
admin_socket = "{dir}/admin.sock"
haproxy_binary = "{binary}"
reload_interval = "100ms"

[services.api]
bind = "127.0.0.1:{port}"
prefer = ["onprem", "cloud"]
ready = {{ path = "/health", interval = "100ms", timeout = "250ms", fast_interval = "20ms" }}
failback = {{ after = "1s", hold_down = "0s", limit = 30 }}
flapping = {{ falls = 0 }} # the tests break the same server over and over

[services.api.servers.api-onprem]
site = "onprem"
address = "127.0.0.1:{onprem}"

[services.api.servers.api-cloud]
site = "cloud"
address = "127.0.0.1:{cloud}"
"#,
            status = self.status,
            binary = lab::binary().display(),
            port = self.port,
        )
    }

    /// Puts `text` in the place of the settings, as an editor does.
    pub(crate) fn write(&self, text: &str) {
        let new = self.path("supervisor.toml.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.config()).unwrap();
    }

    pub(crate) async fn start_haproxy(&mut self) {
        self.haproxy = Some(lab::spawn(self.dir.path()));
        lab::until("HAProxy answers on both sockets", async || {
            self.runtime().info().await.is_ok() && self.runtime().processes().await.is_ok()
        })
        .await;
    }

    pub(crate) fn stop_haproxy(&mut self) {
        if let Some(mut haproxy) = self.haproxy.take() {
            lab::end(&mut haproxy);
        }
    }

    fn runtime(&self) -> Runtime {
        Runtime::new(Client::unix(self.path("admin.sock")), Some(Client::unix(self.path("master.sock"))))
    }

    /// Its description, which says whose configuration it runs.
    pub(crate) async fn description(&self) -> Option<String> {
        self.runtime().info().await.ok()?.description
    }

    /// Somebody else reloads it.
    pub(crate) async fn reload(&self) {
        let runtime = self.runtime();
        // 2.6 answers nothing.
        let _ = runtime.master().unwrap().raw(Recipient::Owner, &Order::reload()).await;
    }

    /// The process that serves.
    pub(crate) async fn worker(&self) -> u32 {
        self.runtime().info().await.unwrap().pid
    }

    /// The map as HAProxy has it.
    pub(crate) async fn routes(&self) -> Vec<(String, String)> {
        let map = self.path("routes.map").display().to_string().parse().unwrap();
        let seen = supervisor::actuator::haproxy::observe(&self.runtime(), &map).await.unwrap();
        seen.routes.unwrap_or_default().into_iter().collect()
    }

    /// Which site answers a new connection.
    pub(crate) async fn site(&self) -> Result<String, String> {
        lab::get(self.port).await
    }

    pub(crate) async fn until_served_from(&self, site: &str) {
        lab::until(&format!("{site} answers"), async || self.site().await.as_deref() == Ok(site)).await;
    }

    /// A command of the program, other than `run`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        program(&self.config(), arguments).output().unwrap()
    }

    pub(crate) fn run(&self) -> Daemon {
        self.run_under(&[])
    }

    /// `wrapper` is a program with its arguments that ends by becoming what is named behind it.
    pub(crate) fn run_under(&self, wrapper: &[&str]) -> Daemon {
        let log = self.path("daemon.log");
        let out = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let begins = usize::try_from(out.metadata().unwrap().len()).unwrap();
        let mut command = match wrapper {
            [] => program(&self.config(), &["run"]),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).args([SUPERVISOR, "run", "--config"]).arg(self.config());
                command
            }
        };
        let process =
            command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Daemon { process, log, begins, socket: self.path("control.sock") }
    }

    /// A daemon that has configured HAProxy, and that traffic flows from onprem for.
    pub(crate) async fn running(&self) -> Daemon {
        let daemon = self.run();
        self.well(&daemon).await;
        daemon
    }

    pub(crate) async fn well(&self, daemon: &Daemon) {
        daemon.until("all is well", |view| view.grade == Grade::Well).await;
        self.until_served_from("onprem").await;
        // The new worker serves a moment before the admin socket is its own.
        let ours = |info: supervisor::actuator::haproxy::reply::Info| {
            info.description.is_some_and(|description| description.starts_with("supervisor="))
        };
        lab::until("the admin socket is the new worker's", async || {
            self.runtime().info().await.is_ok_and(ours)
        })
        .await;
    }
}

impl Drop for World {
    #[expect(clippy::print_stderr, reason = "a failed test shows what HAProxy said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            eprintln!("HAProxy's log:\n{log}");
        }
        self.stop_haproxy();
    }
}

pub(crate) fn program(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(SUPERVISOR);
    command.args(arguments).arg("--config").arg(config);
    command
}

/// `supervisor run`.
pub(crate) struct Daemon {
    process: Child,
    log: PathBuf,
    /// Where in the log this process begins: several may have written into it.
    begins: usize,
    socket: PathBuf,
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes[self.begins.min(bytes.len())..]).into_owned()
    }

    pub(crate) fn client(&self) -> control::Client {
        control::Client::new(&self.socket).unwrap()
    }

    pub(crate) async fn view(&self) -> Result<View, control::ClientError> {
        self.client().get("/api/v1/status").await
    }

    pub(crate) async fn service(&self) -> ServiceView {
        self.client().get("/api/v1/explain/api").await.unwrap()
    }

    /// Waits until the status is as `wanted`.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&View) -> bool) {
        lab::until(what, async || self.view().await.is_ok_and(|view| wanted(&view))).await;
    }

    pub(crate) async fn until_routed_to(&self, site: &str) {
        self.until(&format!("{site} is the decided site"), |view| {
            let service = &view.services[0];
            service.serving.is_some_and(|serving| serving.as_str() == site) && service.pending.is_empty()
        })
        .await;
    }

    /// Waits until the log has `words`.
    pub(crate) async fn until_logged(&self, words: &str) {
        lab::until(&format!("the log says {words:?}"), async || self.log().contains(words)).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    /// How it ended, and how long that took.
    pub(crate) async fn ended(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return (status, begun.elapsed());
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "the daemon did not end in 10 s");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it as the system does; says how long that took.
    pub(crate) async fn stop(&mut self) -> Duration {
        self.signal(Signal::TERM);
        let (status, took) = self.ended().await;
        assert!(status.success(), "it ended with {status}, signal {:?}", status.signal());
        took
    }
}

impl Drop for Daemon {
    #[expect(clippy::print_stderr, reason = "a failed test shows what the daemon said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a program said, for the assertion about it.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
