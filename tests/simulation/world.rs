//! The world: everything that is outside of supervisor, the process in it, and what happens to both.

use crate::alerts::{Delivered, Exchange, MailRelay, Peer};
use crate::clockwork::{Clockwork, Ms, chance};
use crate::disk::Disk;
use crate::docker::{Container, Ended, Engine};
use crate::fault::Kind;
use crate::judge::Judge;
use crate::keeper::Proxy;
use crate::plan::{Cast, Plan, Quirk, engine_id, server_name};
use crate::process::Supervisor;
use crate::restart::Restarts;
use crate::script::Heard;
use std::collections::BTreeMap;
use std::sync::Arc;
use supervisor::daemon::{Core, restored};
use supervisor::domain::event::{ContainerSign, ContainerStatus, DockersCheck, StoreHealth};
use supervisor::domain::policy::{ContainerRef, Policy};
use supervisor::domain::{ContainerName, Event, ServerId};

/// The wall clock at the world's beginning.
pub(crate) const WALL_BEGAN: i64 = 1_700_000_000_000;

/// Faults are over: from then on the world has this long to be as it should be, as far as traffic is concerned.
const SETTLES_WITHIN: Ms = 30_000;

/// In the end the world is looked at so often.
const LOOKS_EVERY: Ms = 60_000;

/// One world of so many lasts until the end, though it is calm.
const STAYS_ONE_OF: u64 = 16;

/// What is on the disk goes through JSON in one world of so many.
const THROUGH_JSON_ONE_OF: u64 = 4;

/// A process that ended is started again after this by systemd, if nobody says otherwise.
pub(crate) const RESTART_SEC: Ms = 1_000;

/// Everything.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) clock: Clockwork<World>,
    pub(crate) docker_rng: fastrand::Rng,
    pub(crate) proxy_rng: fastrand::Rng,
    pub(crate) probe_rng: fastrand::Rng,
    pub(crate) disk_rng: fastrand::Rng,
    pub(crate) containers: Vec<Container>,
    pub(crate) engines: Vec<Engine>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) relays: Vec<MailRelay>,
    pub(crate) mailbox: Vec<Delivered>,
    pub(crate) exchange: Exchange,
    pub(crate) disk: Disk,
    pub(crate) supervisor: Option<Supervisor>,
    runs: u64,
    pub(crate) restarts: Restarts,
    /// When this boot began.
    pub(crate) booted: Ms,
    pub(crate) boot_id: u64,
    pub(crate) wall_ahead: i64,
    /// The settings on the disk.
    pub(crate) variant: u8,
    /// Each site: cut off from everybody, from us, without power, until then.
    pub(crate) cut: Vec<(Ms, Ms, Ms)>,
    pub(crate) we_are_cut_until: Ms,
    pub(crate) own_resources_until: Ms,
    pub(crate) probes_late: (Ms, Ms),
    /// For each container, until when probes of it lie, and how often.
    pub(crate) lies: Vec<(Ms, u32)>,
    /// For each service, its servers: each with its site and its container.
    pub(crate) pools: Vec<Arc<[(ServerId, usize, usize)]>>,
    pub(crate) injected: BTreeMap<Kind, u64>,
    pub(crate) steps: u64,
    pub(crate) judge: Judge,
    /// Where what happens is told, if anybody listens.
    pub(crate) say: Option<fn(&str)>,
    /// What this process heard, if anybody wants to know.
    pub(crate) heard: Option<Heard>,
}

/// What came of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What was decided, in one number, if that was asked for.
    pub(crate) hash: u64,
    /// What must not be, if something was.
    pub(crate) violation: Option<String>,
    /// Milliseconds that passed in the world.
    pub(crate) lasted: Ms,
    /// How many faults of each kind there were.
    pub(crate) injected: BTreeMap<Kind, u64>,
    /// Events that the core decided about.
    pub(crate) steps: u64,
}

