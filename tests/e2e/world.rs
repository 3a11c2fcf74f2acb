//! What each test begins with and ends with.

use std::fmt;
use std::time::Duration;

use anyhow::Result;

use crate::support::docker::Engine;
use crate::support::load::{Load, Plan};
use crate::support::measure::Record;
use crate::support::{guard, stack};

/// The tests wait for each other, and for a demo that somebody runs.
const TURN_DEADLINE: Duration = Duration::from_secs(300);

/// A stack that does not become whole by then is broken.
pub(crate) const WHOLE_DEADLINE: Duration = Duration::from_secs(60);

/// What of the stack a test needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// The servers and HAProxy.
    Servers,
    /// Everything, with on-prem serving.
    Everything,
}

/// How a test fails: the whole chain of causes, in words and without a backtrace of the runtime.
pub(crate) struct Failed(String);

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs `body` on the whole stack, alone, for at most `deadline`, and makes the stack whole again.
pub(crate) fn on_stack<F>(
    needs: Needs,
    deadline: Duration,
    body: impl FnOnce(Engine) -> F,
) -> Result<(), Failed>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    take_the_stack(needs, deadline, body).map_err(|error| Failed(format!("{error:#}")))
}

fn take_the_stack<F>(needs: Needs, deadline: Duration, body: impl FnOnce(Engine) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let engine = Engine::connect()?;
        let _lease = stack::lease(TURN_DEADLINE).await?;
        stack::require_up(&engine).await?;
        whole(needs, &engine).await?;
        guard::run(deadline, body(engine.clone()), whole(needs, &engine)).await
    })
}

async fn whole(needs: Needs, engine: &Engine) -> Result<()> {
    match needs {
        Needs::Servers => stack::mend_servers(engine).await,
        Needs::Everything => {
            stack::put_right(engine, WHOLE_DEADLINE).await?;
            stack::until_onprem_serves(WHOLE_DEADLINE).await
        }
    }
}

/// The usual traffic, for at most two minutes.
pub(crate) fn traffic() -> Result<Load> {
    Load::start(Plan::new(stack::TRAFFIC_URL, Duration::from_secs(120)))
}

/// The records that failed, shown with why; the assertion that there is none prints them.
pub(crate) fn failures(records: &[Record]) -> Vec<&Record> {
    records.iter().filter(|record| record.site().is_none()).collect()
}
