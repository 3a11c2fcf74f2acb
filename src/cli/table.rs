//! The table of a service's servers.

use super::output::WIDTH;
use crate::domain::time::Span;
use crate::status::ServerView;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

/// The servers, in lines of at most [`WIDTH`], indented by two.
pub(super) fn servers(servers: &[ServerView], colour: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(WIDTH - 2).unwrap_or(u16::MAX));
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(["SERVER", "SITE", "HEALTH", "FOR", "LAST PROBE", "CONTAINER"]);
    for server in servers {
        let (shade, word) = match server.health.as_str() {
            "up" => (Color::Green, "up"),
            "down" => (Color::Red, "DOWN"),
            other => (Color::Yellow, other),
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
    table.lines().fold(String::new(), |text, line| text + format!(" {line}").trim_end() + "\n")
}
