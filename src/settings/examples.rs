//! For each key, a line that is right. Every message about a mistake ends with one.

use super::key::Key;

/// An example for `key`.
pub(crate) fn of(key: &Key) -> Option<&'static str> {
    let example = match key.segments().as_slice() {
        ["state_dir"] => r#"state_dir = "/var/lib/supervisor""#,
        ["control_socket"] => r#"control_socket = "/run/supervisor/control.sock""#,
        ["startup_grace"] => r#"startup_grace = "5s""#,
        ["lateness"] => r#"lateness = "2s""#,
        ["status"] => "[status]",
        ["status", "listen"] => r#"listen = "127.0.0.1:9480""#,
        ["log"] => "[log]",
        ["log", "format"] => r#"format = "json""#,
        ["log", "level"] => r#"level = "info""#,
        ["journal"] => "[journal]",
        ["journal", "max_age"] => r#"max_age = "30d""#,
        ["journal", "max_size"] => r#"max_size = "256MiB""#,
        ["alerts"] => "[alerts]",
        ["alerts", "alertmanagers"] | ["alerts", "alertmanagers", _] => "[alerts.alertmanagers.am1]",
        ["alerts", "alertmanagers", _, key] => alertmanager(key)?,
        ["alerts", "fallback_after"] => r#"fallback_after = "60s""#,
        ["alerts", "notify_grace"] => r#"notify_grace = "90s""#,
        ["mail"] => "[mail]",
        ["mail", "from"] => r#"from = "supervisor@example.com""#,
        ["mail", "to"] => r#"to = ["oncall@example.com"]"#,
        ["mail", "helo"] => r#"helo = "node-1.example.com""#,
        ["mail", "relays"] | ["mail", "relays", _] => "[mail.relays.main]",
        ["mail", "relays", _, key] => relay(key)?,
        ["heal"] => "[heal]",
        ["heal", key] => healing(key)?,
        ["containers"] | ["containers", _] => "[containers.alertmanager]",
        ["containers", _, "heal", key] => heal(key)?,
        ["containers", _, key] => container(key)?,
        ["engines"] | ["engines", _] => "[engines.local]",
        ["engines", _, key] => engine(key)?,
        ["sites"] | ["sites", _] => "[sites.onprem]",
        ["sites", _, "engine"] => r#"engine = "local""#,
        ["proxies"] | ["proxies", _] => "[proxies.haproxy-server]",
        ["proxies", _, "timeouts", key] => timeout(key)?,
        ["proxies", _, "snippets", key] => proxy_snippet(key)?,
        ["proxies", _, "heal", key] => heal(key)?,
        ["proxies", _, key] => proxy(key)?,
        ["services"] | ["services", _] => "[services.api]",
        ["services", _, "ready" | "live", key] => probe(key)?,
        ["services", _, "tls", key] => tls(key)?,
        ["services", _, "snippets", key] => service_snippet(key)?,
        ["services", _, "failback", key] => failback(key)?,
        ["services", _, "flapping", key] => flapping(key)?,
        ["services", _, "servers"] | ["services", _, "servers", _] => "[services.api.servers.api-onprem]",
        ["services", _, "servers", _, "ready" | "live", key] => probe(key)?,
        ["services", _, "servers", _, "heal", key] => heal(key)?,
        ["services", _, "servers", _, key] => server(key)?,
        ["services", _, key] => service(key)?,
        _ => return None,
    };
    Some(example)
}

/// Whether the value of `key` is a list.
pub(crate) fn is_list(key: &Key) -> bool {
    matches!(
        key.segments().as_slice(),
        ["proxies", _, "resolvers"]
            | ["mail", "to"]
            | ["services", _, "prefer" | "proxies"]
            | ["services", _, "failback", "hours"]
            | ["services", _, "ready" | "live", "status"]
            | ["services", _, "servers", _, "ready" | "live", "status"]
    )
}

fn engine(key: &str) -> Option<&'static str> {
    Some(match key {
        "address" => r#"address = "unix:///var/run/docker.sock""#,
        "resync" => r#"resync = "30s""#,
        _ => return None,
    })
}

