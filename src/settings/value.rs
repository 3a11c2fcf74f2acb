//! Single values: text → what it means, or a message that says what it is not.

use super::model::{Address, Bind, EngineAddress, ProxySocket, StatusSet};
use crate::domain::id::ContainerName;
use crate::domain::time::Span;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// The longest host name, RFC 1035 section 2.3.4.
const HOST_MAX: usize = 253;

/// The longest path that is taken, as `PATH_MAX` of Linux.
const PATH_MAX: usize = 4096;

/// The longest path of a Unix socket: `sun_path` has 108 bytes, the last of which is 0 (unix(7)).
const SOCKET_MAX: usize = 107;

/// The longest name of a user (useradd(8)).
const ACCOUNT_MAX: usize = 32;

/// The longest text that a body is searched for, and the longest path of a probe.
const TEXT_MAX: usize = 1024;

/// The longest name of a container. Docker has no bound; a host name, which it often becomes, has 63.
const CONTAINER_MAX: usize = 255;

/// The longest part of a mail address before the `@`, RFC 5321 section 4.5.3.1.1.
const LOCAL_PART_MAX: usize = 64;

/// `250ms`, `1m 30s`, `2h`: numbers with units, as jiff's friendly format has them.
pub(crate) fn span(text: &str) -> Result<Span, String> {
    let text = text.trim();
    if !text.is_empty() && text.parse::<f64>().is_ok() {
        return Err(format!("{text:?} has no unit"));
    }
    if text.contains(':') {
        return Err(format!("{text:?} is no duration: write its units"));
    }
    match jiff::fmt::friendly::SpanParser::new().parse_unsigned_duration(text) {
        Ok(duration) => Ok(Span::from(duration)),
        Err(_) => Err(format!("{text:?} is no duration (a number and ms, s, m or h)")),
    }
}

/// `30d`, and whatever [`span`] takes: history is kept for days.
pub(crate) fn age(text: &str) -> Result<Span, String> {
    const DAY: u64 = 24 * 3600;
    let days = text.trim().strip_suffix('d').and_then(|days| days.trim_end().parse::<u64>().ok());
    match days {
        Some(days) => Ok(Span::seconds(days.saturating_mul(DAY))),
        None => span(text).map_err(|why| why.replace("s, m or h", "s, m, h or d")),
    }
}

/// `64KiB`, `1MiB`, `512B`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is no size (a number and B, KiB or MiB)"))?;
    let factor = match unit.trim_start() {
        "" => return Err(format!("{text:?} has no unit")),
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(format!("{text:?} is no size (a number and B, KiB or MiB)")),
    };
    Ok(number.saturating_mul(factor))
}

/// A host name, an IPv4 address, or an IPv6 address with or without brackets. Underscores are taken: Docker's names
/// have them.
pub(crate) fn host(text: &str) -> Result<String, String> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(inner) = bracketed.or(text.contains(':').then_some(text)) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(address) => Ok(address.to_string()),
            Err(_) => Err(format!("{text:?} is no host: no scheme, port or path belongs here")),
        };
    }
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.is_empty() {
        Err("the host is missing".to_owned())
    } else if text.len() > HOST_MAX {
        Err(format!("a host has at most {HOST_MAX} characters, this one has {}", text.len()))
    } else if !text.strip_suffix('.').unwrap_or(text).split('.').all(label) {
        Err(format!("{text:?} is no host name: it has letters, digits, '-', '_' and single dots"))
    } else {
        Ok(text.to_owned())
    }
}

/// `HOST:PORT`.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    if text.contains("://") {
        return Err(format!("{text:?} is a URL; only HOST:PORT belongs here"));
    }
    let (name, port) = split_port(text)?;
    Ok(Address { host: host(name)?, port })
}

/// `ADDRESS:PORT`, `*:PORT` or `:PORT`.
pub(crate) fn bind(text: &str) -> Result<Bind, String> {
    let (name, port) = split_port(text)?;
    if matches!(name, "" | "*") {
        return Ok(Bind { address: None, port });
    }
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok(Bind { address: Some(address), port }),
        Err(_) => Err(format!("{name:?} is no IP address; for all of them write '*'")),
    }
}

/// An IP address with a port, which may be left out where there is a `usual` one.
pub(crate) fn socket_address(text: &str, usual: Option<u16>) -> Result<SocketAddr, String> {
    if let (Some(port), Ok(address)) = (usual, text.parse::<IpAddr>()) {
        return Ok(SocketAddr::new(address, port));
    }
    let (name, _) = split_port(text)?;
    text.parse().map_err(|_| format!("{name:?} is no IP address"))
}

