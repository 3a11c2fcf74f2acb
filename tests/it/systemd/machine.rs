//! A Debian machine of our own: real systemd as the first process of a container, HAProxy as Debian's service, and the unit
//! installed as the README says. It shares this machine's network: its HAProxy reaches the upstreams of the test.

use crate::docker::{Container, docker, socket};
use crate::haproxy::lab::{self, Upstream, free_port};
use serde_json::Value;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};
use supervisor::domain::explain::Grade;
use supervisor::status::View;
use tokio::process::Command;
use tokio::time::timeout;

const README: &str = include_str!("../../../README.md");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const IMAGE: &str = "supervisor-test-systemd";

/// The first time, packages are fetched.
const BUILT_WITHIN: Duration = Duration::from_secs(300);

/// It takes a second and a half; a busy machine takes longer.
const BOOTS_WITHIN: Duration = Duration::from_secs(60);

/// No command in it takes as long, but on a machine that does something else.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// Where the sources lie in it, as after `git clone`.
const SOURCES: &str = "/root/supervisor";

/// Where it has this machine's Docker socket; not under /run, which is its own.
const DOCKER_SOCKET: &str = "/srv/docker.sock";

pub(crate) struct Machine {
    container: Container,
    pub(crate) onprem: Upstream,
    pub(crate) cloud: Upstream,
    /// Where HAProxy serves.
    pub(crate) port: u16,
    status: u16,
}

impl Machine {
    /// Booted, with HAProxy running and the sources at hand; supervisor is not installed.
    pub(crate) async fn boot(test: &str) -> Machine {
        build_image().await;
        let container = Container::named(test);
        let binary = format!("{}:{SOURCES}/target/release/supervisor:ro", env!("CARGO_BIN_EXE_supervisor"));
        let options = [
            // Systemd mounts file systems and makes namespaces for its services.
            "--cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
            "--cgroupns private --network host --tmpfs /run --tmpfs /run/lock --tmpfs /tmp",
            // The settings may name a server by a name.
            "--add-host onprem.test:127.0.0.1",
            &format!("-v {binary} -v {ROOT}/systemd:{SOURCES}/systemd:ro"),
            &format!("-v {}:{DOCKER_SOCKET}", socket().display()),
        ];
        docker(&format!("run -d --pull never --name {} {} {IMAGE}", container.0, options.join(" "))).await;
        let machine = Machine {
            container,
            onprem: Upstream::start("onprem").await,
            cloud: Upstream::start("cloud").await,
            port: free_port(),
            status: free_port(),
        };
        lab::until_within(BOOTS_WITHIN, "the machine has booted", async || {
            said(&machine.run("systemctl is-system-running").await).trim() == "running"
        })
        .await;
        machine
    }

    /// Settings for this machine: what the README writes for HAProxy, and what is quick enough for a test.
    pub(crate) fn settings(&self) -> String {
        format!(
            r#"{proxy}
[status]
listen = "127.0.0.1:{status}"

[services.api]
bind = "127.0.0.1:{port}"
prefer = ["onprem", "cloud"]
ready = {{ interval = "200ms", timeout = "1s" }}
failback = {{ after = "1s", hold_down = "0s", limit = 30 }}

[services.api.servers.api-onprem]
site = "onprem"
address = "onprem.test:{onprem}"

[services.api.servers.api-cloud]
site = "cloud"
address = "127.0.0.1:{cloud}"

[engines.local]
address = "unix://{DOCKER_SOCKET}"

[containers.{container}]
heal = {{ mode = "never" }}
"#,
            proxy = block("toml"),
            status = self.status,
            port = self.port,
            onprem = self.onprem.port,
            cloud = self.cloud.port,
            container = self.container.0,
        )
    }

    /// Installs and starts it with `settings`, by the README's own commands. How long the last one took, which starts it.
    pub(crate) async fn install(&self, settings: &str) -> Duration {
        self.write(&format!("{SOURCES}/supervisor.toml"), settings).await;
        // The image has the package, and the test has the binary.
        let here = |line: &&str| !line.starts_with("apt-get ") && !line.starts_with("cargo ");
        let steps: Vec<&str> = block("sh").lines().filter(here).collect();
        let mut took = Duration::ZERO;
        for step in &steps {
            let begun = Instant::now();
            self.do_so(&format!("cd {SOURCES} && {step}")).await;
            took = begun.elapsed();
        }
        assert!(steps.last().is_some_and(|last| last.starts_with("systemctl enable --now")), "{steps:?}");
        took
    }

