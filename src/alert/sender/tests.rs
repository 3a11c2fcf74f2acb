use super::*;
use crate::alert::email::peer::{Act, At, Peer, Script};
use crate::alert::email::{Helo, RelayTls};
use crate::domain::delivery::{MailId, MailKey, Told};
use crate::domain::incident::{IncidentId, Trouble};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::timeout;

/// Longer than any test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The outbox in memory: what was kept, in order; and a disk that may be broken.
#[derive(Clone, Default)]
struct Memory {
    kept: Arc<Mutex<Vec<What>>>,
    broken: Arc<AtomicBool>,
    /// Cancelled when bytes are kept.
    staging: CancellationToken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Staged(MailId, Staged),
    Recorded(MailId, Recorded),
}

impl Ledger for Memory {
    fn stage(&self, mail: &Mail, message: Staged) -> BoxFuture<'static, bool> {
        self.kept.lock().unwrap().push(What::Staged(mail.id, message));
        self.staging.cancel();
        let works = !self.broken.load(Ordering::SeqCst);
        Box::pin(async move { works })
    }

    fn record(&self, mail: &Mail, parcel: Recorded) -> BoxFuture<'static, bool> {
        self.kept.lock().unwrap().push(What::Recorded(mail.id, parcel));
        let works = !self.broken.load(Ordering::SeqCst);
        Box::pin(async move { works })
    }
}

impl Memory {
    /// One whose disk does not work, or does again.
    fn broken(self, broken: bool) -> Memory {
        self.broken.store(broken, Ordering::SeqCst);
        self
    }

    fn staged(&self) -> Vec<Staged> {
        let kept = self.kept.lock().unwrap();
        let staged =
            |what: &What| if let What::Staged(_, staged) = what { Some(staged.clone()) } else { None };
        kept.iter().filter_map(staged).collect()
    }

    fn last(&self) -> Option<Recorded> {
        let kept = self.kept.lock().unwrap();
        let recorded =
            |what: &What| if let What::Recorded(_, last) = what { Some(last.clone()) } else { None };
        kept.iter().filter_map(recorded).next_back()
    }
}

fn pool_down() -> Trouble {
    Trouble::PoolDown { service: "api".parse().unwrap(), site: "onprem".parse().unwrap() }
}

fn mail(id: u64) -> Mail {
    let told = Told {
        incident: IncidentId(3),
        trouble: pool_down(),
        opened: Wall(wall_now().0 - 60_000),
        ended: None,
        story: Vec::new(),
    };
    let why = WhyDirect::Unreachable { peers: vec![("am1".parse().unwrap(), "connection refused".into())] };
    Mail { id: MailId(id), kind: MailKind::Firing, why, at: wall_now(), incidents: vec![told] }
}

fn relay(name: &str, peer: &Peer) -> Relay {
    Relay { name: name.to_owned(), ..peer.relay.clone() }
}

/// A relay where nobody listens.
fn nobody(name: &str) -> Relay {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Relay {
        name: name.to_owned(),
        host: "127.0.0.1".to_owned(),
        port: free,
        tls: RelayTls::None,
        helo: Helo::parse("node.example.org").unwrap(),
        auth: None,
        ca: None,
    }
}

fn post(relays: Vec<Relay>) -> Post {
    let who = Correspondents {
        from: "supervisor@example.org".to_owned(),
        to: vec!["a@example.org".to_owned(), "b@example.org".to_owned()],
        host: "node.example.org".to_owned(),
        version: "0.1.0".to_owned(),
    };
    Post { who, relays, deadlines: Deadlines::default() }
}

