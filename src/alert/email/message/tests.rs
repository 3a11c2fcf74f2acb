use super::*;
use mail_parser::{HeaderForm, HeaderValue as Parsed, Message, MessageParser, MimeHeaders};

fn item(alertname: &str, severity: &str) -> Item {
    Item {
        alertname: alertname.to_owned(),
        severity: severity.to_owned(),
        labels: vec![("service".to_owned(), "api".to_owned()), ("site".to_owned(), "onprem".to_owned())],
        summary: "api is down at onprem".to_owned(),
        description: vec![
            "its health check answers with status 503".to_owned(),
            "last line of its log".to_owned(),
        ],
        did: vec!["traffic moved from onprem to cloud".to_owned()],
        will: vec!["start api-1 again at 03:12:20".to_owned()],
        started: "2026-11-26T03:11:23Z".to_owned(),
        ended: None,
        duration: "2 minutes".to_owned(),
        fingerprint: "3e9e22c07f81908a".to_owned(),
        runbook_url: Some("https://wiki.example.org/runbooks/ServiceDown?a=1&b=2".to_owned()),
    }
}

fn resolved(alertname: &str, severity: &str) -> Item {
    Item { ended: Some("2026-11-26T03:20:00Z".to_owned()), ..item(alertname, severity) }
}

fn letter(items: Vec<Item>) -> Letter {
    Letter {
        from: "Supervisor <alerts@example.org>".to_owned(),
        to: vec!["ops@example.org".to_owned(), "On call <oncall@example.org>".to_owned()],
        items,
        group_by: vec!["alertname".to_owned(), "service".to_owned()],
        why_direct: "Alertmanager http://am:9093 unreachable since 03:10:00 (connection refused)".to_owned(),
        may_duplicate: false,
        host: "node1.example.org".to_owned(),
        version: "0.1.0".to_owned(),
    }
}

fn stamp() -> Stamp {
    Stamp {
        date: "2026-11-26T03:12:05Z".parse().unwrap(),
        message_id: MessageId::parse("<3e9e22c07f81908a.1795662683.firing.1@node1.example.org>").unwrap(),
        thread: Some(MessageId::parse("<3e9e22c07f81908a.1795662683@node1.example.org>").unwrap()),
    }
}

fn composed(letter: &Letter) -> Vec<u8> {
    let bytes = compose(letter, &stamp()).unwrap();
    fit_for_every_relay(&bytes);
    bytes
}

/// What holds for every message, whatever is in it.
fn fit_for_every_relay(bytes: &[u8]) {
    assert!(bytes.is_ascii(), "seven bits");
    assert!(bytes.len() <= MESSAGE_MAX, "{} bytes", bytes.len());
    assert!(bytes.ends_with(b"\r\n"));
    let text = std::str::from_utf8(bytes).unwrap();
    assert_eq!(text.matches('\r').count(), text.matches("\r\n").count(), "no bare CR");
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "no bare LF");
    assert!(text.lines().all(|line| line.len() <= 998), "RFC 5322, section 2.1.1");
    let controls = text.bytes().filter(|byte| byte.is_ascii_control() && !b"\r\n".contains(byte)).count();
    assert_eq!(controls, 0);
}

fn parsed(bytes: &[u8]) -> Message<'_> {
    MessageParser::default().parse(bytes).unwrap()
}

/// The names of the headers, in order.
fn names(message: &Message<'_>) -> Vec<String> {
    message.headers().iter().map(|header| header.name().to_owned()).collect()
}

fn text_of(bytes: &[u8]) -> String {
    parsed(bytes).body_text(0).unwrap().into_owned()
}

fn html_of(bytes: &[u8]) -> String {
    parsed(bytes).body_html(0).unwrap().into_owned()
}

