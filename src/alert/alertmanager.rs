//! Alerts at an Alertmanager: a desired value that is posted and read back again and again.

mod desired;

pub use desired::{Alert, DELIVERED_BY, alerts};

#[cfg(test)]
mod tests;