fn split_port(text: &str) -> Result<(&str, u16), String> {
    let no_port = || format!("{text:?} has no port");
    let (name, port) = text.rsplit_once(':').ok_or_else(no_port)?;
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!(
            "{text:?} has no port, or lacks the brackets of an IPv6 address: [ADDRESS]:PORT"
        ));
    }
    match port.parse::<u16>() {
        _ if port.is_empty() => Err(no_port()),
        Ok(0) | Err(_) => Err(format!("{port:?} is no port (1 to 65535)")),
        Ok(_) if !port.bytes().all(|b| b.is_ascii_digit()) => {
            Err(format!("{port:?} is no port (1 to 65535)"))
        }
        Ok(port) => Ok((name, port)),
    }
}

/// `unix:///path` or `tcp://HOST:PORT`, as in `DOCKER_HOST`.
pub(crate) fn engine(text: &str) -> Result<EngineAddress, String> {
    if let Some(socket) = text.strip_prefix("unix://") {
        return self::socket(socket).map(EngineAddress::Unix);
    }
    if let Some(rest) = text.strip_prefix("tcp://").or(text.strip_prefix("http://")) {
        return address(rest.strip_suffix('/').unwrap_or(rest)).map(EngineAddress::Tcp);
    }
    Err(match text.split_once("://") {
        Some(("ssh", _)) => {
            "ssh:// is not spoken; forward the socket (ssh -L) and name the forwarded one".to_owned()
        }
        Some((scheme, _)) => format!("{scheme}:// is not spoken; unix:// and tcp:// are"),
        None => format!("{text:?} has no scheme (unix:// or tcp://)"),
    })
}

/// An absolute path.
/// An absolute path that HAProxy's configuration can name without quotes.
pub(crate) fn plain_path(text: &str) -> Result<PathBuf, String> {
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !"_./-".contains(*c)) {
        Some(other) => Err(format!(
            "HAProxy's configuration takes letters, digits, '_', '.', '/' and '-', not {other:?}"
        )),
        None => path(text),
    }
}

pub(crate) fn path(text: &str) -> Result<PathBuf, String> {
    if text.len() > PATH_MAX {
        return Err(format!("a path has at most {PATH_MAX} bytes, this one has {}", text.len()));
    }
    if text.contains('\0') {
        return Err("a path cannot contain a zero byte".to_owned());
    }
    if !Path::new(text).is_absolute() {
        return Err(format!("{text:?} is no absolute path"));
    }
    if text.ends_with('/') && text.len() > 1 {
        return Err(format!("{text:?} ends with '/'; leave that out"));
    }
    Ok(PathBuf::from(text))
}

/// The absolute path of a Unix socket.
pub(crate) fn socket(text: &str) -> Result<PathBuf, String> {
    if text.len() > SOCKET_MAX {
        return Err(format!(
            "the path of a socket has at most {SOCKET_MAX} bytes, this one has {}",
            text.len()
        ));
    }
    path(text)
}

/// A command line of HAProxy's, as we reach it: the absolute path of a Unix socket, or `tcp://HOST:PORT`.
pub(crate) fn proxy_socket(text: &str) -> Result<ProxySocket, String> {
    match text.split_once("://") {
        Some(("tcp", rest)) => address(rest).map(ProxySocket::Tcp),
        Some(("unix", rest)) => socket(rest).map(ProxySocket::Unix),
        Some((scheme, _)) => Err(format!("{scheme}:// is not spoken; a path and tcp:// are")),
        None => socket(text).map(ProxySocket::Unix),
    }
}

/// The same as HAProxy binds it: it stands in HAProxy's configuration as it is, and names nothing that would have to be
/// resolved.
pub(crate) fn proxy_bind(text: &str) -> Result<ProxySocket, String> {
    match proxy_socket(text)? {
        ProxySocket::Unix(path) => proxy_path(&path.to_string_lossy()).map(ProxySocket::Unix),
        ProxySocket::Tcp(address) if address.host.parse::<IpAddr>().is_ok() => Ok(ProxySocket::Tcp(address)),
        ProxySocket::Tcp(address) => Err(format!(
            "{:?} is no IP address, and HAProxy must bind one: tcp://0.0.0.0:{} for all of its own",
            address.host, address.port
        )),
    }
}

/// An absolute path that stands in HAProxy's configuration as it is.
pub(crate) fn proxy_path(text: &str) -> Result<PathBuf, String> {
    match text.chars().find(|&c| !c.is_ascii_alphanumeric() && !"/._-".contains(c)) {
        Some(bad) => Err(format!(
            "{bad:?} cannot stand in a path in HAProxy's configuration (letters, digits, / . _ -)"
        )),
        None => path(text),
    }
}

/// A container's name, as Docker admits it.
pub(crate) fn container(text: &str) -> Result<ContainerName, String> {
    let name = text.strip_prefix('/').unwrap_or(text);
    let tail = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let fits = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(tail);
    if !fits || !(2..=CONTAINER_MAX).contains(&name.len()) {
        return Err(format!("{text:?} is no container's name (letters, digits, '_', '.', '-')"));
    }
    Ok(ContainerName(name.to_owned()))
}