fn alertmanager(key: &str) -> Option<&'static str> {
    Some(match key {
        "url" => r#"url = "http://alertmanager:9093""#,
        "user" => r#"user = "supervisor""#,
        "password_file" => r#"password_file = "/etc/supervisor/alertmanager-password""#,
        "password_credential" => r#"password_credential = "alertmanager-password""#,
        "token_file" => r#"token_file = "/etc/supervisor/alertmanager-token""#,
        "token_credential" => r#"token_credential = "alertmanager-token""#,
        "ca_file" => r#"ca_file = "/etc/supervisor/ca.pem""#,
        _ => return None,
    })
}

fn relay(key: &str) -> Option<&'static str> {
    Some(match key {
        "host" => r#"host = "smtp.example.com""#,
        "port" => "port = 465",
        "tls" => r#"tls = "implicit""#,
        "user" => r#"user = "supervisor@example.com""#,
        "password_file" => r#"password_file = "/etc/supervisor/smtp-password""#,
        "password_credential" => r#"password_credential = "smtp-password""#,
        "ca_file" => r#"ca_file = "/etc/supervisor/ca.pem""#,
        _ => return None,
    })
}

fn healing(key: &str) -> Option<&'static str> {
    Some(match key {
        "restarts" => "restarts = 5",
        "site_restarts" => "site_restarts = 20",
        "window" => r#"window = "10m""#,
        "backoff_first" => r#"backoff_first = "1s""#,
        "backoff_longest" => r#"backoff_longest = "1m""#,
        "slow_retry" => r#"slow_retry = "5m""#,
        _ => return heal(key),
    })
}

fn heal(key: &str) -> Option<&'static str> {
    Some(match key {
        "mode" => r#"mode = "auto""#,
        "on_kill" => r#"on_kill = "respect""#,
        "grace" => r#"grace = "30s""#,
        _ => return None,
    })
}

fn container(key: &str) -> Option<&'static str> {
    Some(match key {
        "engine" => r#"engine = "local""#,
        "site" => r#"site = "onprem""#,
        "heal" => r#"heal = { mode = "auto" }"#,
        _ => return None,
    })
}

fn proxy(key: &str) -> Option<&'static str> {
    Some(match key {
        "config" => r#"config = "managed""#,
        "user" => r#"user = "haproxy""#,
        "group" => r#"group = "haproxy""#,
        "config_file" => r#"config_file = "/etc/haproxy/haproxy.cfg""#,
        "config_path" => r#"config_path = "/etc/haproxy/haproxy.cfg""#,
        "master_socket" => r#"master_socket = "/run/haproxy/master.sock""#,
        "admin_socket" => r#"admin_socket = "/run/haproxy/admin.sock""#,
        "admin_path" => r#"admin_path = "/run/haproxy/admin.sock""#,
        "admin_mode" => r#"admin_mode = "660""#,
        "admin_gid" => "admin_gid = 999",
        "map_file" => r#"map_file = "/var/lib/haproxy/maps/routes.map""#,
        "map_path" => r#"map_path = "/var/lib/haproxy/maps/routes.map""#,
        "state_file" => r#"state_file = "/var/lib/haproxy/maps/servers.state""#,
        "state_path" => r#"state_path = "/var/lib/haproxy/maps/servers.state""#,
        "container" => r#"container = "haproxy-server""#,
        "engine" => r#"engine = "local""#,
        "haproxy_binary" => r#"haproxy_binary = "haproxy""#,
        "template" => r#"template = "/etc/supervisor/haproxy.cfg.tera""#,
        "observe" => r#"observe = "layer4""#,
        "resolvers" => r#"resolvers = ["127.0.0.11:53"]"#,
        "maxconn" => "maxconn = 4096",
        "metrics_bind" => r#"metrics_bind = "*:8405""#,
        "reload_timeout" => r#"reload_timeout = "10s""#,
        "reload_interval" => r#"reload_interval = "2s""#,
        "timeouts" => r#"timeouts = { connect = "1s" }"#,
        "snippets" => r#"snippets = { global = "tune.ssl.cachesize 50000" }"#,
        "heal" => r#"heal = { mode = "auto" }"#,
        _ => return None,
    })
}

fn timeout(key: &str) -> Option<&'static str> {
    Some(match key {
        "connect" => r#"connect = "1s""#,
        "queue" => r#"queue = "1s""#,
        "client" => r#"client = "30s""#,
        "server" => r#"server = "15s""#,
        _ => return None,
    })
}

