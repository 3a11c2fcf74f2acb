//! Who is at the other end of the socket, as the kernel vouches for it.

use super::bounded::Bounded;
use crate::domain::Operator;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use std::io::{BufRead, BufReader, Read};
use tokio::net::UnixListener;

/// How much of `/etc/passwd` is read: thousands of users, and an end.
const PASSWD_MAX_BYTES: u64 = 1024 * 1024;

/// The credentials of a connection when it was made; none if the kernel did not tell, and then nothing can be ordered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) Option<(u32, Option<i32>)>);

impl Connected<IncomingStream<'_, Bounded<UnixListener>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded<UnixListener>>) -> Peer {
        let credentials = stream.io().get_ref().peer_cred();
        Peer(credentials.ok().map(|known| (known.uid(), known.pid())))
    }
}

/// The person behind a connection. Looks the name up in `/etc/passwd` only: other sources of names may ask the network,
/// and an order is often given because the network is broken.
pub(super) async fn operator(uid: u32, pid: Option<i32>) -> Operator {
    // A file on a local disk; should even that hang, the deadline of the request ends the wait.
    let name = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open("/etc/passwd").ok()?;
        user_name(uid, file.take(PASSWD_MAX_BYTES))
    });
    Operator { uid, pid, name: name.await.ok().flatten() }
}

/// Whoever runs this process: for orders that are carried out without a daemon.
pub async fn myself() -> Operator {
    use std::os::unix::fs::MetadataExt;
    // The owner of what the kernel shows about us is who we are (proc(5)).
    let uid = std::fs::metadata("/proc/self").map_or(u32::MAX, |meta| meta.uid());
    operator(uid, i32::try_from(std::process::id()).ok()).await
}

/// The name of `uid` in a file of passwd(5): `name:password:uid:…`.
fn user_name(uid: u32, passwd: impl Read) -> Option<String> {
    BufReader::new(passwd).lines().map_while(Result::ok).find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid) && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_id_and_a_broken_line_is_passed_over() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnonsense\n:x:5:5::/:\nalice:x:1000:1000::/:\n";
        assert_eq!(user_name(1000, passwd.as_bytes()).as_deref(), Some("alice"));
        assert_eq!(user_name(0, passwd.as_bytes()).as_deref(), Some("root"));
        assert_eq!(user_name(5, passwd.as_bytes()), None, "an empty name is no name");
        assert_eq!(user_name(42, passwd.as_bytes()), None);
    }
}