impl World {
    pub(crate) fn new(plan: Plan) -> World {
        let rng = |part| chance(plan.seed, part);
        let cast = &plan.cast;
        let mut names = rng("containers");
        let containers: Vec<Container> = cast
            .servers()
            .into_iter()
            .enumerate()
            .map(|(number, (service, site, of))| {
                let name = ContainerName(server_name(service, site, of));
                let engine = cast.engine_of(site);
                Container {
                    id: format!("{}-0", name.0),
                    name: ContainerRef { engine: engine_id(engine), name },
                    engine,
                    site,
                    status: ContainerStatus::Running,
                    exists: true,
                    policy: cast.restart[number % cast.restart.len()],
                    restarts: 0,
                    disarmed: false,
                    stop_timeout: 10_000,
                    ignores_term: names.u32(..5) == 0,
                    check: cast.has(Quirk::Checks).then_some(DockersCheck::Healthy),
                    life: 0,
                    started: 0,
                    stopped: 0,
                    ready: 0,
                    hangs_until: 0,
                    sick_until: 0,
                    sick_code: 500,
                    slow_until: 0,
                    slow_by: 0,
                    loops_until: 0,
                    loop_exit: 1,
                    start_fails_until: 0,
                    ended: Ended::Not,
                }
            })
            .collect();
        let engines = (0..cast.engine_count()).map(|_| Engine::new(cast.has(Quirk::LiveRestore))).collect();
        let count = containers.len();
        let (cut, lies) = (vec![(0, 0, 0); cast.site_count()], vec![(0, 0); containers.len()]);
        let mut world = World {
            clock: Clockwork::new(),
            docker_rng: rng("docker"),
            proxy_rng: rng("haproxy"),
            probe_rng: rng("probe"),
            disk_rng: rng("disk"),
            containers,
            engines,
            proxies: (0..cast.proxies).map(Proxy::new).collect(),
            peers: (0..cast.peers).map(Peer::new).collect(),
            relays: (0..cast.relays).map(MailRelay::new).collect(),
            mailbox: Vec::new(),
            exchange: Exchange::default(),
            disk: Disk::new(plan.seed.is_multiple_of(THROUGH_JSON_ONE_OF)),
            supervisor: None,
            runs: 0,
            restarts: Restarts::default(),
            booted: -100_000_000,
            boot_id: 1,
            wall_ahead: 0,
            variant: 0,
            cut,
            we_are_cut_until: 0,
            own_resources_until: 0,
            probes_late: (0, 0),
            lies,
            pools: cast.pools(),
            injected: BTreeMap::new(),
            steps: 0,
            judge: Judge::default(),
            say: None,
            heard: None,
            plan,
        };
        // An engine remembers how what it runs was started.
        (0..count).for_each(|number| world.sign(number, ContainerSign::Started));
        world
    }

    /// Lets the world go its way, to its end or to the first thing that must not be.
    pub(crate) fn play(plan: &Plan) -> Outcome {
        World::new(plan.clone()).go()
    }

    /// The same; what is decided is put into one number.
    pub(crate) fn play_and_hash(plan: &Plan) -> Outcome {
        let mut world = World::new(plan.clone());
        world.judge.hashes = true;
        world.go()
    }

    /// The same, and tells what happens.
    pub(crate) fn tell(plan: &Plan, say: fn(&str)) -> Outcome {
        let mut world = World::new(plan.clone());
        world.say = Some(say);
        world.go()
    }

    /// What the process heard in which something went wrong.
    pub(crate) fn overhear(plan: &Plan) -> Heard {
        let mut world = World::new(plan.clone());
        world.heard = Some(Heard::default());
        world.play_on();
        world.heard.unwrap_or_default()
    }

    fn go(self) -> Outcome {
        let mut world = self;
        world.play_on();
        Outcome {
            hash: world.judge.hash(),
            violation: world.judge.violation.take(),
            lasted: world.clock.now(),
            injected: world.injected,
            steps: world.steps,
        }
    }

