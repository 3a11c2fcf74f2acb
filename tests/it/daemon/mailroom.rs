//! What the tests of mails stand on: the settings that lead to a relay, and a state directory in which a mail is overdue, so
//! that no test has to wait for an incident to grow old.

use super::scripted::Relay;
use super::world::{Daemon, World};
use crate::haproxy::lab::{free_port, until_within};
use rustix::process::Signal;
use std::path::Path;
use std::time::Duration;
use supervisor::domain::delivery::{Mail, MailKind};
use supervisor::domain::incident::Trouble;
use supervisor::status::{IncidentView, MailList, MailView};
use supervisor::store::{OutboxRow, Reader};
use tokio::sync::OnceCell;

/// The service whose only server is down. It has no part in traffic: a mail about it leaves the others alone.
pub(super) const SHOP: &str = "shop";

/// From the start of a daemon to a mail at a relay that works, on a machine that builds as well.
const LONGEST: Duration = Duration::from_secs(30);

/// The service `shop`, whose only server would be at `port`.
pub(super) fn shop(port: u16) -> String {
    format!(
        "\n[services.{SHOP}]\nbind = \"127.0.0.1:{}\"\nprefer = [\"onprem\"]\n\
         ready = {{ path = \"/health\", interval = \"1s\", timeout = \"250ms\", fast_interval = \"20ms\" }}\n\
         [services.{SHOP}.servers.{SHOP}-onprem]\nsite = \"onprem\"\naddress = \"127.0.0.1:{port}\"\n",
        free_port()
    )
}

/// The settings of `world` without its service.
pub(super) fn bare(world: &World) -> String {
    world.settings().split("[services.api]").next().unwrap_or_default().to_owned()
}

/// Mails as soon as the settings let them; an Alertmanager would have to fail three times first, in every process.
pub(super) const SOON: &str = "\n[alerts]\nfallback_after = \"5s\"\nnotify_grace = \"10s\"\n";

/// Whom to mail to.
pub(super) fn mail_to(recipients: &[&str]) -> String {
    format!("\n[mail]\nfrom = \"supervisor@example.org\"\nto = {recipients:?}\nhelo = \"node.example.org\"\n")
}

/// A state directory as a supervisor left it.
#[derive(Debug, Clone)]
pub(super) struct Left(Vec<(String, Vec<u8>)>);

impl Left {
    fn of(directory: &Path) -> Left {
        let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap());
        let read = |file: std::fs::DirEntry| {
            (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())
        };
        Left(files.map(read).collect())
    }

    /// Makes it the state directory of `world`.
    pub(super) fn plant(&self, world: &World) {
        let directory = world.path("state");
        std::fs::create_dir_all(&directory).unwrap();
        for (name, bytes) in &self.0 {
            std::fs::write(directory.join(name), bytes).unwrap();
        }
    }
}

/// Left by a supervisor that saw the shop die and had nobody to write to: the mail is overdue, and a start that finds
/// somebody to write to decides it as soon as it sees the server.
pub(super) async fn overdue() -> &'static Left {
    static LEFT: OnceCell<Left> = OnceCell::const_new();
    LEFT.get_or_init(|| async {
        let world = World::new().await;
        world.onprem.close().await;
        world.write(&format!("{}{}{SOON}", bare(&world), shop(world.onprem.port)));
        let mut daemon = world.run();
        // The shortest `fallback_after`, and then up to the next full five seconds.
        until_within(LONGEST, "the mail is overdue", async || {
            let view = daemon.view().await;
            view.is_ok_and(|view| view.incidents.iter().any(|one| is_shops(one) && one.since_ms > 10_000))
        })
        .await;
        daemon.stop().await;
        Left::of(&world.path("state"))
    })
    .await
}

fn is_shops(incident: &IncidentView) -> bool {
    incident.service.is_some_and(|service| service.as_str() == SHOP)
}

/// Left by a supervisor that has mailed that the shop is down, and owes the mail of its end.
pub(super) async fn owed() -> &'static Left {
    static LEFT: OnceCell<Left> = OnceCell::const_new();
    LEFT.get_or_init(|| async {
        let world = World::new().await;
        let relay = Relay::start(&[]).await;
        world.onprem.close().await;
        overdue().await.plant(&world);
        world.write(&mailing(&world, &relay));
        let mut daemon = world.run();
        relay.mail_about_shop("FIRING").await;
        until_within(LONGEST, "the mail is done", async || {
            shop_mails(&daemon).await.iter().any(|mail| mail.state == "done")
        })
        .await;
        daemon.stop().await;
        Left::of(&world.path("state"))
    })
    .await
}

/// The settings of a `world` that has the shop only, with its first server, and mails through `relay`.
pub(super) fn mailing(world: &World, relay: &Relay) -> String {
    let (mail, relay) = (mail_to(&["oncall@example.org"]), relay.settings("main"));
    format!("{}{}{SOON}{mail}{relay}", bare(world), shop(world.onprem.port))
}

/// The mails about the shop, newest first, as `supervisor outbox` has them.
pub(super) async fn shop_mails(daemon: &Daemon) -> Vec<MailView> {
    let list: Result<MailList, _> = daemon.client().get("/api/v1/outbox").await;
    let mails = list.map(|list| list.mails).unwrap_or_default();
    mails.into_iter().filter(|mail| mail.about.iter().any(|about| about.contains(SHOP))).collect()
}

/// The mails about the shop of this kind in the state directory of `world`, whether a supervisor runs on it or not; none where
/// no store is, or one that was killed while it was made, which a reader cannot put in order.
pub(super) fn shop_rows(world: &World, kind: MailKind) -> Vec<OutboxRow> {
    let rows = Reader::open(&world.path("state")).and_then(|reader| reader.outbox(100)).unwrap_or_default();
    let about = |mail: &Mail| {
        let shop = |trouble: &Trouble| matches!(trouble, Trouble::ServiceDown { service } if service.as_str() == SHOP);
        mail.kind == kind && mail.incidents.iter().any(|told| shop(&told.trouble))
    };
    rows.into_iter().filter(|row| row.mail.as_ref().is_some_and(about)).collect()
}

/// Kills it, as the kernel does when memory is short.
pub(super) async fn kill(daemon: &mut Daemon) {
    daemon.signal(Signal::KILL);
    daemon.ended().await;
}
