//! Orders to free what a server holds, from their arrival to their end, as the actuator carries them out: each waits for its
//! route, is cut off where HAProxy restarts or falls silent, and is tried again as long as anybody could wait for it.

use crate::checks::Met;
use crate::clockwork::Ms;
use crate::world::World;
use supervisor::actuator::haproxy::Guard;
use supervisor::domain::Event;
use supervisor::domain::action::{Evacuation, Finished, Outcome, Target};

/// As the actuator has them: how long an obstacle is waited for, the first pause after an attempt that was cut off, so many at
/// once, so many that wait, and how long a queue is pulled.
const PATIENCE: Ms = 3_000;
const PAUSE_FIRST: Ms = 50;
const AT_ONCE: usize = 8;
const WAITING_MAX: usize = 64;
const BUDGET: Ms = 2_000;

/// How often HAProxy is looked at while its route holds an order up.
const LOOK_SOON: Ms = 50;

/// The orders of one HAProxy that have not ended.
#[derive(Default)]
pub(crate) struct Rescues {
    waiting: Vec<Order>,
    pub(crate) running: usize,
    looks: bool,
}

struct Order {
    evacuation: Evacuation,
    until: Ms,
    not_before: Ms,
    pause: Ms,
    /// How the last attempt ended.
    cut_off: Option<Outcome>,
}

/// One attempt.
struct Attempt {
    /// Which process of HAProxy; none: it did not answer.
    boots: Option<u64>,
    /// Requests wait in the queue: a rescue line is open.
    pulls: bool,
    takes: Ms,
}

impl World {
    /// An order to free what a server holds.
    pub(crate) fn evacuate(&mut self, evacuation: Evacuation) {
        let Some(number) = self.proxies.iter().position(|proxy| proxy.id == evacuation.proxy) else { return };
        let now = self.clock.now();
        let Some(keeper) = self.keeper(number) else { return };
        if keeper.rescues.waiting.len() >= WAITING_MAX {
            return self.evacuated(&evacuation, Outcome::Failed("too many evacuations wait".to_owned()));
        }
        let until = now + PATIENCE;
        let order = Order { evacuation, until, not_before: now, pause: PAUSE_FIRST, cut_off: None };
        keeper.rescues.waiting.push(order);
        self.at_edge(2, move |world| {
            world.route(number);
            world.advance(number);
        });
    }

    /// Begins what can begin, ends what cannot any more.
    pub(crate) fn advance(&mut self, number: usize) {
        let now = self.clock.now();
        let id = self.proxies[number].id;
        let Some(keeper) = self.keeper(number) else { return };
        let mut blocked = false;
        for order in std::mem::take(&mut keeper.rescues.waiting) {
            let Some(keeper) = self.keeper(number) else { return };
            match keeper.known.guard(id, &order.evacuation, &keeper.desired) {
                Guard::Void => self.end_order(order, Outcome::Superseded),
                Guard::Blocked if now >= order.until => {
                    let words = "the route away from it was not in force within 3 s".to_owned();
                    self.end_order(order, Outcome::Failed(words));
                }
                Guard::Clear if now >= order.not_before && keeper.rescues.running < AT_ONCE => {
                    self.attempt(number, order);
                }
                guard @ (Guard::Blocked | Guard::Clear) => {
                    blocked |= guard == Guard::Blocked;
                    keeper.rescues.waiting.push(order);
                }
            }
        }
        let Some(keeper) = self.keeper(number).filter(|_| blocked) else { return };
        if !std::mem::replace(&mut keeper.rescues.looks, true) {
            self.at_edge(LOOK_SOON, move |world| {
                if let Some(keeper) = world.keeper(number) {
                    keeper.rescues.looks = false;
                    world.look(number);
                }
            });
        }
    }

    /// The server is marked down, its sessions are shut down, its queue is pulled elsewhere.
    fn attempt(&mut self, number: usize, order: Order) {
        let now = self.clock.now();
        let Evacuation { server, refuge, .. } = order.evacuation;
        let answers = self.proxies[number].answers(now);
        let holds = self.meets(server, now).is_some_and(|met| matches!(met, Met::Silent { .. }));
        let pulls = holds && refuge.is_some();
        let longest = if pulls { BUDGET + 300 } else { 200 };
        let takes = self.proxy_rng.i64(2..longest);
        let proxy = &mut self.proxies[number];
        if answers {
            proxy.checks.entry(server).and_modify(|checks| checks.mark_down());
            if pulls {
                proxy.open_lines.insert(server.service);
                self.watch_leftovers(number);
            }
        }
        let attempt = Attempt { boots: answers.then_some(self.proxies[number].boots), pulls, takes };
        if let Some(keeper) = self.keeper(number) {
            keeper.rescues.running += 1;
        }
        self.at_edge(if answers { takes } else { 1 }, move |world| world.attempted(number, order, &attempt));
    }

    fn attempted(&mut self, number: usize, order: Order, attempt: &Attempt) {
        let now = self.clock.now();
        let Evacuation { server, refuge, .. } = order.evacuation;
        let service = self.pools.iter().position(|all| all.iter().any(|(of, ..)| *of == server));
        let helps = refuge.zip(service).is_some_and(|(site, service)| self.is_usable(number, service, site));
        let proxy = &mut self.proxies[number];
        let reached = proxy.answers(now) && attempt.boots == Some(proxy.boots);
        if reached && attempt.pulls {
            proxy.open_lines.remove(&server.service);
        }
        let Some(keeper) = self.keeper(number) else { return };
        keeper.rescues.running -= 1;
        if reached {
            let outcome = match () {
                () if attempt.pulls && !helps => {
                    Outcome::Failed("the refuge has no usable server: 3 requests wait".to_owned())
                }
                () if attempt.takes > BUDGET => {
                    Outcome::Failed("3 requests still wait in the queue after 2 s".to_owned())
                }
                () => Outcome::Done,
            };
            self.evacuated(&order.evacuation, outcome);
        } else {
            let outcome = match attempt.pulls && attempt.boots.is_some() {
                true => Outcome::Unknown("a rescue line may be open".to_owned()),
                false => Outcome::Failed("connection refused".to_owned()),
            };
            self.cut_off(number, order, outcome);
        }
        self.advance(number);
    }

    /// An attempt was cut off: another one follows, if that can still be of use.
    fn cut_off(&mut self, number: usize, mut order: Order, outcome: Outcome) {
        let at = self.clock.now() + order.pause;
        if at >= order.until {
            return self.evacuated(&order.evacuation, outcome);
        }
        let pause = order.pause;
        (order.not_before, order.pause, order.cut_off) = (at, pause * 2, Some(outcome));
        if let Some(keeper) = self.keeper(number) {
            keeper.rescues.waiting.push(order);
        }
        self.at_edge(pause, move |world| world.advance(number));
    }

    /// An attempt that was cut off has done something: its end is the one to be told.
    fn end_order(&mut self, order: Order, outcome: Outcome) {
        let outcome = order.cut_off.unwrap_or(outcome);
        self.evacuated(&order.evacuation, outcome);
    }

    fn evacuated(&mut self, order: &Evacuation, outcome: Outcome) {
        let finished = Finished { action: order.id, of: Target::Server(order.server), outcome };
        self.put_hard(Event::Finished(finished));
    }
}
