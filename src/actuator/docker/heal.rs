//! Starting and restarting a container: a guarded action, done at most once.
//!
//! It is looked at just before: another container of the same name, one that somebody else has started or stopped, or one
//! that Docker is about to start is left alone, and so is one that the core no longer wants healed.

use super::engine::{Engine, EngineError};
use super::translate;
use crate::chain::chain;
use crate::domain::action::{Deed, Heal, Outcome};
use crate::domain::event::ContainerStatus;
use bollard::errors::Error as Cause;
use bollard::query_parameters::RestartContainerOptionsBuilder;
use std::time::Duration;
use tokio::time::timeout;

/// How long a start may take. Docker answers when the process runs: a quarter of a second, with a large image on a busy
/// disk tens of seconds.
const START_WITHIN: Duration = Duration::from_secs(60);

impl Engine {
    /// Does `heal`, unless the container is no longer as it was when that was decided, or `wanted` says that it is not
    /// wanted any more. Cancelling it leaves the engine to finish what it has begun.
    pub async fn heal(&self, heal: &Heal, wanted: impl Fn() -> bool) -> Outcome {
        let within = START_WITHIN
            + match heal.deed {
                Deed::Start => Duration::ZERO,
                Deed::Restart { stop_timeout } => stop_timeout.duration(),
            };
        match self.precondition(heal).await {
            Ok(true) if wanted() => {}
            Ok(_) => return Outcome::Superseded,
            Err(error) => return Outcome::NotBegun(chain(&error)),
        }
        let began = async {
            // bollard counts whole seconds and covers the answer's head only; ours comes first.
            let docker = self.connect_for(within.as_secs() + 5).await?;
            let done = match heal.deed {
                Deed::Start => docker.start_container(&heal.container_id, None).await,
                Deed::Restart { stop_timeout } => {
                    let seconds = i32::try_from(stop_timeout.0.div_ceil(1000)).unwrap_or(i32::MAX);
                    let options = RestartContainerOptionsBuilder::new().t(seconds).build();
                    docker.restart_container(&heal.container_id, Some(options)).await
                }
            };
            done.map_err(|source| self.error("a start", source))
        };
        match timeout(within, began).await {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(EngineError::Failed {
                source: Cause::DockerResponseServerError { status_code: 404, .. },
                ..
            })) => Outcome::Superseded,
            Ok(Err(error)) => Outcome::Failed(chain(&error)),
            Err(_) => {
                let late = EngineError::Late { address: self.address.clone(), call: "a start", within };
                Outcome::Unknown(late.to_string())
            }
        }
    }

    /// Whether the container is still as it was when `heal` was decided.
    async fn precondition(&self, heal: &Heal) -> Result<bool, EngineError> {
        let docker = self.connect().await?;
        let found = match self.call("an inspect", docker.inspect_container(&heal.container_id, None)).await {
            Err(EngineError::Failed {
                source: Cause::DockerResponseServerError { status_code: 404, .. },
                ..
            }) => return Ok(false),
            found => found?,
        };
        let status = found.state.as_ref().map_or(ContainerStatus::Unknown, translate::status);
        Ok(match heal.deed {
            Deed::Start => matches!(status, ContainerStatus::Exited { .. } | ContainerStatus::Created),
            Deed::Restart { .. } => status == ContainerStatus::Running,
        })
    }
}