struct Running {
    orders: mpsc::Sender<Order>,
    events: mpsc::Receiver<Event>,
    ledger: Memory,
    _post: watch::Sender<Option<Arc<Post>>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(post: Post, ledger: Memory, has: &'static [&'static str], open: Vec<Parcel>) -> Running {
        let backlog: Backlog = Arc::new(move || {
            let open = open.clone();
            Box::pin(async move { Ok(Left { open, ended: Vec::new() }) })
        });
        Running::with(post, ledger, has, backlog)
    }

    fn with(post: Post, ledger: Memory, has: &'static [&'static str], backlog: Backlog) -> Running {
        let (orders, mut lane) = mpsc::channel(8);
        let (events, heard) = mpsc::channel(8);
        let (settings, post) = watch::channel(Some(Arc::new(post)));
        let holds: Holds = Arc::new(move |asked| {
            Box::pin(async move { asked.into_iter().filter(|print| has.contains(&print.as_str())).collect() })
        });
        let kept = ledger.clone();
        let means = Means { post, ledger: kept, holds, backlog, events };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { run(means, &mut lane, stopped).await });
        Running { orders, events: heard, ledger, _post: settings, stop, task }
    }

    async fn order(&self, mail: Mail, durable: bool) {
        self.orders.send(Order { mail, durable }).await.unwrap();
    }

    async fn end(&mut self) -> MailEnd {
        match timeout(PATIENCE, self.events.recv()).await.expect("the mail came to no end") {
            Some(Event::Mailed(mailed)) => mailed.end,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn the_bytes_are_kept_before_they_are_sent_and_their_fate_after() {
    let peer = Peer::start(Script::plain()).await;
    let mut running = Running::start(post(vec![relay("main", &peer)]), Memory::default(), &[], Vec::new());
    let decided = mail(7);
    let name = format!(".firing.7.{}@node.example.org", decided.at.0);
    running.order(decided, true).await;
    assert_eq!(running.end().await, MailEnd::Accepted { recipients: 2 });
    let heard = peer.heard().await;
    let staged = running.ledger.staged().remove(0);
    assert_eq!(heard.content, staged.bytes, "what was sent is what was kept");
    let text = String::from_utf8(staged.bytes).unwrap();
    assert!(text.contains(&format!("Message-ID: {}", staged.message_id)), "{text}");
    assert!(staged.message_id.contains(&name), "{}", staged.message_id);
    assert!(text.contains("[FIRING:1] PoolDown"), "{text}");
    let last = running.ledger.last().unwrap();
    assert_eq!(last.standing, Standing::Done);
    assert!(last.recipients.iter().all(|to| to.state == Fated::Accepted), "{last:?}");
}

#[tokio::test]
async fn what_an_earlier_run_decided_and_had_not_written_is_written_to_those_of_today() {
    let peer = Peer::start(Script::plain()).await;
    let open = vec![Parcel::resumed(mail(7), None, Vec::new())];
    let mut running = Running::start(post(vec![relay("main", &peer)]), Memory::default(), &[], open);
    assert_eq!(running.end().await, MailEnd::Accepted { recipients: 2 });
    assert_eq!(running.ledger.staged().remove(0).recipients.len(), 2);
}

#[tokio::test]
async fn an_order_whose_row_was_read_at_the_start_is_sent_once() {
    let peer = Peer::start(Script::plain()).await;
    let first = mail(7);
    let open = vec![Parcel::resumed(first.clone(), None, Vec::new())];
    let mut running = Running::start(post(vec![relay("main", &peer)]), Memory::default(), &[], open);
    running.order(first, true).await;
    assert_eq!(running.end().await, MailEnd::Accepted { recipients: 2 });
    // What comes behind it is next: nothing of the first one is left.
    running.order(mail(8), true).await;
    let Event::Mailed(ended) = timeout(PATIENCE, running.events.recv()).await.unwrap().unwrap() else {
        panic!("not about a mail")
    };
    assert_eq!(ended.mail.id, MailId(8));
}

#[tokio::test]
async fn news_of_long_ago_is_given_up_without_being_sent() {
    let peer = Peer::start(Script::plain()).await;
    let old = Mail { at: Wall(wall_now().0 - 3 * 24 * 3_600_000), ..mail(7) };
    let open = vec![Parcel::resumed(old, None, Vec::new())];
    let mut running = Running::start(post(vec![relay("main", &peer)]), Memory::default(), &[], open);
    assert!(matches!(running.end().await, MailEnd::Dead { .. }));
    assert_eq!(running.ledger.last().unwrap().standing, Standing::Dead);
    assert!(running.ledger.staged().is_empty());
}

#[tokio::test]
async fn what_the_disk_does_not_take_is_sent_all_the_same_and_says_that_it_may_come_twice() {
    for (ledger, durable) in [(Memory::default().broken(true), true), (Memory::default(), false)] {
        let peer = Peer::start(Script::plain()).await;
        let mut running = Running::start(post(vec![relay("main", &peer)]), ledger, &[], Vec::new());
        running.order(mail(7), durable).await;
        assert_eq!(running.end().await, MailEnd::Accepted { recipients: 2 });
        let text = String::from_utf8(peer.heard().await.content).unwrap();
        assert!(text.to_lowercase().contains("duplicate") || text.contains("twice"), "{text}");
    }
}

#[tokio::test]
async fn the_next_relay_takes_what_the_first_one_could_not() {
    let peer = Peer::start(Script::plain()).await;
    let relays = vec![nobody("first"), relay("second", &peer)];
    let mut running = Running::start(post(relays), Memory::default(), &[], Vec::new());
    running.order(mail(7), true).await;
    assert_eq!(running.end().await, MailEnd::Accepted { recipients: 2 });
    let last = running.ledger.last().unwrap();
    assert!(last.recipients.iter().all(|to| to.relay.as_deref() == Some("second")), "{last:?}");
}

#[tokio::test]
async fn what_alertmanager_has_after_all_is_not_sent() {
    let print: &'static str = Box::leak(fingerprint(&pool_down().labels()).into_boxed_str());
    let has: &'static [&'static str] = Box::leak(Box::new([print]));
    let mut running = Running::start(post(vec![nobody("main")]), Memory::default(), has, Vec::new());
    running.order(mail(7), true).await;
    assert_eq!(running.end().await, MailEnd::NotNeeded);
    assert_eq!(running.ledger.staged(), []);
    assert_eq!(running.ledger.last().unwrap().standing, Standing::NotNeeded);
}

#[tokio::test]
async fn one_refused_recipient_holds_up_nobody_and_is_told() {
    let peer = Peer::start(Script::plain().but(At::Rcpt(1), Act::Say(b"550 no such user\r\n"))).await;
    let mut running = Running::start(post(vec![relay("main", &peer)]), Memory::default(), &[], Vec::new());
    running.order(mail(7), true).await;
    let end = running.end().await;
    assert!(
        matches!(&end, MailEnd::Dead { words, .. } if words.contains("550") && words.contains("a@example.org")),
        "{end:?}"
    );
    assert!(!peer.heard().await.content.is_empty(), "the other one has it");
    assert_eq!(running.ledger.last().unwrap().standing, Standing::Dead);
}

#[tokio::test]
async fn what_an_earlier_process_left_is_sent_with_the_same_bytes_to_whom_it_is_owed() {
    let peer = Peer::start(Script::plain()).await;
    let bytes = b"Subject: from before\r\n\r\nthe same bytes\r\n".to_vec();
    let staged = Staged {
        message_id: "<m.1@node.example.org>".to_owned(),
        sender: "supervisor@example.org".to_owned(),
        bytes: bytes.clone(),
        recipients: vec!["a@example.org".to_owned(), "b@example.org".to_owned()],
    };
    let accepted = Kept {
        address: "a@example.org".to_owned(),
        state: Fated::Accepted,
        relay: Some("main".to_owned()),
        words: None,
        next: None,
        attempts: 1,
    };
    let open = vec![Parcel::resumed(mail(5), Some(staged), vec![accepted])];
    let mut running = Running::start(post(vec![relay("main", &peer)]), Memory::default(), &[], open);
    assert_eq!(running.end().await, MailEnd::Accepted { recipients: 2 });
    let heard = peer.heard().await;
    assert_eq!(heard.content, bytes);
    let rcpt: Vec<&String> = heard.commands.iter().filter(|line| line.starts_with("RCPT")).collect();
    assert_eq!(rcpt.len(), 1, "{rcpt:?}");
    assert!(rcpt[0].contains("b@example.org"));
    assert_eq!(running.ledger.staged(), [], "it was kept before");
}

#[tokio::test]
async fn an_outbox_that_cannot_be_read_holds_nothing_up_and_is_read_later() {
    let looks = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&looks);
    let backlog: Backlog = Arc::new(move || {
        let first = !seen.swap(true, Ordering::SeqCst);
        let open = vec![Parcel::resumed(mail(7), None, Vec::new())];
        let left = Left { open, ended: Vec::new() };
        Box::pin(async move { if first { Err("the disk is away".to_owned()) } else { Ok(left) } })
    });
    let mut running = Running::with(post(vec![nobody("main")]), Memory::default(), &[], backlog);
    running.order(mail(8), true).await;
    assert!(matches!(running.end().await, MailEnd::Deferred { .. }));
    assert_eq!(running.ledger.staged().len(), 1, "the other one is not known yet");
    tokio::time::pause();
    tokio::time::advance(LOOK_EVERY).await;
    tokio::time::resume();
    assert!(matches!(running.end().await, MailEnd::Deferred { .. }));
    assert_eq!(running.ledger.staged().len(), 2);
}

