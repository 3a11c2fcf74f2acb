//! `supervisor events`: what happened, and with `--follow` what happens.

use super::Exit;
use super::args::EventsArgs;
use super::context::Context;
use super::output::wrapped;
use crate::control::{Client, ClientError};
use crate::present::Level;
use crate::status::{EventLine, EventList};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The first wait before the daemon is asked again; doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(200);

/// The longest of those waits.
const RETRY_LONGEST: Duration = Duration::from_secs(3);

/// How long a daemon that went away is waited for: longer than a restart or an upgrade takes.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// As many as one answer has.
const CATCH_UP: usize = 1_000;

pub(super) async fn run(context: &mut Context, args: &EventsArgs) -> anyhow::Result<Exit> {
    if args.follow {
        return follow(context, usize::from(args.limit)).await;
    }
    if args.limit > 0 {
        let list: EventList = context.client.get(&format!("/api/v1/events?limit={}", args.limit)).await?;
        for line in &list.events {
            show(context, line)?;
        }
    }
    Ok(Exit::Ok)
}

/// Where a follower is: everything up to here was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position(u64, u32);

/// Somebody who follows.
#[derive(Debug)]
struct Follower {
    client: Client,
    limit: usize,
    shown: Option<Position>,
    /// The daemon was there at least once.
    met: bool,
    /// Since when it has been away.
    away: Option<Instant>,
}

/// Shows each event once and in order, also across a restart of the daemon and after being too slow.
async fn follow(context: &mut Context, limit: usize) -> anyhow::Result<Exit> {
    let client = context.client.clone();
    let mut follower = Follower { client, limit, shown: None, met: false, away: None };
    let mut wait = RETRY_FIRST;
    loop {
        let ended = follower.session(context).await;
        let since = *follower.away.get_or_insert_with(|| {
            wait = RETRY_FIRST;
            Instant::now()
        });
        // Nobody there from the beginning is a mistake to be told; somebody who went away is waited for.
        if let Err(error) = ended
            && (!follower.met || !error.is::<ClientError>() || since.elapsed() > AWAY_MAX)
        {
            return Err(error);
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY_LONGEST);
    }
}

impl Follower {
    /// One stream, to its end.
    async fn session(&mut self, context: &mut Context) -> anyhow::Result<()> {
        // First the stream, then the past: what comes in between is in both, and shown once.
        let mut stream = self.client.stream("/api/v1/events/stream").await?;
        self.catch_up(context).await?;
        (self.met, self.away) = (true, None);
        while let Some(message) = stream.next().await? {
            if message.event == "gap" {
                self.catch_up(context).await?;
                continue;
            }
            let parsed = serde_json::from_str(&message.data);
            let line: EventLine = parsed.map_err(|source| ClientError::Foreign { source })?;
            self.show_new(context, &line)?;
        }
        Ok(())
    }

    /// Shows what the journal has after the last line shown; at the beginning the last `limit`.
    async fn catch_up(&mut self, context: &mut Context) -> anyhow::Result<()> {
        let Some(Position(mut after, _)) = self.shown else {
            let path = format!("/api/v1/events?limit={}", self.limit.max(1));
            let list: EventList = self.client.get(&path).await?;
            if self.limit == 0 {
                // Without a wish for the past, its end is only where to go on from.
                self.shown = list.events.last().map(position);
            } else {
                list.events.iter().try_for_each(|line| self.show_new(context, line))?;
            }
            return Ok(());
        };
        loop {
            // One decision may have been shown in part: it is asked for again, and its rest is shown.
            let path = format!("/api/v1/events?limit={CATCH_UP}&after={}", after.saturating_sub(1));
            let list: EventList = self.client.get(&path).await?;
            list.events.iter().try_for_each(|line| self.show_new(context, line))?;
            match list.events.last() {
                Some(last) if list.events.len() == CATCH_UP && last.seq > after => after = last.seq,
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn show_new(&mut self, context: &mut Context, line: &EventLine) -> anyhow::Result<()> {
        if self.shown.is_none_or(|shown| position(line) > shown) {
            show(context, line)?;
            self.shown = Some(position(line));
        }
        Ok(())
    }
}

fn position(line: &EventLine) -> Position {
    Position(line.seq, line.index)
}

fn show(context: &mut Context, line: &EventLine) -> anyhow::Result<()> {
    if context.is_json() {
        return context.output.json(line);
    }
    Ok(context.output.text(&human(line, ""))?)
}

/// "2026-08-21T08:15:02.123Z ! api: traffic moves …": the mark says that it was worth waking someone.
pub(super) fn human(line: &EventLine, indent: &str) -> String {
    let mark = match line.level {
        Level::Warn => '!',
        Level::Info | Level::Debug => ' ',
    };
    wrapped(&format!("{indent}{} {mark} ", line.at), &line.words)
}
