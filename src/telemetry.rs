//! The process's log: text for people, JSON on request; one line a transition, nothing while nothing changes.
//!
//! A thread of its own writes. Whoever reads our log (a terminal, journald, a log driver) may hang, and then the loop must
//! not: lines that find no room are counted, and the count is logged when there is room again.

use crate::clock;
use crate::present;
use crate::settings::{LogFormat, LogSettings};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// What libraries may say at most. bollard logs the bodies of requests and answers at `debug`, and with them the
/// environment of containers: secrets. The others only make noise there.
const LIBRARIES: &str = "bollard=info,hyper=info,hyper_util=info,rustls=info,notify=info,reqwest=info";

/// How many lines may wait for a slow reader: a dead site of 1,000 servers says about as many. Some 200 KB.
const LINES_WAITING_MAX: usize = 1024;

/// Starts the log on standard error. Standard output belongs to results.
pub fn start(settings: LogSettings) {
    let filter = EnvFilter::new(format!("{},{LIBRARIES}", settings.level.as_str()));
    let terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Lines::to(io::stderr()));
    // A second start (tests in one process) keeps the first.
    let _ = match settings.format {
        LogFormat::Json => builder.json().flatten_event(true).with_timer(Utc).try_init(),
        LogFormat::Text => builder.with_ansi(false).with_target(false).with_timer(Utc).try_init(),
        LogFormat::Auto => builder.with_ansi(terminal).with_target(false).with_timer(Utc).try_init(),
    };
}

/// Hands lines to the thread that writes them. Never waits.
#[derive(Clone)]
struct Lines {
    waiting: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

/// One line, handed over when it is complete.
struct Line {
    text: Vec<u8>,
    lines: Lines,
}

impl Lines {
    /// Lines to `out`. Where no thread can be started they are all dropped; the process has other worries then.
    fn to(out: impl Write + Send + 'static) -> Lines {
        let (waiting, lines) = sync_channel(LINES_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        // It ends with the process, or when nobody can hand it lines any more.
        let _ = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(out, &lines, &counted));
        Lines { waiting, dropped }
    }
}

fn write_all(mut out: impl Write, lines: &Receiver<Vec<u8>>, dropped: &AtomicU64) {
    while let Ok(line) = lines.recv() {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{lost} log lines were dropped: whoever reads this log did not keep up");
        }
        // A log that cannot be written has nowhere to say so.
        let _ = out.write_all(&line);
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { text: Vec::new(), lines: self.clone() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.lines.waiting.try_send(std::mem::take(&mut self.text)).is_err() {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The same form of time as everywhere else, so that a log line and a journal entry can be laid side by side.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        writer.write_str(&present::time(clock::wall_now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    /// A reader that takes nothing until it is let, then keeps what it gets.
    struct Stuck {
        let_go: Receiver<()>,
        got: SyncSender<String>,
        open: bool,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.open {
                let _ = self.let_go.recv();
                self.open = true;
            }
            let _ = self.got.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_holds_nobody_up_and_says_what_was_lost() {
        let (go, let_go) = channel();
        let (got, lines) = sync_channel(4 * LINES_WAITING_MAX);
        let log = Lines::to(Stuck { let_go, got, open: false });
        let begun = Instant::now();
        for number in 0..2 * LINES_WAITING_MAX {
            writeln!(log.make_writer(), "line {number}").unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "it waited for the reader");
        go.send(()).unwrap();
        let mut text = String::new();
        while !(text.contains("line 0\n") && text.contains("log lines were dropped")) {
            text.push_str(&lines.recv_timeout(Duration::from_secs(5)).unwrap());
        }
    }
}