fn proxy_snippet(key: &str) -> Option<&'static str> {
    Some(match key {
        "global" => r#"global = "tune.ssl.cachesize 50000""#,
        "defaults_http" => r#"defaults_http = "option forwardfor""#,
        "defaults_tcp" => r#"defaults_tcp = "option clitcpka""#,
        _ => return None,
    })
}

fn service_snippet(key: &str) -> Option<&'static str> {
    Some(match key {
        "frontend" => r#"frontend = "http-response set-header Strict-Transport-Security max-age=31536000""#,
        "backend" => r#"backend = "balance leastconn""#,
        _ => return None,
    })
}

fn service(key: &str) -> Option<&'static str> {
    Some(match key {
        "bind" => r#"bind = "*:8080""#,
        "mode" => r#"mode = "http""#,
        "host" => r#"host = "api.example.com""#,
        "path" => r#"path = "/api""#,
        "tls" => r#"tls = { certificates = "/etc/haproxy/certs" }"#,
        "prefer" => r#"prefer = ["onprem", "cloud"]"#,
        "proxies" => r#"proxies = ["haproxy-server"]"#,
        "stateful" => "stateful = true",
        "group" => r#"group = "shop""#,
        "min_servers" => "min_servers = 1",
        "thin_grace" => r#"thin_grace = "10s""#,
        "slow_start" => r#"slow_start = "30s""#,
        "all_down" => r#"all_down = "keep""#,
        "maintenance_page" => r#"maintenance_page = "/etc/haproxy/pages/api.http""#,
        "snippets" => r#"snippets = { backend = "balance leastconn" }"#,
        "flapping" => r#"flapping = { falls = 3, half_life = "5m" }"#,
        "retry_reads_after" => r#"retry_reads_after = "1200ms""#,
        "ready" => r#"ready = { path = "/health" }"#,
        "live" => r#"live = { path = "/live" }"#,
        "failback" => r#"failback = { after = "60s" }"#,
        _ => return None,
    })
}

fn tls(key: &str) -> Option<&'static str> {
    Some(match key {
        "certificates" => r#"certificates = "/etc/haproxy/certs""#,
        "min_version" => r#"min_version = "TLSv1.2""#,
        "redirect_from" => r#"redirect_from = "*:80""#,
        _ => return None,
    })
}

fn failback(key: &str) -> Option<&'static str> {
    Some(match key {
        "mode" => r#"mode = "auto""#,
        "after" => r#"after = "60s""#,
        "hold_down" => r#"hold_down = "5m""#,
        "limit" => "limit = 2",
        "limit_window" => r#"limit_window = "10m""#,
        "hours" => r#"hours = ["mon-fri 02:00-05:00"]"#,
        "time_zone" => r#"time_zone = "Europe/Berlin""#,
        _ => return None,
    })
}

fn flapping(key: &str) -> Option<&'static str> {
    Some(match key {
        "falls" => "falls = 3",
        "half_life" => r#"half_life = "5m""#,
        _ => return None,
    })
}

fn server(key: &str) -> Option<&'static str> {
    Some(match key {
        "site" => r#"site = "onprem""#,
        "address" => r#"address = "api-onprem:5000""#,
        "container" => r#"container = "api-onprem""#,
        "engine" => r#"engine = "local""#,
        "maxconn" => "maxconn = 32",
        "ready" => r#"ready = { path = "/health" }"#,
        "live" => r#"live = { path = "/live" }"#,
        "heal" => r#"heal = { mode = "auto" }"#,
        _ => return None,
    })
}

fn probe(key: &str) -> Option<&'static str> {
    Some(match key {
        "check" => r#"check = "http""#,
        "scheme" => r#"scheme = "http""#,
        "host" => r#"host = "api.example.com""#,
        "path" => r#"path = "/health""#,
        "status" => r#"status = "200-299""#,
        "contains" => r#"contains = "ok""#,
        "max_body" => r#"max_body = "64KiB""#,
        "keep_alive" => "keep_alive = false",
        "interval" => r#"interval = "1s""#,
        "timeout" => r#"timeout = "1s""#,
        "fast_interval" => r#"fast_interval = "250ms""#,
        "jitter_percent" => "jitter_percent = 10",
        "rise" => "rise = 2",
        "fall" => "fall = 3",
        "slow_after" => r#"slow_after = "500ms""#,
        _ => return None,
    })
}
