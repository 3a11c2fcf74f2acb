//! `[alerts]` and `[mail]`: raw → checked. Passwords are read here, from files or from systemd's credentials; the settings
//! themselves never hold one.

use super::checker::{Checker, Credentials};
use super::key::Key;
use super::limits;
use super::model::{
    Address, AlertmanagerAuth, AlertmanagerSettings, MailSettings, RelayLogin, RelaySettings, RelayTls,
};
use super::raw::{Raw, RawAlertmanager, RawMail, RawRelay};
use super::value;
use crate::domain::delivery::AlertPolicy;
use crate::domain::id::{Name, PeerId};
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The largest file with a password, a token or certificates. A bundle of all public authorities has 220 KB.
const SECRET_FILE_MAX: u64 = 1 << 20;

/// The most recipients: each is a person who is woken.
const RECIPIENTS_MAX: usize = 50;

/// Where systemd puts credentials (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// What the core is told about alerts.
pub(crate) fn policy(
    checker: &mut Checker<'_>,
    raw: &Raw,
    peers: &BTreeMap<PeerId, AlertmanagerSettings>,
    mail: Option<&MailSettings>,
) -> AlertPolicy {
    let key = Key::root().at("alerts");
    let raw = &raw.alerts;
    AlertPolicy {
        peers: peers.keys().copied().collect(),
        direct: mail.is_some(),
        fallback_after: checker.span(
            &key.at("fallback_after"),
            raw.fallback_after.as_ref(),
            &limits::FALLBACK_AFTER,
        ),
        notify_grace: checker.span(&key.at("notify_grace"), raw.notify_grace.as_ref(), &limits::NOTIFY_GRACE),
    }
}

/// The Alertmanagers.
pub(crate) fn alertmanagers(checker: &mut Checker<'_>, raw: &Raw) -> BTreeMap<PeerId, AlertmanagerSettings> {
    let key = Key::root().at("alerts").at("alertmanagers");
    let mut found = BTreeMap::new();
    for (name, raw) in &raw.alerts.alertmanagers {
        let key = key.at(name);
        let settings = alertmanager(checker, &key, raw);
        if let (Some(id), Some(settings)) = (checker.name::<PeerId>(&key, name), settings) {
            found.insert(id, settings);
        }
    }
    found
}

fn alertmanager(checker: &mut Checker<'_>, key: &Key, raw: &RawAlertmanager) -> Option<AlertmanagerSettings> {
    if raw.url.is_none() {
        checker.unfit(&key.at("url"), "is missing: where is the Alertmanager?");
    }
    let password =
        secret(checker, key, "password", raw.password_file.as_ref(), raw.password_credential.as_ref());
    let token = secret(checker, key, "token", raw.token_file.as_ref(), raw.token_credential.as_ref());
    let auth = match (&raw.user, password, token) {
        (Some(user), Some(password), None) => Some(AlertmanagerAuth::Basic { user: user.clone(), password }),
        (None, None, Some(token)) => Some(AlertmanagerAuth::Bearer(token)),
        (None, None, None) => None,
        (Some(_), None, None) => {
            checker.unfit(&key.at("user"), "has no password: give password_file or password_credential");
            None
        }
        (None, Some(_), None) => {
            checker.unfit(&key.at("user"), "is missing: whose password is it?");
            None
        }
        (_, _, Some(_)) => {
            checker.unfit(&key.at("user"), "goes with a password, not with a token: give one of both");
            None
        }
    };
    let ca = certificates(checker, &key.at("ca_file"), raw.ca_file.as_ref());
    let url = checker.parse(&key.at("url"), raw.url.as_ref(), value::base_url)?;
    Some(AlertmanagerSettings { url, auth, ca })
}

/// Whom to mail to when Alertmanager cannot; none if nobody is named.
pub(crate) fn mail(checker: &mut Checker<'_>, raw: &Raw) -> Option<MailSettings> {
    let raw = raw.mail.as_ref()?;
    let key = Key::root().at("mail");
    let RawMail { from, to, helo, relays } = raw;
    for (name, missing, question) in [
        ("from", from.is_none(), "whose address is on the mails?"),
        ("to", to.is_none(), "who is mailed?"),
        ("relays", relays.is_empty(), "which mail server takes them? Name one as [mail.relays.NAME]"),
    ] {
        if missing {
            checker.unfit(&key.at(name), format!("is missing: {question}"));
        }
    }
    let from = checker.parse(&key.at("from"), from.as_ref(), value::mail_address);
    let to = recipients(checker, &key.at("to"), to.as_deref().unwrap_or_default());
    let helo = checker.parse(&key.at("helo"), helo.as_ref(), value::host);
    let mut checked = Vec::new();
    for (name, raw) in relays {
        let key = key.at("relays").at(name);
        checker.name::<Name>(&key, name);
        checked.extend(relay(checker, &key, name, raw));
    }
    Some(MailSettings { from: from?, to, helo, relays: checked })
}

