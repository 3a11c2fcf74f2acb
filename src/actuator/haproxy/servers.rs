//! Takes servers out of service in HAProxy, and puts them back: as is wanted, and no more than that.
//!
//! Each time: read what is, and write what differs. What came of it is for the next look to see; nothing is told as done
//! because a command was answered. What is wanted, and what is somebody else's and left alone, is [`agreement`]'s to say.
//!
//! Only the servers of the pools themselves are told: the backup lines that lead to them from other pools `track` them, and
//! follow into drain and maintenance by themselves. Rescue lines are the evacuation's. That marks a server *down*, which is
//! a matter of health: both hold at the same time, and neither ends the other.
//!
//! Only the current worker is told. Old ones refuse (`Proxy is disabled.`): clients that kept their connection through a
//! reload may reach a server that was taken out after it, until they end, within a minute (`hard-stop-after`). A reload
//! carries the states over (`server_state`); a HAProxy that starts anew has none, and is told again.

use super::command::{AdminState, CheckVerdict, Command};
use super::ident::Ident;
use super::naming;
use super::observe::Observed;
use super::reply::{self, AdminBits};
use super::runtime::{Runtime, RuntimeError, Worker};
use crate::domain::action::Desired;
use crate::domain::id::{ServerId, ServiceId};
use crate::domain::maintenance::{Admin, AdminSeen, Agreement, agreement};
use std::collections::BTreeMap;

/// The administrative state of server lines, by backend and name.
type Bits<'a> = BTreeMap<(&'a str, &'a str), AdminBits>;

/// Makes the servers what is wanted of them, where they are not and may be. Gives how many were told.
pub(super) async fn administer(runtime: &Runtime, wanted: &Desired) -> Result<usize, RuntimeError> {
    let states = runtime.ask(Worker::Current, &Command::show_servers_state()).await?;
    let states = reply::servers_state(&states)?;
    let bits =
        states.iter().map(|state| ((state.backend.as_str(), state.server.as_str()), state.admin)).collect();
    let commands = commands(wanted, &bits);
    let replies = match commands.as_slice() {
        [] => return Ok(0),
        commands => runtime.ask_all(Worker::Current, commands).await?,
    };
    // Each stands alone: one that is refused holds up no other.
    let done = commands.iter().zip(&replies).map(|(command, text)| reply::done(command.name(), text));
    done.collect::<Result<Vec<()>, _>>()?;
    Ok(commands.len())
}

/// Whether a look shows a server otherwise than it is wanted.
pub(super) fn differ(wanted: &Desired, seen: &Observed) -> bool {
    let bits = seen
        .servers
        .iter()
        .map(|((backend, server), seen)| ((backend.as_str(), server.as_str()), seen.admin))
        .collect();
    !commands(wanted, &bits).is_empty()
}

/// The servers of pools that are out of service, by whomever's order.
pub(super) fn out(seen: &Observed) -> BTreeMap<ServerId, AdminSeen> {
    let entry = |((backend, server), seen): (&(String, String), &super::ServerSeen)| {
        let (service, _) = naming::pool_of(backend).filter(|_| !naming::is_spare_line(server))?;
        let id = ServerId { service: service.parse::<ServiceId>().ok()?, server: server.parse().ok()? };
        Some((id, admin(seen.admin))).filter(|(_, seen)| *seen != AdminSeen::default())
    };
    seen.servers.iter().filter_map(entry).collect()
}

/// HAProxy sets the bit of an order for `disabled` in its configuration, too: that is nobody's order.
fn admin(bits: AdminBits) -> AdminSeen {
    AdminSeen {
        drain: bits.forced_drain(),
        maint: bits.forced_maint() && !bits.configured(),
        disabled: bits.forced_maint() && bits.configured(),
    }
}

