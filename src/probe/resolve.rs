//! From a name to addresses, without letting a slow resolver hold up probes.
//!
//! `getaddrinfo` is the resolver that the machine is set up for (`/etc/hosts`, nsswitch, Docker's embedded DNS), and it
//! blocks: a lookup that hangs keeps its thread. So at most [`LOOKUPS_MAX`] run at a time and one per name, the last good
//! answer is kept, and whoever knows an address never waits for a fresher one: it is asked for behind the probe's back.
//! An address that turns out to be dead is checked against a fresh answer before it is held against the server
//! ([`Resolver::moved`]), because containers change their address when they are created anew.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::spec::Address;

/// How many lookups run at a time: each takes a thread of tokio's blocking pool (512), which others need too.
const LOOKUPS_MAX: usize = 16;

/// An answer older than this is refreshed behind the next probe. Bounds how long a probe may ask the wrong container
/// after an address has passed to another.
const REFRESH_AFTER: Duration = Duration::from_secs(2);

/// For how long the last good answer is used when no newer one comes: longer than a restart of a resolver, shorter than
/// it takes to forget that a name was removed.
const LAST_GOOD_FOR: Duration = Duration::from_secs(300);

/// How long a failed probe waits to learn whether the address has moved. Local resolvers answer in about 1 ms.
const MOVED_WITHIN: Duration = Duration::from_millis(100);

/// How many addresses of one name are tried.
const ADDRESSES_MAX: usize = 4;

/// Names and what they stood for.
#[derive(Debug)]
pub(super) struct Resolver {
    names: Mutex<HashMap<String, Known>>,
    lookups: Arc<Semaphore>,
    lookup: fn(&str) -> std::io::Result<Vec<IpAddr>>,
}

/// What is known about a name.
#[derive(Debug, Default)]
struct Known {
    good: Option<Good>,
    /// Lookup under way.
    asked: Option<Asked>,
}

#[derive(Debug, Clone)]
struct Good {
    addresses: Vec<IpAddr>,
    at: Instant,
}

#[derive(Debug, Clone)]
struct Asked {
    at: Instant,
    answer: watch::Receiver<Option<Answer>>,
}

/// The addresses, or that there are none.
type Answer = Result<Vec<IpAddr>, Unresolved>;

/// The name could not be resolved in time, or there is no such name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unresolved;

impl Resolver {
    pub(super) fn system() -> Resolver {
        Resolver::with(system_lookup)
    }

    fn with(lookup: fn(&str) -> std::io::Result<Vec<IpAddr>>) -> Resolver {
        Resolver { names: Mutex::default(), lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)), lookup }
    }

    /// The addresses to try, in order. Waits, until `deadline`, only for a name that was never resolved.
    pub(super) async fn resolve(
        self: &Arc<Self>,
        address: &Address,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, Unresolved> {
        if let Ok(ip) = address.host.parse() {
            return Ok(vec![SocketAddr::new(ip, address.port)]);
        }
        let (good, asked) = {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            let known = names.entry(address.host.clone()).or_default();
            let good = known.good.clone().filter(|good| good.at.elapsed() < LAST_GOOD_FOR);
            match good {
                Some(good) if good.at.elapsed() < REFRESH_AFTER => (Some(good), None),
                good => (good, Some(self.ask(&address.host, known))),
            }
        };
        let addresses = match (good, asked) {
            (Some(good), _) => good.addresses,
            (None, Some(asked)) => answer(asked, deadline).await?,
            (None, None) => return Err(Unresolved),
        };
        Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, address.port)).collect())
    }

    /// After `tried` proved dead: other addresses that the name stands for by now, if the resolver says so soon.
    pub(super) async fn moved(
        self: &Arc<Self>,
        address: &Address,
        tried: &[SocketAddr],
        deadline: Instant,
    ) -> Option<Vec<SocketAddr>> {
        if address.host.parse::<IpAddr>().is_ok() {
            return None;
        }
        let asked = {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            let asked = self.ask(&address.host, names.entry(address.host.clone()).or_default());
            // A resolver that hangs is not waited for a second time.
            if asked.at.elapsed() > MOVED_WITHIN {
                return None;
            }
            asked
        };
        let fresh = answer(asked, deadline.min(Instant::now() + MOVED_WITHIN)).await.ok()?;
        let fresh: Vec<SocketAddr> = fresh.into_iter().map(|ip| SocketAddr::new(ip, address.port)).collect();
        fresh.iter().any(|address| !tried.contains(address)).then_some(fresh)
    }

    /// The lookup of `host` that is under way; begins one if there is none.
    fn ask(self: &Arc<Self>, host: &str, known: &mut Known) -> Asked {
        if let Some(asked) = &known.asked {
            return asked.clone();
        }
        let (send, answer) = watch::channel(None);
        let asked = Asked { at: Instant::now(), answer };
        known.asked = Some(asked.clone());
        let (resolver, host) = (Arc::clone(self), host.to_owned());
        tokio::spawn(async move {
            let answer = resolver.look_up(host.clone()).await;
            let mut names = resolver.names.lock().unwrap_or_else(PoisonError::into_inner);
            let known = names.entry(host).or_default();
            known.asked = None;
            if let Ok(addresses) = &answer {
                known.good = Some(Good { addresses: addresses.clone(), at: Instant::now() });
            }
            // Nobody may be waiting: the answer is kept all the same.
            let _ = send.send(Some(answer));
        });
        asked
    }

    /// One lookup. It has no deadline of its own because nothing can end a `getaddrinfo`; those who wait for it have one.
    async fn look_up(&self, host: String) -> Answer {
        // The permit travels into the blocking thread: it is free when the thread is.
        let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(|_| Unresolved)?;
        let lookup = self.lookup;
        let found = tokio::task::spawn_blocking(move || {
            let found = lookup(&host);
            drop(permit);
            found
        });
        match found.await {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            Ok(Ok(_) | Err(_)) | Err(_) => Err(Unresolved),
        }
    }
}

