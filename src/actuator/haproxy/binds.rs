//! Finds addresses that a new configuration would bind and somebody else already has.
//!
//! `haproxy -c` does not bind, and a reload that cannot bind stops all traffic for two seconds before HAProxy gives up.
//! Best effort: it looks at plain TCP addresses only, and only where we share HAProxy's network.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// The plain TCP addresses of all `bind` lines. Others (Unix sockets, inherited descriptors, names, port ranges) are left
/// to HAProxy.
pub(crate) fn addresses(config: &str) -> BTreeSet<SocketAddr> {
    let binds = config.lines().filter_map(|line| line.trim().strip_prefix("bind "));
    binds
        .filter_map(|rest| rest.split_whitespace().next())
        .flat_map(|list| list.split(','))
        .filter_map(|address| {
            let address = ["ipv4@", "ipv6@"].iter().find_map(|p| address.strip_prefix(p)).unwrap_or(address);
            let (host, port) = address.rsplit_once(':')?;
            let host = match host {
                "" | "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                host => host.trim_start_matches('[').trim_end_matches(']').parse().ok()?,
            };
            Some(SocketAddr::new(host, port.parse().ok()?))
        })
        .collect()
}

/// The first address of `new` that `old` does not have and that cannot be bound. Binds and releases each for a moment.
pub(crate) fn conflict(old: &str, new: &str) -> Option<(SocketAddr, io::Error)> {
    let held = addresses(old);
    let ours = |wanted: &SocketAddr| {
        // The running HAProxy shares a port with itself, also between one address and all of them.
        held.iter().any(|have| {
            have.port() == wanted.port()
                && (have.ip() == wanted.ip() || have.ip().is_unspecified() || wanted.ip().is_unspecified())
        })
    };
    let wanted = addresses(new);
    let mut unknown = wanted.iter().filter(|address| !ours(address));
    unknown.find_map(|address| match TcpListener::bind(address) {
        Ok(_) => None,
        // HAProxy may be allowed what we are not.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(error) => Some((*address, error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_addresses_are_found_and_others_left_alone() {
        let config = "frontend a\n  bind *:80,:81 ssl crt /x\n  bind 127.0.0.1:82\n  bind [::1]:83\n  bind ipv4@10.0.0.1:84\n\
                      \x20 bind /run/s.sock\n  bind fd@3\n  bind name:85\n  bind :86-90\n# bind :91\n";
        let found: Vec<String> = addresses(config).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["0.0.0.0:80", "0.0.0.0:81", "10.0.0.1:84", "127.0.0.1:82", "[::1]:83"]);
    }

    #[test]
    fn only_an_address_that_is_new_and_taken_is_a_conflict() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().map(|addr| (taken, addr)).unwrap();
        let bind = format!("bind {}\n", taken.1);
        assert_eq!(conflict("", &bind).map(|(addr, _)| addr), Some(taken.1));
        assert!(conflict(&bind, &bind).is_none(), "HAProxy has it already");
        assert!(conflict(&format!("bind *:{}\n", taken.1.port()), &bind).is_none());
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(conflict("", &format!("bind {free}\n")).is_none());
    }
}