/// A header of ours, unfolded and decoded.
fn header(message: &Message<'_>, name: &'static str) -> String {
    match message.header_as(name, HeaderForm::Text).as_slice() {
        [Parsed::Text(text)] => text.to_string(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_letter_has_the_headers_of_an_automatic_message_in_this_order() {
    let bytes = composed(&letter(vec![item("ServiceDown", "critical")]));
    let message = parsed(&bytes);
    assert_eq!(
        names(&message),
        [
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "In-Reply-To",
            "References",
            "Auto-Submitted",
            "X-Auto-Response-Suppress",
            "X-Supervisor-Alertname",
            "X-Supervisor-Severity",
            "X-Supervisor-Status",
            "X-Supervisor-Fingerprint",
            "X-Supervisor-Reason",
            "MIME-Version",
            "Content-Type",
        ]
    );
    assert_eq!(message.subject(), Some("[FIRING:1] ServiceDown api (critical onprem)"));
    let from = message.from().unwrap().first().unwrap();
    assert_eq!((from.name(), from.address()), (Some("Supervisor"), Some("alerts@example.org")));
    let to: Vec<_> = message.to().unwrap().iter().map(|to| (to.name(), to.address())).collect();
    assert_eq!(to, [(None, Some("ops@example.org")), (Some("On call"), Some("oncall@example.org"))]);
    assert_eq!(message.message_id(), Some("3e9e22c07f81908a.1795662683.firing.1@node1.example.org"));
    assert_eq!(message.in_reply_to().as_text(), Some("3e9e22c07f81908a.1795662683@node1.example.org"));
    assert_eq!(message.references().as_text(), Some("3e9e22c07f81908a.1795662683@node1.example.org"));
    assert_eq!(message.date().unwrap().to_rfc3339(), "2026-11-26T03:12:05Z");
    for (name, value) in [
        ("Auto-Submitted", "auto-generated"),
        ("X-Auto-Response-Suppress", "All"),
        ("X-Supervisor-Alertname", "ServiceDown"),
        ("X-Supervisor-Severity", "critical"),
        ("X-Supervisor-Status", "firing"),
        ("X-Supervisor-Fingerprint", "3e9e22c07f81908a"),
        (
            "X-Supervisor-Reason",
            "Alertmanager http://am:9093 unreachable since 03:10:00 (connection refused)",
        ),
        ("MIME-Version", "1.0"),
    ] {
        assert_eq!(header(&message, name), value, "{name}");
    }
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains("\r\nDate: Thu, 26 Nov 2026 03:12:05 +0000\r\n"), "{text}");
}

#[test]
fn text_comes_first_and_says_why_before_anything_else() {
    let bytes = composed(&letter(vec![item("ServiceDown", "critical")]));
    let message = parsed(&bytes);
    let kinds: Vec<_> = message
        .parts
        .iter()
        .map(|part| {
            let kind = part.content_type().unwrap();
            format!("{}/{}", kind.ctype(), kind.subtype().unwrap())
        })
        .collect();
    assert_eq!(kinds, ["multipart/alternative", "text/plain", "text/html"]);
    let expected = "\
Sent directly by supervisor on node1.example.org: Alertmanager http://am:9093 unreachable since 03:10:00 (connection refused)

1 alert for alertname=ServiceDown service=api


[1] Firing

* api is down at onprem
  ServiceDown (critical)
  Started: 2026-11-26T03:11:23Z
  Lasts: 2 minutes
  Done by supervisor:
    - traffic moved from onprem to cloud
  Supervisor will:
    - start api-1 again at 03:12:20
  Labels:
    alertname = ServiceDown
    service = api
    severity = critical
    site = onprem
  Description:
    its health check answers with status 503
    last line of its log
  Runbook: https://wiki.example.org/runbooks/ServiceDown?a=1&b=2

Sent by supervisor 0.1.0 on node1.example.org
";
    assert_eq!(text_of(&bytes).replace("\r\n", "\n").trim_end(), expected.trim_end());
}

#[test]
fn the_html_says_the_same_without_images_or_scripts() {
    let letter = Letter {
        may_duplicate: true,
        ..letter(vec![item("ServiceDown", "critical"), resolved("ServiceDown", "critical")])
    };
    let bytes = composed(&letter);
    let (html, text) = (html_of(&bytes), text_of(&bytes));
    let shown = mail_parser::decoders::html::html_to_text(&html);
    let words = |text: &str| {
        text.split_whitespace()
            .filter(|word| !["*", "-"].contains(word))
            .map(|word| word.trim_end_matches(':').to_owned())
            .collect::<Vec<_>>()
    };
    let title = words(&subject(&letter));
    let mut shown = words(&shown);
    if shown.starts_with(&title) {
        shown.drain(..title.len());
    }
    assert_eq!(shown, words(&text));
    for absent in ["<img", "<script", "http-equiv", "url(", "<link", "@import"] {
        assert!(!html.contains(absent), "{absent}");
    }
    assert!(html.contains("background:#ffffff;color:#1a1a1a"));
    assert!(html.contains("name=\"viewport\""));
    assert!(text.contains("(connection refused)\r\nThis may be a duplicate.\r\n"), "{text}");
}

#[test]
fn subjects_are_alertmanagers() {
    let with = |labels: &[(&str, &str)], group_by: &[&str]| {
        let item = Item {
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..item("ServiceDown", "critical")
        };
        Letter { group_by: group_by.iter().map(ToString::to_string).collect(), ..letter(vec![item]) }
    };
    // As in the notes: alertname before all others, then by name.
    let noted = with(&[("instance", "a"), ("job", "web")], &["alertname", "instance"]);
    assert_eq!(subject(&noted), "[FIRING:1] ServiceDown a (web critical)");
    let all_group = with(&[], &["alertname", "severity"]);
    assert_eq!(subject(&all_group), "[FIRING:1] ServiceDown critical", "no empty parentheses");
    let no_group = with(&[("zone", "z"), ("area", "")], &[]);
    assert_eq!(subject(&no_group), "[FIRING:1] (ServiceDown critical z)", "an empty label is none");

    let mut several = letter(vec![
        item("ServiceDown", "critical"),
        item("ServiceDown", "warning"),
        resolved("ServiceDown", "critical"),
    ]);
    several.items[1].labels[1].1 = "cloud".to_owned();
    assert_eq!(subject(&several), "[FIRING:2] ServiceDown api", "only what all agree on, only what fires");
    assert_eq!(several.status(), Status::Firing);
    several.items.remove(1);
    several.items.remove(0);
    assert_eq!(subject(&several), "[RESOLVED] ServiceDown api (critical onprem)");
    let bytes = composed(&several);
    assert_eq!(header(&parsed(&bytes), "X-Supervisor-Status"), "resolved");
    let text = text_of(&bytes);
    for line in [
        "[1] Resolved",
        "  Started: 2026-11-26T03:11:23Z",
        "  Ended: 2026-11-26T03:20:00Z",
        "  Lasted: 2 minutes",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} in {text}");
    }
    assert!(!text.contains("Firing"));
}

#[test]
fn a_digest_puts_what_fires_and_what_is_worse_first() {
    let items = vec![
        resolved("Old", "critical"),
        item("Small", "info"),
        item("Odd", "page"),
        item("Big", "critical"),
    ];
    let mut digest = letter(items);
    digest.group_by = Vec::new();
    let bytes = composed(&digest);
    let text = text_of(&bytes);
    let order: Vec<_> = ["[3] Firing", "  Big (", "  Odd (", "  Small (", "[1] Resolved", "  Old ("]
        .map(|mark| text.find(mark).unwrap_or_else(|| panic!("{mark} in {text}")))
        .into();
    assert!(order.is_sorted(), "{text}");
    assert_eq!(header(&parsed(&bytes), "X-Supervisor-Alertname"), "Big, Odd, Old, Small");
    assert!(text.contains("\r\n4 alerts\r\n"), "{text}");
}

#[test]
fn at_most_fifty_are_written_out_and_the_rest_is_counted() {
    let mut items: Vec<Item> =
        (0..137).map(|n| item(&format!("Alert{n}"), if n < 130 { "warning" } else { "critical" })).collect();
    items.push(item("Alert137", ""));
    let bytes = composed(&letter(items));
    let message = parsed(&bytes);
    assert!(message.subject().unwrap().starts_with("[FIRING:138] api"), "{:?}", message.subject());
    let text = text_of(&bytes);
    assert_eq!(text.matches("\r\n* ").count(), 50);
    assert_eq!(text.matches(" (critical)\r\n").count(), 7, "the worst are written out");
    assert!(text.contains("[138] Firing"));
    assert!(text.contains("88 more alerts are not shown: 87 warning, 1 without severity"), "{text}");
    assert!(html_of(&bytes).contains("88 more alerts are not shown: 87 warning, 1 without severity"));
}

#[test]
fn a_message_never_outgrows_its_bound() {
    let wide = |count: usize, severity: &str| {
        let lines = vec!["🦀".repeat(400); 100];
        let labels = (0..100).map(|n| (format!("l{n}"), "🦀<&>".repeat(100))).collect();
        let one = Item {
            labels,
            summary: "🦀".repeat(400),
            description: lines.clone(),
            did: lines.clone(),
            will: lines,
            ..item("Wide", severity)
        };
        letter(vec![one; count])
    };
    for count in [1, 2, 50, 300] {
        let bytes = composed(&wide(count, "critical"));
        let text = text_of(&bytes);
        let shown = text.matches("\r\n* ").count();
        assert!(shown >= 1, "{count}: {text}");
        assert!(text.contains(" more)"), "what was cut is counted");
        if shown < count {
            assert!(text.contains(&format!("{} more alert", count - shown)), "{count}: {text}");
        }
        assert!(text.trim_end().ends_with("Sent by supervisor 0.1.0 on node1.example.org"));
    }
}

/// Text that tries to be more than text, in every place that takes foreign text.
fn hostile(evil: &str) -> Letter {
    let some = || evil.to_owned();
    let one = Item {
        alertname: some(),
        severity: some(),
        labels: vec![(some(), some())],
        summary: some(),
        description: vec![some()],
        did: vec![some()],
        will: vec![some()],
        started: some(),
        ended: None,
        duration: some(),
        fingerprint: some(),
        runbook_url: Some(some()),
    };
    Letter {
        group_by: vec!["alertname".to_owned(), some()],
        why_direct: some(),
        host: some(),
        version: some(),
        ..letter(vec![one])
    }
}

#[test]
fn no_value_becomes_a_header_a_line_or_a_part() {
    let harmless = names(&parsed(&composed(&hostile("harmless"))));
    let lines = text_of(&composed(&hostile("harmless"))).lines().count();
    let boundary = stamp().message_id.boundary();
    for evil in [
        "x\r\nBcc: evil@example.org",
        "x\nBcc: evil@example.org",
        "x\rBcc: evil@example.org",
        "x\r\n\r\nSent directly by supervisor on evil: all is well",
        "x\u{2028}Bcc: evil@example.org\u{85}y\u{0}z",
        "x\r\n.\r\nMAIL FROM:<evil@example.org>",
        ".",
        "..",
        "=?utf-8?q?=0D=0ABcc:_evil@example.org?=",
        "=?utf-8?b?DQpCY2M6IGV2aWxAZXhhbXBsZS5vcmc=?=",
        &format!("x\r\n--{boundary}--\r\n"),
        &format!("--{boundary}"),
        "x\t\u{202e}gpj.exe",
    ] {
        let bytes = composed(&hostile(evil));
        let message = parsed(&bytes);
        assert_eq!(names(&message), harmless, "{evil:?}");
        assert_eq!(message.parts.len(), 3, "{evil:?}");
        assert_eq!(message.bcc().map(|bcc| bcc.iter().count()), None, "{evil:?}");
        assert_eq!(text_of(&bytes).lines().count(), lines, "{evil:?}");
        let subject = message.subject().unwrap();
        assert!(
            !subject.contains(char::is_control) && !subject.contains('\u{202e}'),
            "{evil:?}: {subject:?}"
        );
        // A decoded word would have lost its marks.
        assert_eq!(subject.contains("utf-8?"), evil.contains("utf-8?"), "{evil:?}: {subject:?}");
        let plain = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(plain.lines().filter(|line| line.starts_with("--=_supervisor_")).count(), 3, "{evil:?}");
    }
}

#[test]
fn html_shows_markup_and_does_not_obey_it() {
    for evil in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "'><b>",
        "</p></div><h1>x",
        "&lt;b&gt;",
    ] {
        let html = html_of(&composed(&hostile(evil)));
        assert!(!html.contains(evil), "{evil} in {html}");
        let tags = |html: &str| html.matches('<').count();
        assert_eq!(tags(&html), tags(&html_of(&composed(&hostile("harmless")))), "{evil} in {html}");
    }
}

