//! `supervisor run`: watch and act, until stopped.

use super::Exit;
use super::args::{Global, RunArgs};
use crate::daemon::{self, Options};
use crate::settings::{Fingerprint, Settings};
use crate::telemetry;

pub(super) fn run(global: &Global, args: &RunArgs) -> anyhow::Result<Exit> {
    // Before the load: a change between the two is then seen as one.
    let loaded_from = Fingerprint::of(&global.config);
    let mut settings = Settings::load(&global.config)?;
    if let Some(socket) = &global.socket {
        settings.control_socket.clone_from(socket);
    }
    telemetry::start(settings.log);
    // Two workers: the loop is one task, and a probe that is slow to parse must not hold it up.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let options = Options { config: global.config.clone(), take_over: args.take_over };
    let ended = runtime.block_on(daemon::run(options, settings, loaded_from));
    // What still blocks (a name server, a disk) must not keep the process; it is gone with it.
    runtime.shutdown_background();
    ended?;
    Ok(Exit::Ok)
}
