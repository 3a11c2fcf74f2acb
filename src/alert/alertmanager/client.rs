//! One Alertmanager over HTTP: four questions, each with a deadline and a bound, and exact words for what went wrong.
//!
//! The words go into the journal, onto the page and into mails. They are one line, bounded, and hold no credentials, even
//! where an answer repeats them.

mod failure;

pub(super) use failure::{Failure, Unusable, unusable_words};

use super::wire::{self, Identity};
use super::{Auth, Peer, Timing};
use crate::chain::chain;
use crate::domain::delivery::Word;
use crate::domain::silence::Silence;
use crate::domain::time::{Span, Wall};
use failure::one_line;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue, LOCATION};
use reqwest::{Certificate, ClientBuilder, RequestBuilder, StatusCode, Url, redirect, retry};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest answer that is read. An alert has about 2 KiB, so this is several thousands of ours.
const BODY_MAX: usize = 8 << 20;

/// How much of an error's answer is read: its beginning says what it is.
const ERROR_BODY_MAX: usize = 4 << 10;

/// How much of an error's answer is shown: the sentence around it must fit as well.
const SHOWN_MAX: usize = 120;

/// The requests of one round share a connection; the next round finds out anew where the name leads. A connection that is
/// kept for longer may die in between, which says nothing about Alertmanager.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// By this label our alerts are read back: an Alertmanager may have many thousands of others.
const OURS: &str = r#"source="supervisor""#;

/// A client of one Alertmanager.
pub(super) struct Client {
    http: reqwest::Client,
    status: Url,
    alerts: Url,
    silences: Url,
    authorization: Option<HeaderValue>,
    /// What must not be shown: password, token, and the password in its form for the wire.
    secrets: Vec<String>,
    connect: Duration,
    request: Duration,
}

/// What it answers to alerts.
pub(super) enum Posted {
    /// It took them; whether it has them is another question.
    Taken,
    /// It refuses at least one of them, in these words. The others it may have stored.
    Refused(String),
}

/// An answer as it came.
struct Answer {
    status: StatusCode,
    date: Option<Wall>,
    location: Option<String>,
    body: Vec<u8>,
}

