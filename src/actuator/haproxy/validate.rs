//! Asks HAProxy's own binary whether it would take a configuration.
//!
//! It must be the binary that will load it, in the place where it will run: paths, certificates and features differ. On
//! the host that is [`LocalBinary`]; in a container somebody else runs it there and implements [`Validate`].

use futures_util::future::BoxFuture;
use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// How long a check may take. Thousands of backends take under a second; names that do not resolve take longer.
const CHECK_DEADLINE: Duration = Duration::from_secs(20);

/// How much of HAProxy's complaint is kept. The first lines matter; later ones follow from them.
const MESSAGE_MAX: u64 = 16 << 10;

/// What HAProxy passes to itself in its environment: with these inherited, a check would take itself for a worker of a
/// running HAProxy. `NOTIFY_SOCKET` would make it report our readiness.
const NOT_FOR_CHILDREN: [&str; 6] = [
    "HAPROXY_STARTUPLOGS_FD",
    "HAPROXY_MWORKER_WAIT_ONLY",
    "HAPROXY_MWORKER_REEXEC",
    "HAPROXY_PROCESSES",
    "HAPROXY_LOAD_SUCCESS",
    "NOTIFY_SOCKET",
];

/// HAProxy's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validation {
    /// It would load it.
    Accepted {
        /// What it warns of; empty if of nothing.
        warnings: String,
    },
    /// It would not.
    Refused {
        /// Its reasons.
        message: String,
    },
}

impl Validation {
    /// What `haproxy -c` says by its exit and its words: `[ALERT]` lines are why not, `[WARNING]` lines what to mend.
    pub fn of(accepted: bool, said: &str) -> Validation {
        let of = |kinds: &[&str]| {
            let lines: Vec<Cow<'_, str>> = said
                .lines()
                .filter(|line| kinds.iter().any(|kind| line.starts_with(kind)))
                .map(without_process)
                .collect();
            lines.join("\n")
        };
        if accepted {
            return Validation::Accepted { warnings: of(&["[WARNING]"]) };
        }
        let alerts = of(&["[ALERT]", "[WARNING]"]);
        Validation::Refused { message: if alerts.is_empty() { said.trim().to_owned() } else { alerts } }
    }
}

/// `[ALERT]    (4711) : config : …` without the process id: it differs at each check, and the same complaint would pass for
/// a new one.
fn without_process(line: &str) -> Cow<'_, str> {
    let parts = line.split_once(']').and_then(|(kind, rest)| {
        let (pid, words) = rest.trim_start().strip_prefix('(')?.split_once(") : ")?;
        pid.bytes().all(|byte| byte.is_ascii_digit()).then_some((kind, words))
    });
    parts.map_or(Cow::Borrowed(line), |(kind, words)| Cow::Owned(format!("{kind}] {words}")))
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
#[error("cannot check the configuration with {with}")]
pub struct ValidateError {
    /// The binary or the container.
    pub with: String,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Whoever can run the target's HAProxy with `-c`.
pub trait Validate: Send + Sync {
    /// The verdict about `candidate`, a file beside the configuration. The path is ours; a container may know its
    /// directory by another name.
    fn validate<'a>(&'a self, candidate: &'a Path) -> BoxFuture<'a, Result<Validation, ValidateError>>;

    /// The verdict about `text`, of which nothing is left beside the configuration: for those who only look.
    fn validate_text<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Validation, ValidateError>>;
}

/// HAProxy's binary on this machine.
#[derive(Debug, Clone)]
pub struct LocalBinary(pub PathBuf);

impl Validate for LocalBinary {
    fn validate<'a>(&'a self, candidate: &'a Path) -> BoxFuture<'a, Result<Validation, ValidateError>> {
        Box::pin(async move {
            let failed = |source| ValidateError { with: self.0.display().to_string(), source };
            // Dropping the future kills the child.
            match tokio::time::timeout(CHECK_DEADLINE, self.run(candidate)).await {
                Ok(result) => result.map_err(|error| failed(error.into())),
                Err(_) => Err(failed(format!("no verdict within {CHECK_DEADLINE:?}").into())),
            }
        })
    }

    fn validate_text<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Validation, ValidateError>> {
        Box::pin(async move {
            let failed = |source: std::io::Error| ValidateError {
                with: self.0.display().to_string(),
                source: source.into(),
            };
            let text = text.to_owned();
            let written = tokio::task::spawn_blocking(move || {
                let mut file = tempfile::NamedTempFile::new()?;
                file.write_all(text.as_bytes())?;
                Ok(file)
            });
            let file =
                written.await.map_err(std::io::Error::other).and_then(|written| written).map_err(failed)?;
            // People know nothing of that file.
            let named = |said: String| said.replace(&*file.path().to_string_lossy(), "haproxy.cfg");
            Ok(match self.validate(file.path()).await? {
                Validation::Accepted { warnings } => Validation::Accepted { warnings: named(warnings) },
                Validation::Refused { message } => Validation::Refused { message: named(message) },
            })
        })
    }
}

impl LocalBinary {
    async fn run(&self, candidate: &Path) -> std::io::Result<Validation> {
        let mut command = Command::new(&self.0);
        command.arg("-c").arg("-f").arg(candidate).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        for name in NOT_FOR_CHILDREN {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let mut said = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            stderr.take(MESSAGE_MAX).read_to_end(&mut said).await?;
        }
        let status = child.wait().await?;
        Ok(Validation::of(status.success(), &String::from_utf8_lossy(&said)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_complaint_has_the_same_words_whoever_checked() {
        let said = |pid: u32| {
            format!(
                "[NOTICE]   ({pid}) : haproxy version is 2.6.12\n\
                 [ALERT]    ({pid}) : config : parsing [haproxy.cfg:17] : 'timeout' (got 'x')\n\
                 [WARNING]  ({pid}) : config : (of no kind) : y\n"
            )
        };
        let words = "[ALERT] config : parsing [haproxy.cfg:17] : 'timeout' (got 'x')\n\
                     [WARNING] config : (of no kind) : y";
        for pid in [7, 4711] {
            assert_eq!(Validation::of(false, &said(pid)), Validation::Refused { message: words.to_owned() });
        }
        let odd = "[ALERT] (x) : y";
        assert_eq!(Validation::of(false, odd), Validation::Refused { message: odd.to_owned() });
    }
}