/// The beginning of a URL's path, in whole segments.
pub(crate) fn route_path(text: &str) -> Result<String, String> {
    let segments = || text.split('/').skip(1);
    let legal = |c: char| c.is_ascii_alphanumeric() || "/_.~-".contains(c);
    match () {
        () if text.contains("://") => Err(format!("{text:?} is a URL; only its path belongs here")),
        () if text.len() > TEXT_MAX => {
            Err(format!("a path has at most {TEXT_MAX} bytes, this one has {}", text.len()))
        }
        () if !text.starts_with('/') => Err(format!("{text:?} does not begin with '/'")),
        () if text == "/" => Err("\"/\" is every path; leave the key out for that".to_owned()),
        () if text.ends_with('/') => {
            Err(format!("{text:?} ends with '/'; leave that out: all below is meant"))
        }
        () if !text.chars().all(legal) => {
            Err(format!("{text:?} has more than letters, digits, '/', '_', '.', '~' and '-'"))
        }
        // Clients resolve these before they ask.
        () if segments().any(|segment| matches!(segment, "" | "." | "..")) => {
            Err(format!("{text:?} has an empty segment, or one that is '.' or '..'"))
        }
        () => Ok(text.to_owned()),
    }
}

/// The path of a URL, perhaps with a query.
pub(crate) fn url_path(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return Err(format!(
            "{text:?} is a URL; only its path belongs here, host and port are the server's address"
        ));
    }
    if !text.starts_with('/') {
        return Err(format!("{text:?} does not begin with '/'"));
    }
    // HAProxy's own check has the same path, and its configuration no way to quote.
    if let Some(bad) = text.chars().find(|&c| !c.is_ascii_alphanumeric() && !"_.:-/@*,+=%~?&!;".contains(c)) {
        return Err(format!("{bad:?} cannot stand in the path; write it as %XX"));
    }
    if text.len() > TEXT_MAX {
        return Err(format!("the path has {} characters, more than {TEXT_MAX}", text.len()));
    }
    Ok(text.to_owned())
}

/// Text to look for in a body.
pub(crate) fn body_text(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("empty text is in every body; leave the key out".to_owned()),
        1..=TEXT_MAX => Ok(text.to_owned()),
        length => Err(format!("has {length} bytes, more than {TEXT_MAX}")),
    }
}

/// The mode of a socket: `660`.
pub(crate) fn socket_mode(text: &str) -> Result<String, String> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if octal { Ok(text.to_owned()) } else { Err(format!("{text:?} is no mode (three octal digits)")) }
}

/// A user or a group, by name.
pub(crate) fn account(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=ACCOUNT_MAX).contains(&text.len()) && !text.starts_with('-') && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no user or group: up to {ACCOUNT_MAX} letters, digits, '_', '-' and '.'"))
    }
}

/// A program: a path, or a name to be looked up.
pub(crate) fn program(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('-') || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("{text:?} is no program: a name or a path, without blanks or options"));
    }
    Ok(text.to_owned())
}

/// `200`, `200-299`, each part by itself.
pub(crate) fn statuses(parts: &[String]) -> Result<StatusSet, String> {
    let ranges = parts.iter().map(|part| status_range(part)).collect::<Result<Vec<_>, String>>()?;
    StatusSet::of(ranges).ok_or_else(|| "no status is good: the server would never be up".to_owned())
}

fn status_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("{text:?} is no status (100 to 599) or range of them");
    let one = |text: &str| match text.trim().parse::<u16>() {
        Ok(status @ 100..=599) => Ok(status),
        _ => Err(wrong()),
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (one(low)?, one(high)?);
    if low > high { Err(wrong()) } else { Ok(low..=high) }
}

/// `http://HOST[:PORT][/PATH]` or https: the address of a program that we speak to. Without a slash at its end.
pub(crate) fn base_url(text: &str) -> Result<String, String> {
    let url: reqwest::Url = text.parse().map_err(|error| format!("{text:?} is no URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        // Not shown: what stands there may be a password.
        return Err(
            "a user or password does not belong into the URL: give `user` and `password_file`".to_owned()
        );
    }
    match () {
        () if !matches!(url.scheme(), "http" | "https") => Err(format!("{text:?} is neither http nor https")),
        () if url.host_str().is_none_or(str::is_empty) => Err(format!("{text:?} has no host")),
        () if url.query().is_some() || url.fragment().is_some() => {
            Err(format!("{text:?} has a query or a fragment; only a path may follow the host"))
        }
        () => Ok(url.as_str().trim_end_matches('/').to_owned()),
    }
}

/// `name@host`: an address that mail is sent to or from.
pub(crate) fn mail_address(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is no mail address");
    let (name, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
    // What RFC 5322 calls an atom and dots; the rest would need quotes, and nobody's mailbox does.
    let legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    if name.is_empty() || name.len() > LOCAL_PART_MAX || !name.chars().all(legal) {
        return Err(wrong());
    }
    host(domain).map_err(|_| wrong())?;
    Ok(text.to_owned())
}