impl Client {
    pub(super) fn new(peer: &Peer, timing: &Timing) -> Result<Client, Unusable> {
        let url = &peer.url;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Unusable::Credentials);
        }
        let plain = url.query().is_none() && url.fragment().is_none() && url.has_host();
        if !matches!(url.scheme(), "http" | "https") || !plain {
            return Err(Unusable::Url);
        }
        let authorities = match &peer.ca {
            None => None,
            Some(pem) => Some(authorities(pem)?),
        };
        let http = build(authorities, peer, timing)?;
        let (authorization, secrets) = match &peer.auth {
            None => (None, Vec::new()),
            Some(auth) => authorize(&http, url, auth).ok_or(Unusable::Auth)?,
        };
        let endpoint = |name: &str| {
            let mut endpoint = url.clone();
            endpoint.set_path(&format!("{}/api/v2/{name}", url.path().trim_end_matches('/')));
            endpoint
        };
        let (status, alerts, silences) = (endpoint("status"), endpoint("alerts"), endpoint("silences"));
        let (connect, request) = (timing.connect, timing.request);
        Ok(Client { http, status, alerts, silences, authorization, secrets, connect, request })
    }

    /// Who is there, and what its clock says, if it says so.
    pub(super) async fn status(&self) -> Result<(Identity, Option<Wall>), Failure> {
        let answer = self.ask(self.http.get(self.status.clone()), &self.status).await?;
        if !answer.status.is_success() {
            return Err(self.refusal(&self.status, &answer));
        }
        let identity = serde_json::from_slice(&answer.body);
        let identity = identity.map_err(|source| Failure::NoStatus { at: self.status.clone(), source })?;
        Ok((identity, answer.date))
    }

    /// Posts alerts.
    pub(super) async fn post(&self, body: Vec<u8>) -> Result<Posted, Failure> {
        let request = self.http.post(self.alerts.clone()).header(CONTENT_TYPE, "application/json").body(body);
        let answer = self.ask(request, &self.alerts).await?;
        match answer.status {
            // Alertmanager's own 200 is empty; a login page's is not.
            status if status.is_success() && answer.body.trim_ascii().is_empty() => Ok(Posted::Taken),
            status if status.is_success() => {
                Err(Failure::Talks { at: self.alerts.clone(), words: self.said(&answer.body) })
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                let said = self.said(&answer.body);
                Ok(Posted::Refused(if said.is_empty() { answer.status.to_string() } else { said }))
            }
            _ => Err(self.refusal(&self.alerts, &answer)),
        }
    }

    /// Our alerts that it has, by fingerprint.
    pub(super) async fn stored(&self) -> Result<BTreeMap<String, Word>, Failure> {
        let mut url = self.alerts.clone();
        url.query_pairs_mut().append_pair("filter", OURS);
        let answer = self.ask(self.http.get(url), &self.alerts).await?;
        if !answer.status.is_success() {
            return Err(self.refusal(&self.alerts, &answer));
        }
        wire::stored(&answer.body).map_err(|source| Failure::NoAlerts { at: self.alerts.clone(), source })
    }

    /// Its silences, on our clock, when its own is `ahead_ms` ahead. None if it does not say; that is no failure.
    pub(super) async fn silences(&self, ahead_ms: i64) -> Option<Vec<Silence>> {
        let answer = self.ask(self.http.get(self.silences.clone()), &self.silences).await.ok()?;
        answer.status.is_success().then(|| wire::silences(&answer.body, ahead_ms).ok()).flatten()
    }

    /// Why a round failed, for people.
    pub(super) fn words(&self, failure: &Failure) -> String {
        one_line(&self.masked(&chain(failure)), failure::WORDS_MAX)
    }

    /// Asks once. Dropping it closes the connection.
    async fn ask(&self, request: RequestBuilder, at: &Url) -> Result<Answer, Failure> {
        let request = match &self.authorization {
            None => request,
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
        };
        let mut response = request.send().await.map_err(|source| self.broken(at, source))?;
        let header = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (date, location) = (header(DATE).and_then(|text| date(&text)), header(LOCATION));
        let status = response.status();
        let most = if status.is_success() { BODY_MAX } else { ERROR_BODY_MAX };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|source| self.broken(at, source))? {
            let room = most - body.len();
            if chunk.len() <= room {
                body.extend_from_slice(&chunk);
            } else if status.is_success() {
                return Err(Failure::TooLong { at: at.clone(), most });
            } else {
                body.extend_from_slice(&chunk[..room]);
                break;
            }
        }
        Ok(Answer { status, date, location, body })
    }

    fn broken(&self, at: &Url, source: reqwest::Error) -> Failure {
        let at = at.clone();
        match source.is_timeout() {
            true if source.is_connect() => Failure::NoConnection { at, within: Span::from(self.connect) },
            true => Failure::Silent { at, within: Span::from(self.request) },
            // The URL is named already.
            false => Failure::Broken { at, source: source.without_url() },
        }
    }

    /// An answer that is neither a success nor about one alert.
    fn refusal(&self, at: &Url, answer: &Answer) -> Failure {
        let check = match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "check the user and the password, or the token, in the settings".to_owned()
            }
            StatusCode::NOT_FOUND => {
                "check the URL in the settings: it ends where Alertmanager's own page is, before /api"
                    .to_owned()
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                "check the URL in the settings: what is there does not take Alertmanager's API v2".to_owned()
            }
            status if status.is_redirection() => {
                let to = answer.location.as_deref().and_then(|to| public_part(at, to));
                let to = to.map(|to| format!(", not {to}")).unwrap_or_default();
                format!("check the URL in the settings: it must be Alertmanager's own{to}")
            }
            _ => {
                let words = self.said(&answer.body);
                return Failure::Status { at: at.clone(), status: answer.status, words };
            }
        };
        Failure::Misconfigured { at: at.clone(), status: answer.status, check }
    }

    /// What an answer says, fit to be part of a sentence.
    fn said(&self, body: &[u8]) -> String {
        one_line(&self.masked(&wire::error_message(body)), SHOWN_MAX)
    }

    /// Without our credentials: some proxies repeat the whole request in their error pages.
    fn masked(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// The certificates in a PEM file.
fn authorities(pem: &[u8]) -> Result<Vec<Certificate>, Unusable> {
    let found = Certificate::from_pem_bundle(pem).map_err(|source| Unusable::Authorities { source })?;
    if found.is_empty() { Err(Unusable::NoAuthorities) } else { Ok(found) }
}

fn build(
    authorities: Option<Vec<Certificate>>,
    peer: &Peer,
    timing: &Timing,
) -> Result<reqwest::Client, Unusable> {
    let builder = || -> ClientBuilder {
        reqwest::Client::builder()
            .user_agent(concat!("supervisor/", env!("CARGO_PKG_VERSION")))
            // The environment of the daemon does not say where alerts go.
            .no_proxy()
            // A redirect would turn the POST into a GET, and could carry the alerts elsewhere.
            .redirect(redirect::Policy::none())
            // The rounds are the retries.
            .retry(retry::never())
            .referer(false)
            .connect_timeout(timing.connect)
            .timeout(timing.request)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(KEPT_FOR)
    };
    let built = match authorities {
        Some(authorities) => builder().tls_certs_only(authorities).build(),
        // Fails where the system has no authorities, for plain HTTP as well (reqwest issue 2988): a slim container.
        None => builder().build().or_else(|error| {
            if peer.url.scheme() == "https" {
                tracing::warn!(
                    peer = %peer.id,
                    error = chain(&error),
                    "no certificates to trust: this Alertmanager cannot be reached; install ca-certificates, or give \
                     it a ca_file"
                );
            }
            builder().tls_certs_only([]).build()
        }),
    };
    built.map_err(|source| Unusable::Build { source })
}

/// The header that says who we are, and what of it must not be shown; none if a header cannot carry it.
fn authorize(http: &reqwest::Client, url: &Url, auth: &Auth) -> Option<(Option<HeaderValue>, Vec<String>)> {
    let (request, secret) = match auth {
        Auth::Basic { user, password } => {
            (http.get(url.clone()).basic_auth(user, Some(password.expose())), password)
        }
        Auth::Bearer(token) => (http.get(url.clone()).bearer_auth(token.expose()), token),
    };
    let header = request.build().ok()?.headers().get(AUTHORIZATION)?.clone();
    let (_scheme, on_the_wire) = header.to_str().ok()?.split_once(' ')?;
    let mut secrets = vec![on_the_wire.to_owned(), secret.expose().to_owned()];
    secrets.retain(|secret| !secret.is_empty());
    Some((Some(header), secrets))
}

/// A `Date` header (RFC 9110, section 5.6.7) as a wall time.
fn date(text: &str) -> Option<Wall> {
    let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Wall(zoned.timestamp().as_millisecond()))
}

/// Where a redirect leads, without what may be secret in it.
fn public_part(at: &Url, to: &str) -> Option<Url> {
    let mut to = at.join(to).ok()?;
    to.set_username("").ok()?;
    to.set_password(None).ok()?;
    to.set_query(None);
    to.set_fragment(None);
    Some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Wall(784_111_777_000)));
        assert_eq!(date("yesterday"), None);
    }

    #[test]
    fn where_a_redirect_leads_is_shown_without_its_secrets() {
        let at = Url::parse("http://am/api/v2/status").unwrap();
        let shown = |to: &str| public_part(&at, to).map(String::from);
        assert_eq!(shown("/login?ticket=t#f").as_deref(), Some("http://am/login"));
        assert_eq!(shown("https://u:p@sso.example/x?state=s").as_deref(), Some("https://sso.example/x"));
        assert_eq!(shown("http://["), None);
    }
}
