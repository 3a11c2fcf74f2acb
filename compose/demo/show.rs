//! How it is told: plain lines of at most 80 columns, colour only on a terminal, nothing that moves.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use crate::scenes::Act;
use crate::support::alerts::Mail;
use crate::support::stack::{ALERTMANAGER_URL, CLOUD, FRONT_URL, ONPREM, PROMETHEUS_URL, SUPERVISOR_URL};

/// Where the text of a scene begins: under the times, which are as wide as "+12,345 ms".
const INDENT: usize = 12;

/// The width of an old terminal, and of half a new one.
const COLUMNS: usize = 80;

/// Where and how to print.
#[derive(Clone, Copy)]
pub(crate) struct Show {
    colour: bool,
}

#[derive(Clone, Copy)]
enum Tone {
    Plain,
    Bold,
    Faint,
    Good,
    Bad,
}

impl Show {
    /// Standard output; in colour when it is a terminal and `NO_COLOR` does not object.
    pub(crate) fn on_stdout() -> Self {
        let objected = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: std::io::stdout().is_terminal() && !objected }
    }

    /// What is about to be shown.
    pub(crate) fn opening(self) {
        self.line(Tone::Bold, "supervisor: what happens when a site breaks");
        self.paragraph(
            0,
            Tone::Plain,
            &format!(
                "Clients ask HAProxy ({FRONT_URL}/items) 200 times a second and give each request 2 s. The API \
                 runs at two sites: on-prem serves, cloud stands by. On-prem is now broken in five ways and mended \
                 again. Then a person stops it while Alertmanager is stopped too, and people are told all the same. \
                 Times count from the fault, then from its mending."
            ),
        );
    }

    /// A scene begins.
    pub(crate) fn scene(self, number: &str, name: &str, words: &str) {
        self.line(Tone::Plain, "");
        self.line(Tone::Bold, &format!("{number:<w$}{}", name.to_uppercase(), w = INDENT));
        self.paragraph(INDENT, Tone::Plain, words);
    }

    /// What else is to be known.
    pub(crate) fn note(self, words: &str) {
        self.paragraph(INDENT, Tone::Plain, words);
    }

    /// A command that does the same.
    pub(crate) fn typed(self, command: &str) {
        // Not wrapped: it is there to be copied.
        self.line(Tone::Faint, &format!("{:w$}$ {command}", "", w = INDENT));
    }

    /// What a command printed.
    pub(crate) fn printed(self, output: &str) {
        for line in output.lines() {
            self.line(Tone::Plain, &format!("{:w$}{line}", "", w = INDENT));
        }
    }

    /// Something happened, this long after the fault, the mending or the order.
    pub(crate) fn at(self, after: Duration, what: &str) {
        self.hanging(&format!("+{}", duration(after)), what, Tone::Plain);
    }

    /// What was waited for happened: the line to look for.
    pub(crate) fn moved(self, after: Duration, what: &str) {
        self.hanging(&format!("+{}", duration(after)), what, Tone::Good);
    }

    /// A mail arrived, this long after what it is about; in milliseconds, as it is counted by the box.
    pub(crate) fn mail(self, after: Duration, mail: &Mail) {
        let words = format!("mail, through {}: {}", mail.path, mail.subject);
        self.hanging(&format!("+{} ms", after.as_millis()), &words, Tone::Good);
    }

    /// Supervisor's words.
    pub(crate) fn said(self, words: &str) {
        self.hanging("supervisor", words, Tone::Plain);
    }

    /// All scenes side by side.
    pub(crate) fn summary(self, acts: &[Act], sent: usize, lost: usize) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_header(["", "cloud after", "silence", "sent", "failed", "back after"]);
        let shown = |time: Option<Duration>| time.map_or_else(|| "never".to_owned(), duration);
        for act in acts {
            table.add_row([
                act.name.clone(),
                shown(act.moved_after),
                duration(act.silence),
                act.sent.to_string(),
                act.failed.to_string(),
                shown(act.back_after),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self.line(Tone::Plain, &format!("\n{table}"));
        let all = format!("{sent} requests in all, {lost} failed.");
        self.line(if lost == 0 { Tone::Good } else { Tone::Bad }, &all);
    }

    /// Where things are and what to do next.
    pub(crate) fn closing(self) {
        let lines = [
            "",
            "The stack keeps running:",
            &format!("  the service    {FRONT_URL}/"),
            &format!("  on-prem        {}/", ONPREM.url),
            &format!("  cloud          {}/", CLOUD.url),
            &format!("  supervisor     {SUPERVISOR_URL}/, /api/v1/status, /metrics"),
            &format!("  Prometheus     {PROMETHEUS_URL}/alerts"),
            &format!("  Alertmanager   {ALERTMANAGER_URL}/"),
            "  mails          make mail",
            "Try:",
            "  docker exec supervisor supervisor status",
            "  docker exec supervisor supervisor explain api",
            "  docker exec supervisor supervisor events --follow",
            "  docker pause api-onprem; curl -i http://127.0.0.1:8080/",
            "  make bench-failover",
            "Remove it with",
            "  make demo-down",
        ];
        for line in lines {
            self.line(Tone::Plain, line);
        }
    }

    /// What did not happen.
    pub(crate) fn missing(self, what: &[String]) {
        self.line(Tone::Bad, "\nNot everything happened as it should:");
        for line in what {
            self.paragraph(2, Tone::Bad, line);
        }
    }

    fn hanging(self, head: &str, text: &str, tone: Tone) {
        for (n, line) in wrapped(text, COLUMNS - INDENT).into_iter().enumerate() {
            let head = if n == 0 { head } else { "" };
            self.line(tone, &format!("{head:<w$}{line}", w = INDENT));
        }
    }

    fn paragraph(self, indent: usize, tone: Tone, text: &str) {
        for line in wrapped(text, COLUMNS - indent) {
            self.line(tone, &format!("{:indent$}{line}", ""));
        }
    }

    /// A closed pipe is no reason to leave something broken: the demo goes on to its end.
    fn line(self, tone: Tone, text: &str) {
        let code = match tone {
            Tone::Plain => "",
            Tone::Bold => "\x1b[1m",
            Tone::Faint => "\x1b[2m",
            Tone::Good => "\x1b[32m",
            Tone::Bad => "\x1b[31m",
        };
        let mut out = std::io::stdout().lock();
        let _ = if self.colour && !code.is_empty() {
            writeln!(out, "{code}{text}\x1b[0m")
        } else {
            writeln!(out, "{}", text.trim_end_matches(' '))
        };
        let _ = out.flush();
    }
}

/// Milliseconds while they say something, seconds after that.
fn duration(time: Duration) -> String {
    let ms = time.as_millis();
    if ms < 1_000 { format!("{ms} ms") } else { format!("{:.1} s", time.as_secs_f64()) }
}

/// Lines of at most `width` characters, broken at spaces; a longer word stays whole.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines
            .last_mut()
            .filter(|line| line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}
