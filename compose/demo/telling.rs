//! The scene about people: one stops on-prem, which is respected; and all are told, though Alertmanager is stopped.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::scenes::{Act, MOVE_DEADLINE, Stage, told};
use crate::support::alerts::{self, Path};
use crate::support::stack::{ALERTMANAGER, CLOUD, ONPREM};
use crate::support::supervisor;

/// `alerts.fallback_after` of compose/supervisor.toml, up to five seconds until mails go out, and the mail's way.
const MAIL_DEADLINE: Duration = Duration::from_secs(30 + 20);

/// Alertmanager starts in a second or two; while it does not answer, supervisor asks every 15 s.
const HANDED_OVER_DEADLINE: Duration = Duration::from_secs(30);

impl Stage {
    /// Stops Alertmanager, then on-prem, and starts them again in this order. Each mail is shown with its path.
    pub(crate) async fn telling(&self) -> Result<Act> {
        let show = self.show;
        let name = "stop".to_owned();
        let mut missing = Vec::new();
        show.scene("and", "stop", "Alertmanager is stopped; then a person stops on-prem, which is respected");

        if let Some(mail) = alerts::owed().await? {
            show.note(&format!("first, Alertmanager mails the end of an earlier fault: {}", mail.subject));
        }
        // So that every mail from here on is about what happens here.
        let known = alerts::until_all_is_told().await?;
        show.typed(&format!("docker stop {ALERTMANAGER}"));
        self.engine.stop(ALERTMANAGER).await?;
        let seen_before = supervisor::last_seq().await.context("supervisor's events cannot be read")?;

        show.typed(&format!("docker stop {}", ONPREM.container));
        let (stopped, at) = (Instant::now(), Timestamp::now());
        self.engine.stop(ONPREM.container).await?;
        let moved = self.first_from(&CLOUD, stopped, MOVE_DEADLINE).await;
        let moved_after = moved.map(|at| at.duration_since(stopped));
        match moved_after {
            Some(after) => show.moved(after, "cloud answers"),
            None => missing.push(format!("{name}: no answer from cloud within {MOVE_DEADLINE:?}")),
        }
        let respected = |event: &supervisor::Event| {
            event.words.starts_with(ONPREM.container) && event.words.contains("was stopped by an operator")
        };
        match told(seen_before, "an operator's stop that is respected", respected).await {
            Ok(words) => show.said(&words),
            Err(error) => missing.push(format!("{name}: {error:#}")),
        }
        match alerts::until_mailed(known, "[FIRING:1]", MAIL_DEADLINE).await {
            Ok(mail) => show.mail(mail.after(at), &mail),
            Err(error) => missing.push(format!("{name}: {error:#}")),
        }
        if self.engine.inspect(ONPREM.container).await?.running {
            missing.push(format!("{name}: supervisor started what a person had stopped"));
        }

        show.typed(&format!("docker start {ALERTMANAGER}"));
        let started = Instant::now();
        self.engine.start(ALERTMANAGER).await?;
        match alerts::until_handed_over(HANDED_OVER_DEADLINE).await {
            Ok(()) => {
                let words =
                    "Alertmanager has it now, marked as mailed by supervisor: it shows it and mails nothing";
                show.at(started.elapsed(), words);
            }
            Err(error) => missing.push(format!("{name}: {error:#}")),
        }

        show.typed(&format!("docker start {}", ONPREM.container));
        let (started, at) = (Instant::now(), Timestamp::now());
        self.engine.start(ONPREM.container).await?;
        match alerts::until_mailed(known, "[RESOLVED]", MAIL_DEADLINE).await {
            Ok(mail) => show.mail(mail.after(at), &mail),
            Err(error) => missing.push(format!("{name}: {error:#}")),
        }
        let back_after = self.returned(&name, started, &mut missing).await;

        let mails = alerts::about_a_pool(known).await?;
        let direct = mails.iter().filter(|mail| mail.path == Path::Supervisor).count();
        show.at(started.elapsed(), &format!("{} mails in all, {direct} of them by supervisor", mails.len()));
        if (mails.len(), direct) != (2, 2) {
            missing.push(format!("{name}: there should be two mails, both by supervisor: {mails:?}"));
        }
        Ok(self.act(name, stopped, moved_after, back_after, missing))
    }
}
