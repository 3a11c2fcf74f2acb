//! A server that a person takes out of service, and puts back; and what HAProxy is to make of it.
//!
//! The order ([`Maintenance`]) is one thing, what follows from it in each HAProxy ([`Out`]) another: the order may end while
//! an HAProxy is lost, or while supervisor does not run, and the server must be put back there all the same. So `Out` is
//! there from the order that takes the server out until the last HAProxy has shown it back in service, and stored with the
//! state. What an HAProxy shows beyond that, somebody set by hand: it is left alone ([`agreement`]).

use super::command::Operator;
use super::id::ProxyId;
use super::state::Pending;
use super::time::{Boot, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Whether a server is in service, in HAProxy's words (HAProxy management guide, `set server … state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admin {
    /// It gets requests when it is healthy.
    #[default]
    Ready,
    /// It gets no new clients; what it has, it finishes. It is checked still.
    Drain,
    /// It gets nothing, and is not checked by HAProxy.
    Maint,
}

/// A server is out of service because a person wants it so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// How far out; never [`Admin::Ready`].
    pub admin: Admin,
    /// Who wants it.
    pub by: Operator,
    /// Why, in their words.
    pub because: Option<String>,
    /// Since when.
    pub at: Wall,
    /// Until when; none: until a person puts it back.
    pub until: Option<Boot>,
}

/// What the HAProxy instances of a service are to make of one of its servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out {
    /// How far out; ready: it is being put back.
    pub admin: Admin,
    /// Grows with each order about a server of the service: names what an answer to an order speaks of.
    pub generation: u64,
    /// Since when it is to be so.
    pub since: Boot,
    /// What it may be in an HAProxy because of us, since it was in service last; never [`Admin::Ready`].
    pub ours: BTreeSet<Admin>,
    /// The HAProxy instances that have not shown it so.
    pub pending: BTreeMap<ProxyId, Pending>,
}

impl Out {
    /// With `proxy` having shown it so; none when nothing is left to be done.
    pub fn confirmed(mut self, proxy: ProxyId) -> Option<Out> {
        self.pending.remove(&proxy);
        if self.pending.is_empty() {
            self.ours.retain(|admin| *admin == self.admin);
        }
        Some(self).filter(Out::is_wanted)
    }

    /// Whether there is something to be done, or to be kept up.
    pub fn is_wanted(&self) -> bool {
        self.admin != Admin::Ready || !self.pending.is_empty()
    }

    /// The HAProxy instances that should have shown it so long ago.
    pub fn late(&self) -> impl Iterator<Item = ProxyId> {
        self.pending.iter().filter(|(_, pending)| pending.late).map(|(proxy, _)| *proxy)
    }
}

/// Why a server is out of service in one HAProxy, as far as people can have to do with it (HAProxy management guide,
/// `show servers state`, `srv_admin_state`). Several reasons may hold at once; maintenance is then stronger than drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AdminSeen {
    /// `set server … state drain`, of whomever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
    /// `set server … state maint`, of whomever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maint: bool,
    /// HAProxy's configuration says `disabled`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

impl AdminSeen {
    /// What it comes to.
    pub fn admin(self) -> Admin {
        match self {
            AdminSeen { maint: true, .. } | AdminSeen { disabled: true, .. } => Admin::Maint,
            AdminSeen { drain: true, .. } => Admin::Drain,
            AdminSeen { drain: false, maint: false, disabled: false } => Admin::Ready,
        }
    }
}

/// How a server in an HAProxy stands to what is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// It is so.
    InForce,
    /// It is not, and can be set.
    Differs,
    /// What is ours can only be taken back together with what somebody else set: it is waited until they take theirs back.
    Held,
}