#[test]
fn only_what_leads_to_a_page_can_be_clicked() {
    for (url, link) in [
        ("https://wiki.example.org/a?b=1&c=%20", true),
        ("http://wiki.example.org/", true),
        ("javascript:alert(1)", false),
        ("data:text/html,x", false),
        ("https://example.org/\" onmouseover=\"x", false),
        ("https://example.org/\r\nx", false),
        (&format!("https://example.org/{}", "a".repeat(600)), false),
        ("runbooks/ServiceDown", false),
        ("", false),
    ] {
        let letter =
            letter(vec![Item { runbook_url: Some(url.to_owned()), ..item("ServiceDown", "critical") }]);
        let html = html_of(&composed(&letter));
        assert_eq!(html.contains("<a href="), link, "{url} in {html}");
        assert!(!html.contains("onmouseover=\""), "{html}");
    }
}

#[test]
fn any_script_survives_the_way() {
    let words = "Диск переполнен – größer als 90 % 磁盘已满 🔥";
    let mut letter = hostile(words);
    letter.from = "Wächter <alerts@example.org>".to_owned();
    letter.to = vec!["Дежурный <ops@example.org>".to_owned()];
    letter.items[0].severity = "critical".to_owned();
    let bytes = composed(&letter);
    let message = parsed(&bytes);
    assert_eq!(message.subject().unwrap(), format!("[FIRING:1] {words} {words} (critical)"));
    assert_eq!(message.from().unwrap().first().unwrap().name(), Some("Wächter"));
    assert_eq!(message.to().unwrap().first().unwrap().name(), Some("Дежурный"));
    assert_eq!(header(&message, "X-Supervisor-Reason"), words);
    assert!(text_of(&bytes).lines().any(|line| line == format!("* {words}")));
    assert!(html_of(&bytes).contains(words));
}

