//! What this process executed, so that tests can compare it with what clients sent.
//!
//! Requests to `/` and `/items` count; probes, metrics and switches do not. The counts by method are of this
//! process and begin at 0 when it starts; the ids of changes are the store's and outlive it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::http::Method;
use serde::Serialize;

use crate::store::Changes;

/// Requests that reached a handler since the process started, by method.
#[derive(Debug, Default)]
pub(crate) struct Executed {
    by_method: Mutex<BTreeMap<&'static str, u64>>,
}

/// The answer of `GET /executed`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Requests of every method.
    total: u64,
    /// The same by method.
    by_method: BTreeMap<&'static str, u64>,
    /// What the store knows about changes, by their `X-Request-Id`.
    #[serde(flatten)]
    changes: Changes,
}

impl Executed {
    /// Counts a request that goes to its handler now.
    pub(crate) fn record(&self, method: &Method) {
        let mut counts = self.by_method.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(method_name(method)).or_default() += 1;
    }

    /// Everything that is known, with the store's part.
    pub(crate) fn report(&self, changes: Changes) -> Report {
        let by_method = self.by_method.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Report { total: by_method.values().sum(), by_method, changes }
    }
}

/// A method's name out of a fixed set: a client cannot fill memory with methods of its own.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}
