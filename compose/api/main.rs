//! The demo API: a small real REST service that the demo, the bench and the tests break on purpose.
//!
//! It stands for the service that `supervisor` keeps reachable: items in a store of its own, `/health` that
//! tests that store, `/live` that does not. What a real service lacks are the switches of [`faults`], one for
//! each way to be sick, and [`executed`], by which a request that was done twice is seen.
//!
//! It runs as PID 1 of a container without an init. The kernel delivers no signal to PID 1 that it does not
//! handle itself, so SIGTERM and SIGINT are handled here and end the process within [`DRAIN`].

mod executed;
mod faults;
mod metrics;
mod routes;
mod store;
#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::routes::App;
use crate::store::Store;

/// How long answers under way may take after SIGTERM. Ordinary ones need milliseconds; a fault that hangs must
/// not hold the process for Docker's ten seconds.
const DRAIN: Duration = Duration::from_secs(1);

/// Threads that wait for SQLite. They take turns at one connection, so more would only queue elsewhere.
const STORE_THREADS: usize = 4;

/// A small REST service that can be made sick on request.
#[derive(Debug, Parser)]
#[command(name = "demo-api", version)]
struct Args {
    /// The site's name: the first word of `/` and the header `X-Site` of every answer.
    #[arg(long, env = "DEMO_API_SITE", value_parser = routes::site_name)]
    site: String,

    /// The address to listen on.
    #[arg(long, env = "DEMO_API_LISTEN", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,

    /// The directory of the store; it must exist.
    #[arg(long, env = "DEMO_API_DATA")]
    data: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(STORE_THREADS)
        .build()
        .context("start the runtime")?;
    let outcome = runtime.block_on(run(args));
    // Work that still waits for the disk must not delay the end of the process.
    runtime.shutdown_background();
    outcome
}

async fn run(args: Args) -> anyhow::Result<()> {
    // The handlers stand before the port is open: whoever can reach the service can also stop it.
    let terminate = signal(SignalKind::terminate()).context("handle SIGTERM")?;
    let interrupt = signal(SignalKind::interrupt()).context("handle SIGINT")?;
    let store = Store::open(&args.data)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listen on {}: choose another address with --listen", args.listen))?;
    tracing::info!(site = args.site, listen = %listener.local_addr()?, "serving");

    let stop = CancellationToken::new();
    let server = axum::serve(listener, routes::router(App::new(args.site, store)))
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    // Dropping the server at the end of the drain cuts the answers that are still under way: that is the intent.
    tokio::select! {
        ended = server.into_future() => ended.context("serve")?,
        () = stop_and_drain(terminate, interrupt, stop) => tracing::warn!("ended with answers under way"),
    }
    Ok(())
}

async fn stop_and_drain(mut terminate: Signal, mut interrupt: Signal, stop: CancellationToken) {
    // Both receivers may be cancelled safely: a signal that is lost here would only have said the same.
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
    }
    stop.cancel();
    tokio::time::sleep(DRAIN).await;
}
