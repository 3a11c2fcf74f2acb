//! `[services.NAME.tls]`: raw → checked.

use super::check_proxy;
use super::check_service::Services;
use super::checker::Checker;
use super::key::Key;
use super::model::{Bind, Mode, ProxySettings, TlsSettings, TlsVersion};
use super::raw::RawTls;
use super::value;
use crate::domain::id::{ProxyId, ServiceId};
use std::collections::BTreeMap;

/// The TLS of one service.
pub(crate) fn tls(
    checker: &mut Checker<'_>,
    key: &Key,
    raw: Option<&RawTls>,
    mode: Mode,
) -> Option<TlsSettings> {
    let raw = raw?;
    if raw.certificates.is_none() {
        checker.unfit(&key.at("certificates"), "is missing: where does HAProxy find its certificates?");
    }
    let versions = [TlsVersion::V1_2, TlsVersion::V1_3].map(|version| (version.as_str(), version));
    let min_version = checker.word(&key.at("min_version"), raw.min_version.as_ref(), &versions);
    let redirect_from = checker.parse(&key.at("redirect_from"), raw.redirect_from.as_ref(), value::bind);
    if redirect_from.is_some() && mode == Mode::Tcp {
        checker.unfit(&key.at("redirect_from"), "a TCP service has no redirections: they are HTTP");
    }
    let certificates =
        checker.parse(&key.at("certificates"), raw.certificates.as_ref(), value::plain_path)?;
    Some(TlsSettings { certificates, min_version: min_version.unwrap_or(TlsVersion::V1_2), redirect_from })
}

/// A bind that redirects has no other use, and leads to one place.
pub(crate) fn redirections(
    checker: &mut Checker<'_>,
    services: &Services,
    proxies: &BTreeMap<ProxyId, ProxySettings>,
    keys: &BTreeMap<ServiceId, Key>,
) {
    let redirecting = services
        .services
        .iter()
        .filter_map(|(id, service)| Some((id, service.bind, service.tls.as_ref()?.redirect_from?)));
    for (id, leads_to, from) in redirecting {
        let (Some(key), Some(policy)) = (keys.get(id), services.policies.get(id)) else { continue };
        let mut uses: Vec<(Bind, String)> = check_proxy::own_binds(proxies, &policy.proxies)
            .map(|(proxy, bind)| (bind, format!("is where HAProxy {proxy} serves its metrics")))
            .collect();
        for (other, settings) in &services.services {
            let apart =
                services.policies.get(other).is_none_or(|other| other.proxies.is_disjoint(&policy.proxies));
            if apart {
                continue;
            }
            uses.push((settings.bind, format!("is the bind of the service {other}")));
            let another = settings.tls.as_ref().and_then(|tls| tls.redirect_from);
            // The later one of two is told.
            if let Some(another) = another.filter(|_| other < id && settings.bind != leads_to) {
                uses.push((another, format!("leads to {} already, for the service {other}", settings.bind)));
            }
        }
        if let Some((taken, why)) = uses.into_iter().find(|(bind, _)| bind.overlaps(from)) {
            let shown = if taken == from { String::new() } else { format!(" overlaps {taken}, which") };
            checker.unfit(&key.at("tls").at("redirect_from"), format!("{from}{shown} {why}"));
        }
    }
}