/// Whether a server is as it is wanted, in an HAProxy that shows `seen`. `ours`: what it may be there because of us.
///
/// - Further out than wanted is good enough where it is not our doing: nobody gets requests against a person's will.
/// - Put back is what is ours, and nothing else.
pub fn agreement(wanted: Admin, ours: &BTreeSet<Admin>, seen: AdminSeen) -> Agreement {
    let (our_drain, our_maint) = (ours.contains(&Admin::Drain), ours.contains(&Admin::Maint));
    match (wanted, seen.admin()) {
        (Admin::Drain, Admin::Drain) | (Admin::Maint, Admin::Maint) => Agreement::InForce,
        (Admin::Drain, Admin::Maint) if our_maint && seen.maint => Agreement::Differs,
        (Admin::Drain, Admin::Maint) => Agreement::InForce,
        (Admin::Drain | Admin::Maint, Admin::Ready) | (Admin::Maint, Admin::Drain) => Agreement::Differs,
        (Admin::Ready, _) => {
            let ours_left = seen.drain && our_drain || seen.maint && our_maint;
            let anothers = seen.drain && !our_drain || seen.maint && !our_maint || seen.disabled;
            match (ours_left, anothers) {
                (false, _) => Agreement::InForce,
                (true, true) => Agreement::Held,
                (true, false) => Agreement::Differs,
            }
        }
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Admin::Ready => "ready",
            Admin::Drain => "drain",
            Admin::Maint => "maint",
        })
    }
}

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Admin, String> {
        match text {
            "ready" => Ok(Admin::Ready),
            "drain" => Ok(Admin::Drain),
            "maint" => Ok(Admin::Maint),
            other => Err(format!("{other:?} is not ready, drain or maint")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::assert_table;

    fn seen(text: &str) -> AdminSeen {
        let has = |letter| text.contains(letter);
        AdminSeen { drain: has('d'), maint: has('m'), disabled: has('c') }
    }

    fn ours(text: &str) -> BTreeSet<Admin> {
        let admin = |letter| if letter == 'd' { Admin::Drain } else { Admin::Maint };
        text.chars().map(admin).collect()
    }

    /// d: drain, m: maint, c: `disabled` in the configuration.
    #[test]
    fn what_is_ours_is_set_and_put_back_and_what_is_not_is_left_alone() {
        use Admin::{Drain, Maint, Ready};
        use Agreement::{Differs, Held, InForce};
        let table = [
            (Drain, "d", "", Differs),
            (Drain, "d", "d", InForce),
            (Drain, "d", "m", InForce),
            (Drain, "d", "c", InForce),
            (Drain, "d", "dm", InForce),
            // It was ordered to be less far out.
            (Drain, "dm", "m", Differs),
            (Drain, "dm", "c", InForce),
            (Maint, "m", "", Differs),
            (Maint, "m", "d", Differs),
            (Maint, "m", "m", InForce),
            (Maint, "m", "c", InForce),
            (Maint, "m", "dm", InForce),
            (Ready, "d", "", InForce),
            (Ready, "d", "d", Differs),
            (Ready, "m", "m", Differs),
            (Ready, "dm", "d", Differs),
            (Ready, "dm", "dm", Differs),
            // By hand, by somebody else.
            (Ready, "d", "m", InForce),
            (Ready, "m", "d", InForce),
            (Ready, "dm", "c", InForce),
            (Ready, "d", "dm", Held),
            (Ready, "m", "dm", Held),
            (Ready, "d", "dc", Held),
        ];
        for (wanted, because_of_us, shown, expected) in table {
            let found = agreement(wanted, &ours(because_of_us), seen(shown));
            assert_eq!(found, expected, "{wanted}, ours {because_of_us:?}, seen {shown:?}");
        }
    }
    /// The same without a gap. `-`: nothing; a row is what is wanted, and what may be there because of us.
    #[test]
    fn no_agreement_is_left_out() {
        let table = "
         -       d       m       c  dm      dc   mc      dmc
drain,-  differs so      so      so so      so   so      so
drain,d  differs so      so      so so      so   so      so
drain,m  differs so      differs so differs so   differs differs
drain,dm differs so      differs so differs so   differs differs
maint,-  differs differs so      so so      so   so      so
maint,d  differs differs so      so so      so   so      so
maint,m  differs differs so      so so      so   so      so
maint,dm differs differs so      so so      so   so      so
ready,-  so      so      so      so so      so   so      so
ready,d  so      differs so      so held    held so      held
ready,m  so      so      differs so held    so   held    held
ready,dm so      differs differs so differs held held    held
";
        let seen_ones = ["-", "d", "m", "c", "dm", "dc", "mc", "dmc"];
        let mut rows = Vec::new();
        for wanted in [Admin::Drain, Admin::Maint, Admin::Ready] {
            rows.extend(["-", "d", "m", "dm"].map(|by_us| format!("{wanted},{by_us}")));
        }
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        assert_table(table, &seen_ones, &rows, |shown, row| {
            let (wanted, by_us) = row.split_once(',').unwrap();
            let found = agreement(wanted.parse().unwrap(), &ours(by_us.trim_matches('-')), seen(shown));
            match found {
                Agreement::InForce => "so",
                Agreement::Differs => "differs",
                Agreement::Held => "held",
            }
            .to_owned()
        });
    }
}
