//! HAProxy's complaints about a configuration, for people: without its secrets, and with the settings key where it names a line
//! that came from one.

use super::secrets::without_secrets;
use super::template::snippet_of;

/// `said`, which was said of `config`.
pub(super) fn complaint(config: &str, said: &str) -> String {
    let lines = said.lines().map(|line| match line_of(line).and_then(|number| origin(config, number)) {
        Some(origin) => format!("{line} ({origin})"),
        None => line.to_owned(),
    });
    without_secrets(config, &lines.collect::<Vec<_>>().join("\n"))
}

/// The line of the configuration that a complaint is about: `parsing [haproxy.cfg:13]`, `at [haproxy.cfg:13]`.
fn line_of(said: &str) -> Option<usize> {
    said.split('[').skip(1).find_map(|rest| rest.split_once(']')?.0.rsplit_once(':')?.1.parse().ok())
}

/// Where in the settings the line with this number, from 1, came from.
fn origin(config: &str, number: usize) -> Option<String> {
    match snippet_of(config, number) {
        Some((key, line)) => Some(format!("line {line} of {key}")),
        None => certificates(config, number),
    }
}

/// The key that named the certificates of a `bind` line of the built-in template.
pub(super) fn certificates(config: &str, number: usize) -> Option<String> {
    let lines: Vec<&str> = config.lines().take(number).collect();
    let line = lines.get(number.checked_sub(1)?)?.trim_start();
    if !line.starts_with("bind ") || !line.contains(" crt ") {
        return None;
    }
    let head = lines.iter().rev().find(|line| line.starts_with("frontend "))?;
    let service = head.split_whitespace().nth(1)?.strip_prefix("fe__")?;
    let service = if service.contains('.') { format!("{service:?}") } else { service.to_owned() };
    Some(format!("services.{service}.tls.certificates"))
}

/// The key of the certificates that HAProxy cannot use, if that is its complaint.
pub(super) fn bad_certificates(config: &str, said: &str) -> Option<String> {
    said.lines().find_map(|line| certificates(config, line_of(line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str =
        "global\n    description x\n\nfrontend fe__web from http\n    # TLS\n    bind *:443 ssl crt /certs\n";

    #[test]
    fn a_complaint_about_certificates_names_the_key_that_led_to_them() {
        for said in [
            "[ALERT] config : parsing [haproxy.cfg:6] : 'bind *:443' in section 'frontend' : unable to stat SSL certificate \
             from file '/certs' : No such file or directory.",
            "[ALERT] config : Proxy 'fe__web': no SSL certificate specified for bind '*:443' at [haproxy.cfg:6] (use 'crt').",
        ] {
            assert_eq!(complaint(CONFIG, said), format!("{said} (services.web.tls.certificates)"));
            assert_eq!(bad_certificates(CONFIG, said).as_deref(), Some("services.web.tls.certificates"));
        }
        let dotted = CONFIG.replace("fe__web", "fe__web.example");
        assert_eq!(certificates(&dotted, 6).as_deref(), Some("services.\"web.example\".tls.certificates"));
    }

    #[test]
    fn a_complaint_about_a_snippet_names_its_key_and_line_and_no_secret() {
        let config = "global\n    # snippet services.api.snippets.backend\n  stats auth admin:tops3cret\n  frobnicate\n    # end of \
                      snippet services.api.snippets.backend\n";
        let said = "[ALERT] config : parsing [haproxy.cfg:4] : unknown keyword 'frobnicate'";
        assert_eq!(complaint(config, said), format!("{said} (line 2 of services.api.snippets.backend)"));
        let said = "[ALERT] config : parsing [haproxy.cfg:3] : 'admin:tops3cret'";
        let clean =
            "[ALERT] config : parsing [haproxy.cfg:3] : '***' (line 1 of services.api.snippets.backend)";
        assert_eq!(complaint(config, said), clean);
    }

    #[test]
    fn what_names_no_line_of_theirs_is_left_as_it_is() {
        for said in [
            "[ALERT] config : parsing [haproxy.cfg:2] : unknown keyword 'x'",
            "[ALERT] config : parsing [haproxy.cfg:0] : 'x'\n[ALERT] config : parsing [haproxy.cfg:99] : 'y'",
            "[ALERT] config : Error(s) found in configuration file : haproxy.cfg",
            "[]:]",
        ] {
            assert_eq!(complaint(CONFIG, said), said);
            assert_eq!(bad_certificates(CONFIG, said), None);
        }
    }
}