#[tokio::test]
async fn the_disk_gets_in_a_later_round_what_it_did_not_take_in_the_first() {
    let ledger = Memory::default().broken(true);
    let post = Arc::new(post(vec![nobody("main")]));
    let holds: Holds = Arc::new(|_| Box::pin(async { BTreeSet::new() }));
    let (parcel, end) =
        round(Arc::clone(&post), ledger.clone(), Arc::clone(&holds), Network, Parcel::new(mail(7), true))
            .await;
    assert!(matches!(end, Some(MailEnd::Deferred { .. })), "{end:?}");
    let ledger = ledger.broken(false);
    round(post, ledger.clone(), holds, Network, parcel).await;
    let [_, second] = ledger.staged().try_into().unwrap();
    let text = String::from_utf8(second.bytes).unwrap();
    assert!(text.contains("twice") || text.to_lowercase().contains("duplicate"), "the same bytes as before");
}

#[tokio::test]
async fn the_disk_is_told_again_of_a_mail_that_is_sent() {
    let peer = Peer::start(Script::plain()).await;
    let ledger = Memory::default().broken(true);
    let post = Arc::new(post(vec![relay("main", &peer)]));
    let holds: Holds = Arc::new(|_| Box::pin(async { BTreeSet::new() }));
    let (parcel, end) =
        round(Arc::clone(&post), ledger.clone(), Arc::clone(&holds), Network, Parcel::new(mail(7), true))
            .await;
    assert_eq!(end, Some(MailEnd::Accepted { recipients: 2 }));
    assert!(!parcel.is_recorded());
    let (parcel, end) = round(post, ledger.clone().broken(false), holds, Network, parcel).await;
    assert!(parcel.is_recorded() && end.is_none(), "told once");
    assert_eq!(ledger.last().unwrap().standing, Standing::Done);
    assert_eq!(ledger.staged().len(), 2, "it may not have the mail at all");
}

