//! What a person is told about an order: the decision it led to, as a [`Reply`].

use crate::control::{Answer, Reply, RouteOrdered, ServerOrdered, TestOrdered};
use crate::domain::action::Action;
use crate::domain::change::Change;
use crate::domain::incident::Trouble;
use crate::domain::{Decision, Order, Verdict};
use crate::present;

/// The reply to `order`, from the decision that answers it; none if the decision answers nothing. With `dry_run` the
/// decision was made on a copy and nothing of it is done.
pub fn answer(order: &Order, dry_run: bool, decision: &Decision) -> Option<Reply> {
    let verdict = decision.actions.iter().find_map(|action| match action {
        Action::Answer { verdict, .. } => Some(verdict),
        Action::Route { .. }
        | Action::Pace { .. }
        | Action::Evacuate(_)
        | Action::Heal(_)
        | Action::Mail(_) => None,
    })?;
    let ordered = match order {
        Order::Failover { service, .. } | Order::Failback { service, .. } => Some(*service),
        Order::Maintain { server, .. } => Some(server.service),
        Order::Pause { .. } | Order::Resume { .. } | Order::TestAlert => None,
    };
    let route = decision.actions.iter().rev().find_map(|action| match action {
        Action::Route { service, site, generation } if Some(*service) == ordered => {
            Some(RouteOrdered { site: *site, generation: *generation })
        }
        Action::Route { .. }
        | Action::Pace { .. }
        | Action::Evacuate(_)
        | Action::Heal(_)
        | Action::Mail(_)
        | Action::Answer { .. } => None,
    });
    let (short, durable, denial) = match verdict {
        Verdict::Accepted { durable } => (Answer::Accepted, Some(*durable), None),
        Verdict::AlreadySo => (Answer::AlreadySo, None, None),
        // A denial is plain data: it always becomes JSON. Should it not, the words still say it.
        Verdict::Denied(denial) => (Answer::Denied, None, serde_json::to_value(denial).ok()),
    };
    let words = present::verdict(order, verdict);
    let test = (*order == Order::TestAlert && short == Answer::Accepted).then(|| test_ordered(decision));
    Some(Reply {
        verdict: short,
        words,
        dry_run,
        durable,
        denial,
        plan: present::plan(decision),
        route,
        server: decision.changes.iter().find_map(|change| server_ordered(order, change)),
        test,
        config: None,
        stands: None,
        history: None,
        difference: None,
    })
}

/// An order may also put back a server that it is not about, whose time is over.
fn server_ordered(order: &Order, change: &Change) -> Option<ServerOrdered> {
    match (order, change) {
        (Order::Maintain { server, admin, .. }, Change::Out { server: of, out: Some(out) })
            if server == of && *admin == out.admin =>
        {
            Some(ServerOrdered { server: *server, admin: *admin, generation: out.generation })
        }
        _ => None,
    }
}

fn test_ordered(decision: &Decision) -> TestOrdered {
    let mail = decision.actions.iter().find_map(|action| match action {
        Action::Mail(mail) => Some(mail.id.0),
        Action::Route { .. }
        | Action::Pace { .. }
        | Action::Evacuate(_)
        | Action::Heal(_)
        | Action::Answer { .. } => None,
    });
    let incident = decision.changes.iter().find_map(|change| match change {
        Change::Incident { id, incident: Some(opened) } if opened.trouble == Trouble::Test => Some(id.0),
        _ => None,
    });
    TestOrdered { mail, incident }
}
