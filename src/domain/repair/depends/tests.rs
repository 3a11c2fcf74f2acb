//! Which container waits for which, and which has lost its network.

use super::*;
use crate::domain::event::Facts;
use crate::domain::time::Boot;
use std::collections::BTreeMap;

const RUNS: Phase = Phase::Runs { since: Boot(1) };
const DUE: Phase = Phase::Due { at: Boot(1) };
const HELD: Phase = Phase::Held { since: Boot(1) };

/// Containers that were seen, and those of them that are looked after.
#[derive(Default)]
struct Known {
    seen: BTreeMap<ContainerRef, ContainerSeen>,
    repairs: BTreeMap<ContainerRef, Repair>,
}

impl Containers for Known {
    fn seen(&self, container: &ContainerRef) -> Option<&ContainerSeen> {
        self.seen.get(container)
    }

    fn repair(&self, container: &ContainerRef) -> Option<&Repair> {
        self.repairs.get(container)
    }
}

/// `engine/name`, or a name on the engine `one`.
fn container(text: &str) -> ContainerRef {
    let (engine, name) = text.split_once('/').unwrap_or(("one", text));
    ContainerRef { engine: engine.parse().unwrap(), name: ContainerName(name.to_owned()) }
}

fn names(text: &str) -> BTreeSet<ContainerName> {
    text.split_whitespace().map(|name| ContainerName(name.to_owned())).collect()
}

impl Known {
    /// A container that is looked after, stands at `phase` and names others in its label.
    fn with(mut self, name: &str, phase: Phase, depends_on: &str) -> Known {
        let facts = Facts { depends_on: names(depends_on), started: Some(100), ..Facts::default() };
        let status = if matches!(phase, Phase::Runs { .. } | Phase::Ailing { .. }) {
            ContainerStatus::Running
        } else {
            ContainerStatus::Exited { exit: Some(1), oom: false }
        };
        self.seen.insert(container(name), ContainerSeen { id: format!("id-{name}"), status, facts });
        let repair = Repair { id: format!("id-{name}"), phase, ..Repair::default() };
        self.repairs.insert(container(name), repair);
        self
    }

    /// The network that it uses.
    fn using(mut self, name: &str, of: &str, by_name: Option<&str>, lender: Lender) -> Known {
        let network = BorrowedNetwork {
            of: of.to_owned(),
            name: by_name.map(|name| ContainerName(name.to_owned())),
            lender,
        };
        self.seen.get_mut(&container(name)).unwrap().facts.network = Some(network);
        self
    }

    /// Nobody looks after it.
    fn unwatched(mut self, name: &str) -> Known {
        self.repairs.remove(&container(name));
        self
    }

    fn waits(&self, name: &str) -> Option<(String, Stands)> {
        let why = obstacle(self, &container(name))?;
        let HealWait::Dependency { on, stands } = why else {
            panic!("{name} waits for something else: {why:?}")
        };
        Some((on.0, stands))
    }

    fn unkept(&self, name: &str) -> Vec<(String, Unkept)> {
        unkept(self, &container(name)).into_iter().map(|(on, why)| (on.0, why)).collect()
    }
}

fn on(name: &str, stands: Stands) -> Option<(String, Stands)> {
    Some((name.to_owned(), stands))
}

fn there(runs: bool, started: i64) -> Lender {
    Lender::There { runs, started: Some(started) }
}

#[test]
fn each_phase_of_a_dependency_is_waited_for_or_not() {
    let ailing = Phase::Ailing { since: Boot(1), at: Boot(2), spent: false };
    let table = [
        (RUNS, None),
        (ailing, None),
        (DUE, Some(Stands::Down)),
        (Phase::Docker { until: Boot(1) }, Some(Stands::Down)),
        (Phase::WithEngine, Some(Stands::Down)),
        (Phase::GivenUp { next: Boot(1) }, Some(Stands::Down)),
        (Phase::Left, Some(Stands::Down)),
        (HELD, Some(Stands::Held)),
        (Phase::Unseen, Some(Stands::Unseen)),
        (Phase::Gone, Some(Stands::Gone)),
    ];
    for (phase, stands) in table {
        let known = Known::default().with("db", phase.clone(), "").with("api", DUE, "db");
        let expected = stands.map(|stands| ("db".to_owned(), stands));
        assert_eq!(known.waits("api"), expected, "{}", phase.word());
        assert_eq!(known.waits("db"), None, "{}", phase.word());
    }
}