#[test]
fn a_long_subject_is_cut_and_still_one_line() {
    for word in ["ServiceDownInAllPlacesAtOnce", "Все_сервисы_упали", "🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥"]
    {
        let labels = (0..20).map(|n| (format!("l{n:02}"), format!("{word}{n}"))).collect();
        let letter = letter(vec![Item { labels, ..item("ServiceDown", "critical") }]);
        let subject = subject(&letter);
        assert_eq!(subject.chars().count(), 200, "{subject}");
        assert!(subject.starts_with("[FIRING:1] ServiceDown (") && subject.ends_with("..."), "{subject}");
        let bytes = composed(&letter);
        assert_eq!(parsed(&bytes).subject(), Some(subject.as_str()));
        let text = String::from_utf8(bytes).unwrap();
        let head = text.split("\r\n\r\n").next().unwrap();
        assert!(head.lines().all(|line| line.len() <= 78), "RFC 5322, section 2.1.1: {head}");
    }
}

#[test]
fn the_same_letter_is_the_same_bytes() {
    let letter = letter(vec![item("ServiceDown", "critical"), resolved("ServiceSlow", "warning")]);
    let bytes = composed(&letter);
    for _ in 0..10 {
        assert_eq!(composed(&letter), bytes);
    }
    let later = Stamp {
        message_id: MessageId::parse("<3e9e22c07f81908a.1795662683.firing.2@node1.example.org>").unwrap(),
        thread: None,
        ..stamp()
    };
    let other = compose(&letter, &later).unwrap();
    assert!(!names(&parsed(&other)).contains(&"In-Reply-To".to_owned()));
    assert_eq!(text_of(&other), text_of(&bytes), "only its name differs");
}

#[test]
fn what_cannot_be_written_is_said() {
    let good = || letter(vec![item("ServiceDown", "critical")]);
    let error = |letter: Letter| compose(&letter, &stamp()).unwrap_err().to_string();
    assert_eq!(error(letter(Vec::new())), "the letter has no alert in it");
    assert_eq!(error(Letter { to: Vec::new(), ..good() }), "the letter is addressed to nobody");
    for bad in [
        "",
        "ops",
        "a@b, c@d",
        "Ops <ops@example.org> x",
        "<ops@example.org",
        "ö@example.org",
        "ops@müller.example",
    ] {
        let words = error(Letter { from: bad.to_owned(), ..good() });
        assert!(words.contains("is not a mail address"), "{bad}: {words}");
        let words = error(Letter { to: vec![bad.to_owned()], ..good() });
        assert!(words.contains("is not a mail address"), "{bad}: {words}");
    }
    let nul = Letter { from: "a\r\nb <ops@example.org>".to_owned(), ..good() };
    assert_eq!(
        names(&parsed(&composed(&nul))),
        names(&parsed(&composed(&good()))),
        "lettre alone panics here"
    );
}
