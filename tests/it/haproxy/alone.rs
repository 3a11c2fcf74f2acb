//! A test that runs once more in namespaces of its own: what it does to mounts and to the network is for nobody else to see, and gone
//! with it.

use std::process::Command;

/// Set in the run that has the namespaces to itself.
const ALONE: &str = "IN_A_NAMESPACE_OF_ITS_OWN";

/// Whether this is that run. If not, it has been made, and went well.
#[expect(clippy::print_stderr, reason = "a measurement tells its figures")]
pub(crate) fn is_alone(test: &str, kinds: &[&str], prepare: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let run = Command::new("unshare")
        .args(kinds)
        .args(["sh", "-c", &format!("{prepare} && exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && out.contains("1 passed"), "{out}\n{err}");
    eprint!("{err}");
    false
}