    fn play_on(&mut self) {
        let world = self;
        let plan = world.plan.clone();
        world.begin();
        for (at, fault) in plan.faults.clone() {
            world.clock.after(at, move |world| world.happen(fault));
        }
        world.clock.after(0, World::watch_traffic);
        world.pass_until(plan.ends);
        world.end_faults();
        world.pass_until(plan.ends + SETTLES_WITHIN);
        world.judge_settled();
        world.repair_all();
        let last = plan.ends + SETTLES_WITHIN + world.calms_within();
        // Most worlds are calm soon, and are left alone then; some are watched on.
        let stays = plan.seed.is_multiple_of(STAYS_ONE_OF);
        while world.clock.now() < last && (stays || !world.is_all_calm()) && !world.is_judged() {
            world.pass_until((world.clock.now() + LOOKS_EVERY).min(last));
        }
        world.judge_calm();
    }

    fn is_judged(&self) -> bool {
        self.judge.violation.is_some()
    }

    pub(crate) fn pass_until(&mut self, until: Ms) {
        while self.judge.violation.is_none() {
            let Some(happening) = self.clock.next(until) else { return };
            happening(self);
        }
    }

    /// Tells something, if anybody listens.
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if let Some(say) = self.say {
            say(&format!("{:>10.3} {}", self.clock.now() as f64 / 1_000.0, what()));
        }
    }

    pub(crate) fn cast(&self) -> &Cast {
        &self.plan.cast
    }

    pub(crate) fn count(&mut self, kind: Kind) {
        *self.injected.entry(kind).or_default() += 1;
    }

    /// A process of supervisor begins; a second one finds the lock of the state directory taken, and ends.
    pub(crate) fn begin(&mut self) {
        if self.supervisor.is_some() {
            return;
        }
        self.runs += 1;
        let stored = self.disk.load();
        self.judge_load(stored.as_ref());
        // What cannot be read is still in the file: numbers go on behind it.
        let next = self.disk.tip + 1;
        let (policy, boot_id) = (self.policy(), self.boot_id.to_string());
        let state = restored(stored, &policy, &boot_id, self.now());
        let committed = self.disk.tip;
        self.supervisor = Some(Supervisor::new(self.runs, Core::new(state, next), committed));
        self.heard.iter_mut().for_each(Vec::clear);
        self.snapshot();
        self.begin_keepers();
        self.begin_watchers();
        self.set_probers();
        self.begin_rounds();
        self.begin_postman();
        self.judge_begin();
        self.take(vec![Event::Store(StoreHealth::Durable), Event::Started]);
    }

    /// The process is killed; systemd starts another one.
    pub(crate) fn die(&mut self) {
        let lasts = self.begins_in();
        self.die_for(lasts);
    }

    pub(crate) fn die_for(&mut self, lasts: Ms) {
        self.leave_commands();
        if self.supervisor.take().is_none() {
            return;
        }
        self.disk_loses_process();
        self.clock.after(lasts, World::begin);
    }

    pub(crate) fn policy(&self) -> Policy {
        self.plan.cast.policy(self.variant)
    }

    /// Whether our probes reach a site.
    pub(crate) fn we_reach(&self, site: usize) -> bool {
        let now = self.clock.now();
        let (all, ours, power) = self.cut[site];
        now >= all && now >= ours && now >= power && now >= self.we_are_cut_until
    }

    /// Whether an HAProxy reaches a site.
    pub(crate) fn proxy_reaches(&self, site: usize) -> bool {
        let now = self.clock.now();
        let (all, _, power) = self.cut[site];
        now >= all && now >= power
    }

    /// How long it takes until we reach an engine.
    pub(crate) fn we_reach_engine_in(&self, engine: usize) -> Ms {
        if !self.cast().engines_by_site {
            return 0;
        }
        let (all, ours, power) = self.cut[engine];
        (all.max(ours).max(power).max(self.we_are_cut_until) - self.clock.now()).max(0)
    }

    /// Whether we reach an engine: the first one is on our own machine where all sites share it.
    pub(crate) fn we_reach_engine(&self, engine: usize) -> bool {
        !self.cast().engines_by_site || self.we_reach(engine)
    }
}
