//! How services, sites and servers are called inside HAProxy.
//!
//! The double underscore joins: names in the settings never contain it, so a joined name can be taken apart again.

use super::ident::{Ident, IdentError};

/// Joins a service and a site.
pub const JOINER: &str = "__";

/// The backend that holds the servers of `service` at `site`.
pub fn pool_backend(service: &str, site: &str) -> Result<Ident, IdentError> {
    format!("{service}{JOINER}{site}").parse()
}

/// The service and the site of a backend that [`pool_backend`] named.
pub fn pool_of(backend: &str) -> Option<(&str, &str)> {
    backend.split_once(JOINER).filter(|(service, site)| !service.is_empty() && !site.is_empty())
}

/// The line that lists a server of another site as `backup`. `server` is none where that site has only one.
pub fn backup_line(site: &str, server: Option<&str>) -> Result<Ident, IdentError> {
    match server {
        None => format!("x{JOINER}{site}").parse(),
        Some(server) => format!("x{JOINER}{site}{JOINER}{server}").parse(),
    }
}

/// The spare line through which the queue is pulled to `site`: see [`evacuate`](super::evacuate()).
pub fn rescue_line(site: &str) -> Result<Ident, IdentError> {
    format!("r{JOINER}{site}").parse()
}

/// Whether a server line is one of ours for another site, not a server of the pool itself.
pub fn is_spare_line(server: &str) -> bool {
    spare_site(server).is_some()
}

/// The site that a spare line leads to.
pub fn spare_site(server: &str) -> Option<&str> {
    let rest = server.strip_prefix(['x', 'r'])?.strip_prefix(JOINER)?;
    Some(rest.split_once(JOINER).map_or(rest, |(site, _)| site))
}

/// Whether a server line is a rescue line.
pub fn is_rescue_line(server: &str) -> bool {
    server.strip_prefix('r').is_some_and(|rest| rest.starts_with(JOINER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_name_can_be_taken_apart() {
        assert_eq!(pool_of(pool_backend("my-api", "on_prem").unwrap().as_str()), Some(("my-api", "on_prem")));
        assert_eq!(pool_of("be_unrouted"), None);
        assert_eq!(pool_of("__x"), None);
    }

    #[test]
    fn no_server_of_the_settings_is_taken_for_a_spare_line() {
        for name in ["x_cloud", "r_cloud", "x", "r1", "rack-1"] {
            assert!(!is_spare_line(name), "{name}");
        }
        assert!(is_spare_line(backup_line("cloud", None).unwrap().as_str()));
        assert!(is_spare_line(backup_line("cloud", Some("c1")).unwrap().as_str()));
        assert!(is_rescue_line(rescue_line("cloud").unwrap().as_str()));
        assert_eq!(spare_site(rescue_line("on_prem").unwrap().as_str()), Some("on_prem"));
        assert_eq!(spare_site(backup_line("cloud", Some("c_1")).unwrap().as_str()), Some("cloud"));
        assert!(!is_rescue_line(backup_line("cloud", None).unwrap().as_str()));
    }
}