/// Cancelling it is safe: the lookup goes on and its answer is kept.
async fn answer(asked: Asked, deadline: Instant) -> Answer {
    let mut answer = asked.answer;
    let answered = timeout_at(deadline, answer.wait_for(Option::is_some)).await;
    match answered {
        Ok(Ok(answer)) => answer.clone().unwrap_or(Err(Unresolved)),
        Ok(Err(_)) | Err(_) => Err(Unresolved),
    }
}

fn system_lookup(host: &str) -> std::io::Result<Vec<IpAddr>> {
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(host, 0))?;
    Ok(found.map(|address| address.ip()).take(ADDRESSES_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn named(host: &str) -> Address {
        Address { host: host.to_owned(), port: 80 }
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_unresolved() {
        let resolver = Arc::new(Resolver::with(|_| Err(std::io::Error::other("no such name"))));
        assert_eq!(resolver.resolve(&named("nowhere.invalid"), soon()).await, Err(Unresolved));
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_delays_no_probe_of_a_known_address() {
        static HANGS: AtomicBool = AtomicBool::new(false);
        static RELEASE: AtomicBool = AtomicBool::new(false);
        let resolver = Arc::new(Resolver::with(|_| {
            while HANGS.load(Ordering::SeqCst) && !RELEASE.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(vec!["127.0.0.1".parse().unwrap()])
        }));
        let known = resolver.resolve(&named("api"), soon()).await.unwrap();
        HANGS.store(true, Ordering::SeqCst);
        // Old enough to be refreshed, and the refresh hangs.
        resolver.age("api", REFRESH_AFTER);
        let asked = Instant::now();
        assert_eq!(resolver.resolve(&named("api"), soon()).await.as_ref(), Ok(&known));
        assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
        assert_eq!(resolver.moved(&named("api"), &known, soon()).await, None);
        let again = Instant::now();
        assert_eq!(resolver.moved(&named("api"), &known, soon()).await, None);
        assert!(again.elapsed() < Duration::from_millis(50), "waited twice: {:?}", again.elapsed());
        RELEASE.store(true, Ordering::SeqCst);
    }

    #[tokio::test]
    async fn an_address_that_moved_is_found_after_the_old_one_died() {
        static LAST: AtomicU8 = AtomicU8::new(1);
        let resolver =
            Arc::new(Resolver::with(|_| Ok(vec![[127, 0, 0, LAST.load(Ordering::SeqCst)].into()])));
        let old = resolver.resolve(&named("api"), soon()).await.unwrap();
        assert_eq!(resolver.moved(&named("api"), &old, soon()).await, None, "it has not moved");
        LAST.store(2, Ordering::SeqCst);
        let moved = resolver.moved(&named("api"), &old, soon()).await.unwrap();
        assert_eq!(moved, ["127.0.0.2:80".parse().unwrap()]);
        assert_eq!(resolver.resolve(&named("api"), soon()).await, Ok(moved), "and remembered");
    }

    #[tokio::test]
    async fn hanging_lookups_are_bounded_and_waited_for_only_until_the_deadline() {
        static RUNNING: AtomicU8 = AtomicU8::new(0);
        static RELEASE: AtomicBool = AtomicBool::new(false);
        let resolver = Arc::new(Resolver::with(|_| {
            RUNNING.fetch_add(1, Ordering::SeqCst);
            while !RELEASE.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(Vec::new())
        }));
        let deadline = Instant::now() + Duration::from_millis(200);
        let waiting = (0..60).map(|n| {
            let resolver = Arc::clone(&resolver);
            async move { resolver.resolve(&named(&format!("api-{n}")), deadline).await }
        });
        let answers = futures_util::future::join_all(waiting).await;
        assert!(answers.iter().all(|answer| *answer == Err(Unresolved)));
        assert_eq!(usize::from(RUNNING.load(Ordering::SeqCst)), LOOKUPS_MAX);
        RELEASE.store(true, Ordering::SeqCst);
    }

    impl Resolver {
        /// Makes what is known about `host` older.
        fn age(&self, host: &str, by: Duration) {
            let mut names = self.names.lock().unwrap();
            let good = names.get_mut(host).unwrap().good.as_mut().unwrap();
            good.at = good.at.checked_sub(by).unwrap();
        }
    }
}