fn recipients(checker: &mut Checker<'_>, key: &Key, raw: &[String]) -> Vec<String> {
    if raw.len() > RECIPIENTS_MAX {
        checker.wrong(key, format!("has more than {RECIPIENTS_MAX} recipients; mail to a list"));
    }
    let mut found: Vec<String> = Vec::new();
    for (i, text) in raw.iter().enumerate() {
        match value::mail_address(text) {
            Ok(address) if found.contains(&address) => {
                checker.wrong_element(key, i, format!("{text:?} is there twice"));
            }
            Ok(address) => found.push(address),
            Err(message) => checker.wrong_element(key, i, message),
        }
    }
    found
}

fn relay(checker: &mut Checker<'_>, key: &Key, name: &str, raw: &RawRelay) -> Option<RelaySettings> {
    if raw.host.is_none() {
        checker.unfit(&key.at("host"), "is missing: which mail server?");
    }
    let kinds =
        [("implicit", RelayTls::Implicit), ("starttls", RelayTls::StartTls), ("none", RelayTls::None)];
    let tls = checker.word(&key.at("tls"), raw.tls.as_ref(), &kinds).unwrap_or(RelayTls::Implicit);
    let usual = match tls {
        RelayTls::Implicit => 465,
        RelayTls::StartTls => 587,
        RelayTls::None => 25,
    };
    let port = raw.port.map_or(usual, |port| checker.number(&key.at("port"), Some(port), &limits::PORT));
    let password =
        secret(checker, key, "password", raw.password_file.as_ref(), raw.password_credential.as_ref());
    let login = match (&raw.user, password) {
        (Some(user), Some(password)) => Some(RelayLogin { user: user.clone(), password }),
        (Some(_), None) => {
            checker.unfit(&key.at("user"), "has no password: give password_file or password_credential");
            None
        }
        (None, Some(_)) => {
            checker.unfit(&key.at("user"), "is missing: whose password is it?");
            None
        }
        (None, None) => None,
    };
    if login.is_some() && tls == RelayTls::None {
        checker.unfit(
            &key.at("tls"),
            "\"none\" would send the password in the clear; use \"implicit\" or \"starttls\"",
        );
    }
    let ca = certificates(checker, &key.at("ca_file"), raw.ca_file.as_ref());
    let host = checker.parse(&key.at("host"), raw.host.as_ref(), value::host)?;
    let address = Address { host, port: u16::try_from(port).ok()? };
    Some(RelaySettings { name: name.to_owned(), address, tls, login, ca })
}

/// The secret `what`, from the file or the credential that is named for it.
fn secret(
    checker: &mut Checker<'_>,
    key: &Key,
    what: &str,
    file: Option<&String>,
    credential: Option<&String>,
) -> Option<Secret> {
    let (file_key, credential_key) = (key.at(&format!("{what}_file")), key.at(&format!("{what}_credential")));
    let (key, path) = match (file, credential) {
        (None, None) => return None,
        (Some(_), Some(_)) => {
            checker.unfit(&credential_key, format!("{what}_file is given as well; give one of both"));
            return None;
        }
        (Some(file), None) => {
            let path = checker.parse(&file_key, Some(file), value::path)?;
            (file_key, path)
        }
        (None, Some(name)) => {
            checker.name::<Name>(&credential_key, name)?;
            let directory = std::env::var_os(CREDENTIALS).map(PathBuf::from);
            // systemd 252 names the directory to a reload's commands, too, and does not show it to them.
            let given = directory.as_ref().is_some_and(|directory| directory.is_dir());
            if !given && checker.credentials() == Credentials::Trusted {
                return Some(Secret::new(""));
            }
            let Some(directory) = directory else {
                checker.wrong(
                    &credential_key,
                    format!("there are no credentials: the unit needs LoadCredential={name}:/path/to/it (systemd.exec(5))"),
                );
                return None;
            };
            (credential_key, directory.join(name))
        }
    };
    let text = read(checker, &key, &path)?;
    // Editors end a file with a line feed; no password does.
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        checker.wrong(&key, format!("{} is empty", path.display()));
        return None;
    }
    Some(Secret::new(text))
}

/// Certificates of authorities, as PEM.
fn certificates(checker: &mut Checker<'_>, key: &Key, file: Option<&String>) -> Option<String> {
    let path = checker.parse(key, Some(file?), value::path)?;
    let text = read(checker, key, &path)?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        checker.wrong(key, format!("{} holds no certificate in PEM form", path.display()));
        return None;
    }
    Some(text)
}

fn read(checker: &mut Checker<'_>, key: &Key, path: &Path) -> Option<String> {
    let size = std::fs::metadata(path).map(|found| found.len());
    let read = match size {
        Ok(size) if size > SECRET_FILE_MAX => {
            Err(format!("{} has {size} bytes; at most {SECRET_FILE_MAX} are taken", path.display()))
        }
        Ok(_) => std::fs::read_to_string(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display())),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    };
    match read {
        Ok(text) => Some(text),
        Err(message) => {
            checker.wrong(key, message);
            None
        }
    }
}
