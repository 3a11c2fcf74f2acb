//! What is known of one HAProxy from look to look, and what follows from that for what is wanted of it. Pure: the
//! reconciler asks it, and the simulated world does.

use crate::domain::action::{Desired, DesiredRoute, DesiredServer, Evacuation};
use crate::domain::id::{ProxyId, ServerId, ServiceId, SiteId};
use std::collections::BTreeMap;

/// What is known of one HAProxy.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Whether the last look that succeeded found it ours to write to; none while it does not answer.
    ours: Option<bool>,
    /// What was read back since the last change. Not trusted across a look that shows otherwise.
    in_force: BTreeMap<ServiceId, DesiredRoute>,
    /// What was wanted of servers when they were told last.
    administered: BTreeMap<ServerId, DesiredServer>,
}

/// How the world stands to an order to free a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// It is not the one any more that the order was decided in.
    Void,
    /// It is; but the route away from the server is not in force.
    Blocked,
    /// It can be carried out.
    Clear,
}

impl Known {
    /// It does not answer. Gives whether that is news.
    pub fn lost(&mut self) -> bool {
        self.in_force.clear();
        self.ours.take().is_some()
    }

    /// A look: whether it is ours to write to, and the routes of its map.
    pub fn seen(&mut self, ours: bool, live: &BTreeMap<ServiceId, SiteId>) {
        self.in_force.retain(|service, route| live.get(service) == Some(&route.site));
        self.ours = Some(ours);
    }

    /// Whether it answered at the last look.
    pub fn answers(&self) -> bool {
        self.ours.is_some()
    }

    /// Whether it may be written to: nothing before the first look, nothing in a HAProxy that another supervisor owns.
    pub fn may_write(&self, wanted: &Desired) -> bool {
        wanted.active && self.ours == Some(true)
    }

    /// The routes that are wanted, and not known to be in force.
    pub fn missing(&self, wanted: &Desired) -> BTreeMap<ServiceId, DesiredRoute> {
        let missing =
            wanted.routes.iter().filter(|(service, route)| self.in_force.get(*service) != Some(*route));
        missing.map(|(service, route)| (*service, *route)).collect()
    }

    /// A route was set and read back.
    pub fn took(&mut self, service: ServiceId, route: DesiredRoute) {
        self.in_force.insert(service, route);
    }

    /// The routes that are wanted and in force.
    pub fn in_force(&self, wanted: &Desired) -> BTreeMap<ServiceId, DesiredRoute> {
        let decided =
            self.in_force.iter().filter(|(service, route)| wanted.routes.get(*service) == Some(*route));
        decided.map(|(service, route)| (*service, *route)).collect()
    }

    /// Whether something else is wanted of servers than when they were told last.
    pub fn has_new_orders(&self, wanted: &Desired) -> bool {
        wanted.servers != self.administered
    }

    /// The servers were told.
    pub fn administered(&mut self, wanted: &Desired) {
        self.administered.clone_from(&wanted.servers);
    }

    /// How the world stands to `order` in the HAProxy `proxy`. One that does not answer at the moment may be back at once, so it
    /// is an obstacle and no other world.
    pub fn guard(&self, proxy: ProxyId, order: &Evacuation, wanted: &Desired) -> Guard {
        let service = order.server.service;
        let route = wanted.routes.get(&service);
        if order.proxy != proxy
            || !wanted.active
            || self.ours == Some(false)
            || wanted.down.get(&order.server) != Some(&order.epoch)
            || route.map(|route| route.generation) != Some(order.generation)
        {
            return Guard::Void;
        }
        match self.answers() && self.in_force.get(&service) == route {
            true => Guard::Clear,
            false => Guard::Blocked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::ActionId;
    use crate::domain::testing::{proxy, server, service, site};

    fn route(place: &str, generation: u64) -> DesiredRoute {
        DesiredRoute { site: site(place), generation }
    }

    fn wanted() -> Desired {
        Desired {
            active: true,
            routes: [(service("api"), route("cloud", 2))].into(),
            down: [(server("api/api-onprem"), 7)].into(),
            ..Desired::default()
        }
    }

    fn order() -> Evacuation {
        Evacuation {
            id: ActionId(1),
            proxy: proxy(),
            server: server("api/api-onprem"),
            site: site("onprem"),
            refuge: Some(site("cloud")),
            epoch: 7,
            generation: 2,
        }
    }

    fn live(place: &str) -> BTreeMap<ServiceId, SiteId> {
        [(service("api"), site(place))].into()
    }

    #[test]
    fn nothing_is_written_before_a_look_nor_to_what_another_owns() {
        let mut known = Known::default();
        assert!(!known.may_write(&wanted()));
        known.seen(false, &live("onprem"));
        assert!(!known.may_write(&wanted()));
        known.seen(true, &live("onprem"));
        assert!(known.may_write(&wanted()));
        assert!(!known.may_write(&Desired { active: false, ..wanted() }), "told to be passive");
        assert!(known.lost() && !known.lost(), "that it is lost is news once");
        assert!(!known.may_write(&wanted()));
    }

    #[test]
    fn a_route_is_in_force_until_a_look_shows_another() {
        let mut known = Known::default();
        known.seen(true, &live("onprem"));
        assert_eq!(known.missing(&wanted()), wanted().routes);
        known.took(service("api"), route("cloud", 2));
        known.seen(true, &live("cloud"));
        assert!(known.missing(&wanted()).is_empty());
        assert_eq!(known.in_force(&wanted()), wanted().routes);
        known.seen(true, &live("onprem"));
        assert_eq!(known.missing(&wanted()), wanted().routes);
    }

    #[test]
    fn a_newer_generation_of_the_same_site_is_set_again() {
        let mut known = Known::default();
        known.took(service("api"), route("cloud", 1));
        known.seen(true, &live("cloud"));
        assert_eq!(known.missing(&wanted()), wanted().routes);
        assert!(
            known.in_force(&wanted()).is_empty(),
            "old workers are told nothing that is not decided any more"
        );
    }

    #[test]
    fn an_evacuation_waits_for_its_route_and_ends_with_its_verdict() {
        let mut known = Known::default();
        let guard = |known: &Known, wanted: &Desired| known.guard(proxy(), &order(), wanted);
        assert_eq!(guard(&known, &wanted()), Guard::Blocked, "HAProxy may be back at once");
        known.seen(true, &live("onprem"));
        assert_eq!(guard(&known, &wanted()), Guard::Blocked);
        known.took(service("api"), route("cloud", 2));
        assert_eq!(guard(&known, &wanted()), Guard::Clear);
        assert_eq!(guard(&known, &Desired { active: false, ..wanted() }), Guard::Void);
        assert_eq!(
            guard(&known, &Desired { down: BTreeMap::new(), ..wanted() }),
            Guard::Void,
            "it is up again"
        );
        let down = [(server("api/api-onprem"), 8)].into();
        assert_eq!(guard(&known, &Desired { down, ..wanted() }), Guard::Void, "it is down again");
        let routes = [(service("api"), route("cloud", 3))].into();
        assert_eq!(guard(&known, &Desired { routes, ..wanted() }), Guard::Void, "routed again");
        known.seen(false, &live("cloud"));
        assert_eq!(guard(&known, &wanted()), Guard::Void, "another's now");
    }
}