#[test]
fn in_a_chain_each_waits_for_the_next_one_only() {
    let chain = |a, b, c| Known::default().with("a", a, "").with("b", b, "a").with("c", c, "b");
    let dead = chain(DUE, DUE, DUE);
    assert_eq!(dead.waits("a"), None);
    assert_eq!(dead.waits("b"), on("a", Stands::Down));
    assert_eq!(dead.waits("c"), on("b", Stands::Down));
    let first_runs = chain(RUNS, DUE, DUE);
    assert_eq!(first_runs.waits("b"), None);
    assert_eq!(first_runs.waits("c"), on("b", Stands::Down));
    // What a dependency depends on is that one's business.
    assert_eq!(chain(DUE, RUNS, DUE).waits("c"), None);
}

#[test]
fn of_several_dependencies_each_must_run() {
    let known =
        |cache| Known::default().with("db", RUNS, "").with("cache", cache, "").with("api", DUE, "cache db");
    assert_eq!(known(HELD).waits("api"), on("cache", Stands::Held));
    assert_eq!(known(RUNS).waits("api"), None);
}

#[test]
fn what_nobody_looks_after_is_not_waited_for() {
    let known = Known::default().with("db", DUE, "").with("api", DUE, "db nobody").unwatched("db");
    assert_eq!(known.waits("api"), None);
    let unwatched = |name: &str| (name.to_owned(), Unkept::Unwatched);
    assert_eq!(known.unkept("api"), [unwatched("db"), unwatched("nobody")]);
}

#[test]
fn nobody_waits_for_itself() {
    let known = Known::default().with("api", DUE, "api");
    assert_eq!(known.waits("api"), None);
    assert_eq!(known.unkept("api"), [("api".to_owned(), Unkept::Itself)]);
}

#[test]
fn a_circle_is_broken_and_who_only_leads_into_it_waits() {
    let known = Known::default()
        .with("a", DUE, "b")
        .with("b", DUE, "c")
        .with("c", DUE, "a")
        .with("outside", DUE, "a");
    for (name, names) in [("a", "b"), ("b", "c"), ("c", "a")] {
        assert_eq!(known.waits(name), None, "{name}");
        assert_eq!(known.unkept(name), [(names.to_owned(), Unkept::Circle)]);
    }
    assert_eq!(known.waits("outside"), on("a", Stands::Down));
    assert_eq!(known.unkept("outside"), []);
}

#[test]
fn a_circle_through_a_network_is_broken_at_the_label() {
    let known = Known::default().with("gateway", DUE, "client").with("client", DUE, "").using(
        "client",
        "id-gateway",
        Some("gateway"),
        there(false, 1),
    );
    assert_eq!(known.waits("gateway"), None);
    assert_eq!(known.unkept("gateway"), [("client".to_owned(), Unkept::Circle)]);
    assert_eq!(known.waits("client"), on("gateway", Stands::Down), "Docker would refuse to start it");
}

#[test]
fn names_are_those_of_ones_own_engine() {
    let known = Known::default()
        .with("one/db", DUE, "")
        .with("two/db", RUNS, "")
        .with("one/api", DUE, "db")
        .with("two/api", DUE, "db");
    assert_eq!(known.waits("one/api"), on("db", Stands::Down));
    assert_eq!(known.waits("two/api"), None);
    let alone = known.unwatched("two/db");
    assert_eq!(
        alone.unkept("two/api"),
        [("db".to_owned(), Unkept::Unwatched)],
        "the other engine's is no help"
    );
}

#[test]
fn a_dead_child_waits_for_the_container_whose_network_it_uses() {
    let child = |phase, lender| {
        let known = Known::default().with("gateway", phase, "").with("child", DUE, "");
        known.using("child", "id-gateway", Some("gateway"), lender)
    };
    // What was heard since the look is newer than the look.
    assert_eq!(child(DUE, there(true, 1)).waits("child"), on("gateway", Stands::Down));
    assert_eq!(child(HELD, there(true, 1)).waits("child"), on("gateway", Stands::Held));
    assert_eq!(child(RUNS, there(false, 1)).waits("child"), None);
    let strangers = |lender| child(RUNS, lender).unwatched("gateway");
    assert_eq!(strangers(there(false, 1)).waits("child"), on("gateway", Stands::Unwatched));
    assert_eq!(strangers(there(true, 1)).waits("child"), None);
    assert_eq!(strangers(Lender::Unknown).waits("child"), None, "what cannot be read is no obstacle");
}

