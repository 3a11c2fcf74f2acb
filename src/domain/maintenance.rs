//! A server that a person takes out of service, and puts back.

use super::command::Operator;
use super::time::{Boot, Wall};
use serde::{Deserialize, Serialize};
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
