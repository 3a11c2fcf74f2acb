//! What HAProxy is told to remember of its servers through a reload.
//!
//! Without this a reload believes in a server that was down, and sends it traffic until its checks fail again. But the
//! file is stronger than the configuration: a line with an old port overrides a changed one (haproxy issues 1412, 2103,
//! 3296). So only lines that agree with the new configuration in address and port are carried over.

use super::naming;
use super::reply::{self, ReplyError, ServerState};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A file that tells nothing. An empty one makes HAProxy warn.
pub(crate) const NOTHING: &str = "1\n";

/// The lines of `show servers state` that still hold under `config`, in the form of the state file.
pub(crate) fn carry_over(reply: &str, config: &str) -> Result<String, ReplyError> {
    let wanted = servers(config);
    let holds = |state: &ServerState| {
        let Some(&(host, port)) = wanted.get(&(state.backend.as_str(), state.server.as_str())) else {
            return false;
        };
        let same_host = match host.parse::<IpAddr>() {
            Ok(addr) => state.addr == Some(addr),
            Err(_) => state.fqdn.as_deref() == Some(host) && state.addr.is_some(),
        };
        // A spare line follows the server that it tracks, or stays in maintenance: nothing of its own to remember.
        same_host && state.port == port && !state.admin.unresolved() && !naming::is_spare_line(&state.server)
    };
    let states = reply::servers_state(reply)?;
    let header = reply.lines().nth(1).unwrap_or_default().trim_end();
    let kept: Vec<&str> =
        states.iter().filter(|state| holds(state)).map(|state| state.line.as_str()).collect();
    Ok(if kept.is_empty() { NOTHING.to_owned() } else { format!("1\n{header}\n{}\n", kept.join("\n")) })
}

/// Every `server` line of a configuration: backend and name to host and port.
fn servers(config: &str) -> BTreeMap<(&str, &str), (&str, u16)> {
    let mut servers = BTreeMap::new();
    let mut section = None;
    for line in config.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("backend" | "listen") => section = words.next(),
            Some(
                "global" | "defaults" | "frontend" | "resolvers" | "peers" | "userlist" | "cache" | "ring",
            ) => {
                section = None;
            }
            Some("server") => {
                let (Some(backend), Some(name), Some(address)) = (section, words.next(), words.next()) else {
                    continue;
                };
                let Some((host, port)) = address.rsplit_once(':') else { continue };
                let Ok(port) = port.parse() else { continue };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                servers.insert((backend, name), (host, port));
            }
            _ => {}
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
                          srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
                          srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl \
                          srv_check_port srv_check_addr srv_agent_addr srv_agent_port";

    fn line(server: &str, addr: &str, admin: u8, fqdn: &str, port: u16) -> String {
        format!("3 b 1 {server} {addr} 0 {admin} 1 1 8 8 2 0 6 0 0 0 {fqdn} {port} - 0 0 - - 0")
    }

    #[test]
    fn only_lines_that_agree_with_the_new_configuration_are_carried_over() {
        let config = "backend b\n  server same 10.0.0.1:80\n  server moved 10.0.0.2:81\n  server elsewhere 10.0.0.9:80\n\
                      \x20 server name host.example:80 check\n  server other name2.example:80\n  server lost host3:80\n\
                      \x20 server x__cloud 10.0.0.1:80 backup\nfrontend f\n  server ghost 10.0.0.1:80\n";
        let kept = [line("same", "10.0.0.1", 0, "-", 80), line("name", "10.0.0.4", 1, "host.example", 80)];
        let dropped = [
            line("moved", "10.0.0.2", 0, "-", 80),
            line("elsewhere", "10.0.0.3", 0, "-", 80),
            line("other", "10.0.0.5", 0, "host.example", 80),
            line("lost", "-", 32, "host3", 80),
            line("x__cloud", "10.0.0.1", 0, "-", 80),
            line("ghost", "10.0.0.1", 0, "-", 80),
            line("gone", "10.0.0.1", 0, "-", 80),
        ];
        let reply = format!("1\n{HEADER}\n{}\n{}\n", kept.join("\n"), dropped.join("\n"));
        assert_eq!(carry_over(&reply, config).unwrap(), format!("1\n{HEADER}\n{}\n", kept.join("\n")));
        assert_eq!(carry_over(&format!("1\n{HEADER}\n{}\n", dropped.join("\n")), config).unwrap(), NOTHING);
        assert!(carry_over("Permission denied", config).is_err());
    }
}
