//! A Docker engine of a test's own, which may be stopped, killed and frozen.
//!
//! It lives in namespaces of its own (processes, mounts, network), whose first process reads from a pipe that the test
//! holds: when the test ends, however it ends, the pipe closes, and the kernel takes the engine, its containerd, its
//! containers and its mounts along. Its data is in memory, its `/run` is its own, and it makes no network.

use crate::haproxy::lab::{until, until_within};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::process::Command as Async;
use tokio::time::timeout;

/// An image with a shell, `sleep` and what they load, of this machine's own: a hundredth of the base image.
const MAKE_IMAGE: &str = r#"
mkdir -p image/bin && cd image
for program in /bin/sh /bin/sleep; do
    cp -L "$program" bin/
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p ".${library%/*}" && cp -L "$library" ".$library"
    done
done
for way in obeys:0 grumbles:1; do
    printf '#!/bin/sh\ntrap "exit %s" TERM\nsleep 1000 &\nwait\n' "${way#*:}" >"bin/${way%:*}"
done
printf '#!/bin/sh\nexit 3\n' >bin/fails
cat >bin/eats <<'END'
#!/bin/sh
[ -e /fed ] && exec sleep 1000
: >/fed
# What kills a container's first process may take the news along with the container (cgroup v1): so a child is killed.
(food=a; while :; do food=$food$food; done)
sleep 1
exit 137
END
chmod +x bin/*
tar -c . | docker import - tiny
"#;

/// Ends at TERM with exit code 0.
pub(crate) const OBEYS: &str = "obeys";

/// As a first process it ignores TERM.
pub(crate) const IGNORES: &str = "sleep 1000";

/// How long its start may take: it answers after it has ended what its predecessor left, which takes a stop's time.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Second {
    dir: tempfile::TempDir,
    /// The namespaces: `unshare`, which waits for their first process.
    namespaces: Child,
    /// Their first process, which ends when its input does.
    init: u32,
    /// `nsenter`, which waits for dockerd.
    engine: Option<Child>,
    /// The cgroup of its containers.
    cgroup: String,
    /// A program with its arguments that ends by becoming dockerd.
    wrapper: &'static [&'static str],
}

impl Second {
    pub(crate) async fn start() -> Second {
        Second::start_under(&[]).await
    }

    pub(crate) async fn start_under(wrapper: &'static [&'static str]) -> Second {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let cgroup = format!("second-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::SeqCst));
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("engine")).unwrap();
        // Whatever /etc/docker/daemon.json says is for the machine's own engine.
        std::fs::write(dir.path().join("daemon.json"), "{}").unwrap();
        // Bash, because it reaps the orphans that a first process inherits.
        let init = "mount -t tmpfs run /run && mount -t tmpfs engine \"$1/engine\" && touch \"$1/ready\" && read -r _";
        let namespaces = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--fork", "--mount-proc", "bash", "-c", init, "init"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut second = Second { dir, namespaces, init: 0, engine: None, cgroup, wrapper };
        until("the namespaces are there", async || second.path("ready").exists()).await;
        let unshare = second.namespaces.id();
        let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
        second.init = children.trim().parse().unwrap();
        second.start_engine().await;
        let image = Async::new("bash")
            .args(["-euo", "pipefail", "-c", MAKE_IMAGE])
            .current_dir(second.dir.path())
            .env("DOCKER_HOST", second.address())
            .output();
        let image = timeout(Duration::from_secs(30), image).await.expect("the import hangs").unwrap();
        assert!(image.status.success(), "{}", String::from_utf8_lossy(&image.stderr));
        second
    }

    /// A place that its containers may mount.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As the settings have it.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    /// Starts dockerd, and waits until it answers. Says how long that took.
    pub(crate) async fn start_engine(&mut self) -> Duration {
        let begun = Instant::now();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let root = |name: &str| self.path("engine").join(name);
        let engine = self
            .inside()
            .args(self.wrapper)
            .arg("dockerd")
            .arg("--config-file")
            .arg(self.path("daemon.json"))
            .args(["--host", &self.address()])
            .arg("--data-root")
            .arg(root("data"))
            .arg("--exec-root")
            .arg(root("exec"))
            .arg("--pidfile")
            .arg(root("pid"))
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
            .args(["--storage-driver", "vfs", "--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--cgroup-parent", &format!("/{}", self.cgroup)])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.engine = Some(engine);
        let address = self.address();
        until_within(STARTS_WITHIN, "the second engine answers", async || {
            let ended = self.engine.as_mut().is_none_or(|engine| engine.try_wait().unwrap().is_some());
            assert!(
                !ended,
                "dockerd ended; these tests need root and dockerd (`make setup`):\n{}",
                self.log()
            );
            let asked = Async::new("docker").args(["--host", &address, "version"]).output().await;
            asked.is_ok_and(|asked| asked.status.success())
        })
        .await;
        begun.elapsed()
    }

    /// What comes behind it runs in the namespaces.
    fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--mount", "--pid", "--net"]);
        command
    }

    /// Sends dockerd `signal`; its containerd and its containers get none.
    pub(crate) fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} \"$(cat '{}')\"", self.path("engine/pid").display());
        assert!(self.inside().args(["sh", "-c", &kill]).status().unwrap().success(), "{kill}");
        // nsenter stops together with what it waits for, and must be woken together with it.
        if signal == "CONT" {
            let engine = self.engine.as_ref().unwrap().id().to_string();
            assert!(Command::new("kill").args(["-CONT", &engine]).status().unwrap().success());
        }
    }

    /// Ends dockerd by `signal`, and waits until it is gone.
    pub(crate) async fn end(&mut self, signal: &str) {
        self.signal(signal);
        let mut engine = self.engine.take().unwrap();
        until_within(STARTS_WITHIN, "dockerd has ended", async || engine.try_wait().unwrap().is_some()).await;
    }

    pub(crate) fn command(&self, arguments: &str) -> Async {
        let mut command = Async::new("docker");
        command.args(["--host", &self.address()]).args(arguments.split_whitespace()).kill_on_drop(true);
        command
    }

    pub(crate) async fn docker(&self, arguments: &str) -> String {
        let ran = timeout(STARTS_WITHIN, self.command(arguments).output()).await;
        let ran = ran.unwrap_or_else(|_| panic!("`docker {arguments}` hangs")).unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "`docker {arguments}` on the second engine: {said}");
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    /// Runs `command` in a new container.
    pub(crate) async fn create(&self, name: &str, options: &str, command: &str) {
        self.docker(&format!(
            "run -d --network none --stop-timeout 1 --name {name} {options} tiny {command}"
        ))
        .await;
    }

    /// Ends its process, as a bug would: without Docker, which may be stopped.
    pub(crate) fn crash(&self, pid: &str) {
        assert!(self.inside().args(["sh", "-c", &format!("kill -9 {pid}")]).status().unwrap().success());
    }

    /// Its process, as the engine sees it.
    pub(crate) async fn pid(&self, name: &str) -> String {
        self.docker(&format!("inspect -f {{{{.State.Pid}}}} {name}")).await
    }

    /// Whether the engine remembers to have announced `event` of the container.
    pub(crate) async fn announced(&self, event: &str, name: &str) -> bool {
        let filters = format!("--filter event={event} --filter container={name}");
        !self.docker(&format!("events --since 0 --until 0s {filters}")).await.is_empty()
    }

    pub(crate) async fn runs(&self, name: &str) -> bool {
        self.docker(&format!("inspect -f {{{{.State.Running}}}} {name}")).await == "true"
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().filter(|line| !line.contains("level=info")).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "the second engine's log:\n{}", self.log());
        }
        // Its first process ends, and everything with it.
        drop(self.namespaces.stdin.take());
        let _ = self.namespaces.wait();
        if let Some(mut engine) = self.engine.take() {
            // nsenter may still be stopped; it has nothing left to wait for.
            let _ = engine.kill();
            let _ = engine.wait();
        }
        let cgroups = format!("*/{}*", self.cgroup);
        let _ = Command::new("find")
            .args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path", &cgroups, "-exec", "rmdir", "{}", ";"])
            .stderr(Stdio::null())
            .status();
    }
}