#[tokio::test]
async fn at_a_stop_the_round_under_way_comes_to_its_end() {
    let peer = Peer::start(Script::plain()).await;
    let ledger = Memory::default();
    let mut running = Running::start(post(vec![relay("main", &peer)]), ledger.clone(), &[], Vec::new());
    let stop = running.stop.clone();
    tokio::spawn(async move {
        ledger.staging.cancelled().await;
        stop.cancel();
    });
    running.order(mail(7), true).await;
    timeout(PATIENCE, &mut running.task).await.expect("it ends").unwrap();
    assert_eq!(running.ledger.last().unwrap().standing, Standing::Done);
}

#[tokio::test]
async fn an_end_of_which_the_core_was_not_told_is_told_at_the_next_start() {
    let mailed = Mailed { mail: MailKey::of(&mail(7)), end: MailEnd::Accepted { recipients: 2 } };
    let told = mailed.clone();
    let backlog: Backlog = Arc::new(move || {
        let left = Left { open: Vec::new(), ended: vec![mailed.clone()] };
        Box::pin(async move { Ok(left) })
    });
    let mut running = Running::with(post(vec![nobody("main")]), Memory::default(), &[], backlog);
    let event = timeout(PATIENCE, running.events.recv()).await.unwrap();
    assert_eq!(event, Some(Event::Mailed(told)));
}
