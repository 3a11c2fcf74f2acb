//! `supervisor containers`: what is kept running, who ended what, and what is done about it.

use super::Exit;
use super::args::ContainersArgs;
use super::context::Context;
use super::output::wrapped;
use super::table;
use crate::status::{ContainerView, View};

pub(super) async fn run(context: &mut Context, args: &ContainersArgs) -> anyhow::Result<Exit> {
    let view: View = context.client.get("/api/v1/status").await?;
    let shown =
        |container: &&ContainerView| args.container.as_ref().is_none_or(|name| *name == container.name);
    let containers: Vec<&ContainerView> = view.containers.iter().filter(shown).collect();
    if context.is_json() {
        context.output.json(&containers)?;
        return Ok(Exit::Ok);
    }
    context.output.text(&page(&containers, context.output.colour))?;
    Ok(Exit::Ok)
}

/// The table, and a sentence for each that does not simply run, or depends on what it cannot have.
pub(super) fn page(containers: &[&ContainerView], colour: bool) -> String {
    if containers.is_empty() {
        return "no container is looked after; name one as `container` of a server, or as [containers.NAME]\n".to_owned();
    }
    let mut text = table::containers(containers, colour);
    for container in containers {
        if container.phase != "runs" {
            text.push_str(&wrapped("! ", &container.words));
        }
        container.notes.iter().for_each(|note| text.push_str(&wrapped("! ", note)));
    }
    text
}
