//! What HAProxy complains of goes into the journal, the status, mails and the log. It quotes words and whole lines of the
//! configuration, and those may be passwords: they are taken out by what the configuration says of them.

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Words of the configuration's own that may follow the name of a secret.
const SYNTAX: [&str; 8] =
    ["if", "unless", "realm", "groups", "user", "users", "password", "insecure-password"];

/// `said`, which was said of `config`, without the secrets that `config` has.
pub(super) fn without_secrets(config: &str, said: &str) -> String {
    let mut secrets: Vec<String> = config.lines().flat_map(of_line).collect();
    // The longest first: it may have another one in it.
    secrets.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    secrets.dedup();
    let mut clean = said.to_owned();
    for secret in &secrets {
        if clean.contains(secret.as_str()) {
            clean = masked(&clean, secret);
        }
    }
    clean
}

/// The secrets of one line, however it may be split: HAProxy quotes a word as it stands, or as it reads it.
fn of_line(line: &str) -> Vec<String> {
    let raw: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let mut secrets = Vec::new();
    for words in [raw, words(line)] {
        for (at, word) in words.iter().enumerate() {
            let name = word.trim_matches(['"', '\'', ',']).to_lowercase();
            let after = &words[at + 1..];
            let follow = match name.as_str() {
                // `http-request set-header Authorization "Basic …" if …`.
                "authorization" | "proxy-authorization" => after,
                name if is_secret(name) => &after[..after.len().min(1)],
                // `user NAME insecure-password SECRET`, also where the third word is misspelt.
                "user" if at == 0 => after.get(2..3).unwrap_or_default(),
                _ => &[],
            };
            let follow = follow.iter().take_while(|word| !matches!(word.as_str(), "if" | "unless"));
            secrets.extend(follow.flat_map(|word| parts(word)));
        }
    }
    secrets.retain(|secret| {
        secret.chars().any(char::is_alphanumeric) && !SYNTAX.contains(&secret.to_lowercase().as_str())
    });
    secrets
}

/// Whether the word after this one is a secret.
fn is_secret(name: &str) -> bool {
    name == "auth" || ["passw", "passphrase", "secret", "token"].iter().any(|part| name.contains(part))
}

/// A word, without its quotes, and its password, if it is `user:password`.
fn parts(word: &str) -> Vec<String> {
    let bare = word.trim_matches(['"', '\'']);
    let password = bare.split_once(':').map(|(_, password)| password);
    [Some(word), Some(bare), password].into_iter().flatten().map(str::to_owned).collect()
}

/// The words of a line as HAProxy reads them (configuration.txt, "Quoting and escaping"). A quote that does not end ends with the
/// line.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match (char, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            ('"' | '\'', None) => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (char, Some(open)) if char == open => quote = None,
            (char, None) if char.is_whitespace() => words.extend(word.take()),
            (char, _) => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}

/// `text` with [`MASK`] wherever `secret` stands by itself, and not within a longer word.
fn masked(text: &str, secret: &str) -> String {
    let (mut clean, mut from) = (String::new(), 0);
    for (at, _) in text.match_indices(secret) {
        let end = at + secret.len();
        let before = text[..at].chars().next_back().filter(|char| char.is_alphanumeric());
        let behind = text[end..].chars().next().filter(|char| char.is_alphanumeric());
        if before.is_none() && behind.is_none() {
            clean.push_str(&text[from..at]);
            clean.push_str(MASK);
            from = end;
        }
    }
    clean.push_str(&text[from..]);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_configuration_calls_a_password_is_in_no_complaint() {
        for (line, said, clean) in [
            ("user ada insecure-password tops3cret", "unknown keyword 'tops3cret'", "unknown keyword '***'"),
            ("user ada pasword tops3cret", "'tops3cret' is no keyword", "'***' is no keyword"),
            ("user ada password $5$abc$def", "near $5$abc$def in", "near *** in"),
            ("stats auth admin:tops3cret", "'stats auth' 'admin:tops3cret'", "'stats auth' '***'"),
            ("stats auth admin:tops3cret", "the password tops3cret", "the password ***"),
            (
                "user ada insecure-password \"two words",
                "unmatched quote below: user ada insecure-password \"two words",
                "unmatched quote below: user ada insecure-password \"***",
            ),
            (r"user ada insecure-password a\ b", "got 'a b'", "got '***'"),
            (
                "http-request set-header Authorization \"Basic c2VjcmV0\" if x",
                "no such ACL : 'x' near 'Basic c2VjcmV0' if",
                "no such ACL : 'x' near '***' if",
            ),
            ("setenv API_TOKEN abc", "abc, and abcd", "***, and abcd"),
            ("option mysql-check user x", "[haproxy.cfg:3] : x", "[haproxy.cfg:3] : x"),
            (
                "http-request auth realm here unless { http_auth(users) }",
                "'auth' realm here unless 'users'",
                "'auth' realm here unless 'users'",
            ),
        ] {
            let config = format!("global\n    {line}\n    maxconn 5\n");
            assert_eq!(without_secrets(&config, said), clean, "{line}");
        }
    }

    #[test]
    fn what_names_no_secret_is_left_as_it_is() {
        let said = "[ALERT] config : parsing [haproxy.cfg:17] : 'user' only supports 'password', 'insecure-password' and \
                    'groups' options.";
        assert_eq!(without_secrets("userlist u\n    user ada insecure-password a\n", said), said);
    }
}