/// What is to be said so that servers are as wanted. A server that HAProxy does not have yet comes with its configuration.
fn commands(wanted: &Desired, bits: &Bits<'_>) -> Vec<Command> {
    let mut commands = Vec::new();
    for (id, server) in &wanted.servers {
        let backend = naming::pool_backend(id.service.as_str(), server.site.as_str());
        let (Ok(backend), Ok(line)) = (backend, id.server.as_str().parse::<Ident>()) else { continue };
        let Some(bits) = bits.get(&(backend.as_str(), line.as_str())) else { continue };
        match agreement(server.admin, &server.ours, admin(*bits)) {
            Agreement::InForce | Agreement::Held => continue,
            Agreement::Differs => {}
        }
        let state = match server.admin {
            Admin::Ready => AdminState::Ready,
            Admin::Drain => AdminState::Drain,
            Admin::Maint => AdminState::Maint,
        };
        commands.push(Command::set_server_state(&backend, &line, state));
        // HAProxy believes in a server that comes out of maintenance until its checks fail. Of this one we know better.
        if server.admin == Admin::Ready && bits.forced_maint() && wanted.down.contains_key(id) {
            commands.push(Command::set_server_health(&backend, &line, CheckVerdict::Down));
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::DesiredServer;

    fn id(server: &str) -> ServerId {
        ServerId { service: "api".parse().unwrap(), server: server.parse().unwrap() }
    }

    fn wanted(admin: Admin, ours: &[Admin]) -> Desired {
        let ours = ours.iter().copied().collect();
        let server = DesiredServer { site: "onprem".parse().unwrap(), admin, ours };
        Desired { active: true, servers: BTreeMap::from([(id("a1"), server)]), ..Desired::default() }
    }

    fn said(wanted: &Desired, bits: u32) -> Vec<String> {
        let lines = [
            (("api__onprem", "a1"), AdminBits(bits)),
            (("api__cloud", "x__onprem__a1"), AdminBits(bits << 1)),
            (("api__onprem", "r__cloud"), AdminBits(5)),
        ];
        commands(wanted, &lines.into()).iter().map(|command| command.text().to_owned()).collect()
    }

    /// The bits of the management guide: 1 maint, 2 inherited maint, 4 `disabled`, 8 drain, 16 inherited drain, 32 its name
    /// does not resolve.
    #[test]
    fn what_differs_is_said_and_what_is_not_ours_is_left_alone() {
        use Admin::{Drain, Maint, Ready};
        let (drain, maint, ready) = (
            "set server api__onprem/a1 state drain",
            "set server api__onprem/a1 state maint",
            "set server api__onprem/a1 state ready",
        );
        let table: [(Admin, &[Admin], u32, &[&str]); 19] = [
            (Drain, &[Drain], 0, &[drain]),
            (Drain, &[Drain], 8, &[]),
            (Drain, &[Drain], 32, &[drain]),
            (Drain, &[Drain], 40, &[]),
            (Drain, &[Drain], 1, &[]),
            (Drain, &[Drain], 5, &[]),
            (Drain, &[Drain, Maint], 1, &[drain]),
            (Maint, &[Maint], 0, &[maint]),
            (Maint, &[Maint], 8, &[maint]),
            (Maint, &[Maint], 33, &[]),
            (Maint, &[Maint], 5, &[]),
            // `disabled`, and somebody has enabled it since.
            (Maint, &[Maint], 4, &[maint]),
            (Ready, &[Drain], 8, &[ready]),
            (Ready, &[Drain], 1, &[]),
            (Ready, &[Drain], 9, &[]),
            (Ready, &[Drain, Maint], 9, &[ready]),
            (Ready, &[Maint], 33, &[ready]),
            (Ready, &[Maint], 5, &[]),
            (Ready, &[Maint], 0, &[]),
        ];
        for (admin, ours, bits, expected) in table {
            assert_eq!(said(&wanted(admin, ours), bits), expected, "{admin}, ours {ours:?}, bits {bits}");
        }
    }

    #[test]
    fn a_server_that_comes_out_of_maintenance_is_not_believed_in_while_it_is_down() {
        let mut back = wanted(Admin::Ready, &[Admin::Maint]);
        back.down.insert(id("a1"), 3);
        assert_eq!(
            said(&back, 1),
            ["set server api__onprem/a1 state ready", "set server api__onprem/a1 health down"]
        );
        // In drain HAProxy's own checks go on, and know.
        let mut drained = wanted(Admin::Ready, &[Admin::Drain]);
        drained.down.insert(id("a1"), 3);
        assert_eq!(said(&drained, 8), ["set server api__onprem/a1 state ready"]);
    }

    #[test]
    fn a_server_that_haproxy_does_not_have_is_waited_for() {
        let mut elsewhere = wanted(Admin::Drain, &[Admin::Drain]);
        elsewhere.servers.values_mut().for_each(|server| server.site = "moon".parse().unwrap());
        assert!(said(&elsewhere, 0).is_empty());
    }
}