#[test]
fn a_network_is_lost_when_its_container_is_younger_than_its_user() {
    let known = |lender| {
        let known = Known::default().with("gateway", RUNS, "").with("child", RUNS, "");
        known.using("child", "id-gateway", Some("gateway"), lender)
    };
    let lost = |known: &Known| network_loss(known, &container("child"));
    let restarted = |at| Some(NetworkLoss::Restarted { of: ContainerName("gateway".into()), at });
    assert_eq!(lost(&known(there(true, 99))), None);
    assert_eq!(lost(&known(there(true, 100))), None, "at the same moment");
    assert_eq!(lost(&known(there(true, 101))), restarted(101));
    assert_eq!(lost(&known(there(false, 101))), None, "there is nothing to join yet");
    assert_eq!(lost(&known(Lender::Unknown)), None);
    assert_eq!(lost(&known(Lender::There { runs: true, started: None })), None);

    let mut unread = known(there(true, 101));
    unread.seen.get_mut(&container("child")).unwrap().facts.started = None;
    assert_eq!(lost(&unread), None, "it was started, and nobody has read when");
    let mut once = known(there(true, 101));
    once.repairs.get_mut(&container("child")).unwrap().rejoined = Some(101);
    assert_eq!(lost(&once), None, "it was restarted for this start already");
    once.repairs.get_mut(&container("child")).unwrap().rejoined = Some(99);
    assert_eq!(lost(&once), restarted(101));
    let dead = Known::default().with("child", DUE, "").using("child", "id-gateway", None, there(true, 101));
    assert_eq!(lost(&dead), None, "what does not run has nothing to lose");
}

#[test]
fn a_network_is_gone_when_its_container_was_removed_or_another_has_its_name() {
    let known = |of: &str, name, lender| {
        let known = Known::default().with("gateway", RUNS, "").with("child", DUE, "");
        known.using("child", of, name, lender)
    };
    let gone =
        |known: &Known| matches!(obstacle(known, &container("child")), Some(HealWait::NetworkGone { .. }));
    assert!(!gone(&known("id-gateway", Some("gateway"), there(true, 1))));
    assert!(gone(&known("id-before", Some("gateway"), there(true, 1))), "another of the name was seen since");
    assert!(gone(&known("id-before", Some("gateway"), Lender::Gone)));
    assert!(gone(&known("id-before", None, Lender::Gone)));
    assert!(
        !gone(&known("gateway", Some("gateway"), there(true, 1))),
        "an engine that keeps names finds the new one"
    );
    let mut removed = known("id-gateway", Some("gateway"), there(true, 1));
    removed.repairs.get_mut(&container("gateway")).unwrap().phase = Phase::Gone;
    assert!(gone(&removed));

    let id = "4fa6e0f0c6786287e131c3852c58a2e0";
    let nameless = known(id, None, Lender::Gone);
    let Some(HealWait::NetworkGone { of, .. }) = obstacle(&nameless, &container("child")) else { panic!() };
    assert_eq!(of.0, "4fa6e0f0c678", "as `docker ps` shows it");
}

#[test]
fn what_was_stored_before_dependencies_were_known_is_read() {
    let facts = Facts { restarts: 3, ..Facts::default() };
    let mut stored = serde_json::to_value(&facts).unwrap();
    for key in ["started", "depends_on", "network", "compose"] {
        stored.as_object_mut().unwrap().remove(key).unwrap();
    }
    assert_eq!(serde_json::from_value::<Facts>(stored).unwrap(), facts);
    let repair = Repair { attempt: 2, ..Repair::default() };
    let mut stored = serde_json::to_value(&repair).unwrap();
    stored.as_object_mut().unwrap().remove("rejoined").unwrap();
    assert_eq!(serde_json::from_value::<Repair>(stored).unwrap(), repair);
}
