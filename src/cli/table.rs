//! Tables for the terminal: servers, containers.

use super::output::WIDTH;
use crate::domain::policy::HealMode;
use crate::domain::time::Span;
use crate::status::{ContainerView, ServerView};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

/// The servers, in lines of at most [`WIDTH`], indented by two.
pub(super) fn servers(servers: &[ServerView], colour: bool) -> String {
    let mut table = plain(colour);
    table.set_header(["SERVER", "SITE", "HEALTH", "FOR", "LAST PROBE", "CONTAINER"]);
    for server in servers {
        let (shade, word) = match server.health.as_str() {
            "up" => (Color::Green, "up"),
            "down" => (Color::Red, "DOWN"),
            other => (Color::Yellow, other),
        };
        let word = match server.admin.as_str() {
            "ready" => word.to_owned(),
            out => format!("{word}, {out}"),
        };
        let lasts = server.since_ms.map_or("-".to_owned(), |ms| Span(ms).to_string());
        table.add_row([
            Cell::new(server.name),
            Cell::new(server.site),
            Cell::new(word).fg(shade).add_attribute(Attribute::Bold),
            Cell::new(lasts),
            Cell::new(server.evidence.as_deref().unwrap_or("none yet")),
            Cell::new(server.container.as_deref().unwrap_or("-")),
        ]);
    }
    indented(&table)
}

/// Containers, in the same form.
pub(super) fn containers(containers: &[&ContainerView], colour: bool) -> String {
    let mut table = plain(colour);
    table.set_header(["CONTAINER", "SITE", "HEAL", "DOCKER", "STANDS", "STARTS"]);
    for container in containers {
        let shade = match container.phase.as_str() {
            "runs" => Color::Green,
            "given_up" | "left" | "gone" => Color::Red,
            _ => Color::Yellow,
        };
        let heal = match container.heal {
            HealMode::Auto => "auto",
            HealMode::Always => "always",
            HealMode::Notify => "notify",
            HealMode::Never => "never",
        };
        table.add_row([
            Cell::new(&container.name),
            Cell::new(container.site.map_or("-".to_owned(), |site| site.to_string())),
            Cell::new(heal),
            Cell::new(&container.status),
            Cell::new(container.phase.replace('_', " ")).fg(shade).add_attribute(Attribute::Bold),
            Cell::new(format!("{}/{}", container.starts, container.starts_max)),
        ]);
    }
    indented(&table)
}

/// Texts beside each other, wrapped, in lines of at most [`WIDTH`]. The first column is as wide as it needs to be, the others
/// share the rest.
pub(super) fn side_by_side<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
) -> String {
    let mut table = plain(false);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    indented(&table)
}

fn plain(colour: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(WIDTH - 2).unwrap_or(u16::MAX));
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

fn indented(table: &Table) -> String {
    table.lines().fold(String::new(), |text, line| text + format!(" {line}").trim_end() + "\n")
}