    /// [`Machine::install`], and everything is well.
    pub(crate) async fn with_supervisor(test: &str, drop_in: &str) -> Machine {
        let machine = Machine::boot(test).await;
        machine.drop_in(drop_in).await;
        machine.install(&machine.settings()).await;
        machine.until_well().await;
        machine
    }

    /// What `systemctl edit supervisor` makes, for the next start.
    pub(crate) async fn drop_in(&self, text: &str) {
        self.write("/etc/systemd/system/supervisor.service.d/override.conf", text).await;
        self.do_so("systemctl daemon-reload").await;
    }

    /// Replaces the settings, as an editor does.
    pub(crate) async fn set(&self, settings: &str) {
        self.write("/etc/supervisor/supervisor.toml", settings).await;
    }

    /// Puts `text` in the place of a file.
    pub(crate) async fn write(&self, path: &str, text: &str) {
        let new = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(new.path(), text).unwrap();
        let name = Path::new(path);
        self.do_so(&format!("mkdir -p {}", name.parent().unwrap().display())).await;
        docker(&format!("cp {} {}:{path}.new", new.path().display(), self.container.0)).await;
        self.do_so(&format!("mv {path}.new {path}")).await;
    }

    /// Runs a line of shell as root.
    pub(crate) async fn run(&self, line: &str) -> Output {
        let mut command = Command::new("docker");
        command.args(["exec", &self.container.0, "bash", "-ec", line]).kill_on_drop(true);
        let ran = timeout(COMMAND_WITHIN, command.output()).await;
        ran.unwrap_or_else(|_| panic!("`{line}` hangs")).unwrap()
    }

    /// Runs a line that must succeed; what it said on standard output.
    pub(crate) async fn do_so(&self, line: &str) -> String {
        let output = self.run(line).await;
        assert!(output.status.success(), "`{line}` failed: {}{}", said(&output), self.journal().await);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A property of the unit.
    pub(crate) async fn property(&self, name: &str) -> String {
        self.do_so(&format!("systemctl show --property {name} --value supervisor")).await.trim().to_owned()
    }

    /// What the unit, and systemd about it, have logged.
    pub(crate) async fn journal(&self) -> String {
        said(&self.run("journalctl --unit supervisor --output short-precise --no-pager").await)
    }

    /// The daemon's status, by the command line as a person has it.
    pub(crate) async fn view(&self) -> Option<View> {
        // Its exit code is the grade.
        let output = self.run("supervisor status --format json").await;
        serde_json::from_slice::<Value>(&output.stdout)
            .ok()
            .and_then(|view| serde_json::from_value(view).ok())
    }

    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&View) -> bool) {
        lab::until_within(COMMAND_WITHIN, what, async || self.view().await.is_some_and(|view| wanted(&view)))
            .await;
    }

    pub(crate) async fn until_well(&self) {
        self.until("all is well", |view| view.grade == Grade::Well).await;
    }

    pub(crate) async fn until_served_from(&self, site: &str) {
        lab::until(&format!("{site} answers"), async || lab::get(self.port).await.as_deref() == Ok(site))
            .await;
    }

    /// Waits until the journal has `words`.
    pub(crate) async fn until_logged(&self, words: &str) {
        lab::until(&format!("the journal says {words:?}"), async || self.journal().await.contains(words))
            .await;
    }
}

impl Drop for Machine {
    #[expect(clippy::print_stderr, reason = "a failed test shows what the machine logged")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let arguments = ["exec", &self.container.0, "journalctl", "--no-pager", "--lines", "80"];
            if let Ok(journal) = std::process::Command::new("docker").args(arguments).output() {
                eprintln!("the machine's journal:\n{}", said(&journal));
            }
        }
    }
}

/// What a command said.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The block of this kind in the README's section about the service.
fn block(kind: &str) -> &'static str {
    let (_, section) = README.split_once("\n## As a service\n").unwrap();
    let (_, rest) = section.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// Once for all tests; the engine's cache makes it short.
async fn build_image() {
    static BUILT: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    BUILT
        .get_or_init(|| async {
            let mut build = Command::new("docker");
            // The host's network: builds reach the package mirror where the default bridge does not.
            build.args(["build", "--network", "host", "--tag", IMAGE]).arg(format!("{ROOT}/tests/systemd"));
            let built = timeout(BUILT_WITHIN, build.kill_on_drop(true).output()).await;
            let built = built.expect("the image is not built in time").unwrap();
            assert!(built.status.success(), "run `make setup`, which makes the base image: {}", said(&built));
        })
        .await;
}
