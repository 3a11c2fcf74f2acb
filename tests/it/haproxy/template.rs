//! What the template makes of the settings, in a HAProxy that serves: who gets which request.

use super::lab::{Lab, free_port, get_of, ident, until};
use std::path::Path;
use std::time::Duration;
use supervisor::actuator::haproxy::template::{Model, Snippet, TlsModel};
use supervisor::actuator::haproxy::{BindCheck, LocalBinary, Outcome, Stage, Validate, Validation, apply};

/// HAProxy's binary has nothing to say against what the lab runs.
async fn accepted_without_a_warning(lab: &Lab) {
    let verdict = LocalBinary(super::lab::binary()).validate(&lab.config_file()).await.unwrap();
    let text = std::fs::read_to_string(lab.config_file()).unwrap();
    assert_eq!(verdict, Validation::Accepted { warnings: String::new() }, "{text}");
}

/// A further service on the bind of the first, of one site only.
fn beside(model: &mut Model, name: &str, pool: usize, host: Option<&str>, path: Option<&str>) {
    let mut service = model.services[0].clone();
    service.name = ident(name);
    service.pools = vec![service.pools[pool].clone()];
    (service.host, service.path) = (host.map(str::to_owned), path.map(str::to_owned));
    model.services.push(service);
}

#[tokio::test]
async fn host_and_path_say_who_answers() {
    let lab = Lab::start(|model| {
        beside(model, "shop", 1, None, Some("/shop"));
        beside(model, "help", 0, None, Some("/shop/help"));
        beside(model, "web", 0, Some("web.example"), None);
        beside(model, "cart", 1, Some("web.example"), Some("/cart"));
    })
    .await;
    accepted_without_a_warning(&lab).await;
    // `api` and what is asked of onprem's services is answered by onprem.
    for (host, path, site) in [
        ("api", "/", "onprem"),
        ("api", "/shop", "cloud"),
        ("api", "/shop?from=mail", "cloud"),
        ("api", "/shop/", "cloud"),
        ("api", "/shop/cart/1", "cloud"),
        ("api", "/shopping", "onprem"),
        ("api", "/x/shop", "onprem"),
        ("api", "/Shop", "onprem"),
        ("api", "/shop/help/me", "onprem"),
        ("api", "/shop/helper", "cloud"),
        ("web.example", "/shop", "onprem"),
        ("Web.Example:8080", "/cart/1", "cloud"),
        ("web.example", "/", "onprem"),
    ] {
        let answers = async || get_of(lab.port, host, path).await.as_deref() == Ok(site);
        until(&format!("{site} answers {host}{path}"), answers).await;
    }
}

/// A certificate for web.example that vouches for itself, with its key, as HAProxy reads them; and the certificate alone.
pub(crate) fn certificate(into: &Path) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2".split(' '))
        .args(["-subj", "/CN=web.example", "-addext", "subjectAltName=DNS:web.example"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    std::fs::write(into, [read("cert.pem"), read("key.pem")].concat()).unwrap();
    read("cert.pem")
}

/// A client that trusts `authority`, finds web.example at this machine, and follows no redirection.
pub(crate) fn browser(authority: &[u8], port: u16) -> reqwest::Client {
    let authority = reqwest::Certificate::from_pem(authority).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([authority])
        .resolve("web.example", ([127, 0, 0, 1], port).into())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_secs(5)) // A client that waits longer hides a hang.
        .build()
        .unwrap()
}

#[tokio::test]
async fn haproxy_ends_tls_with_the_certificate_of_the_settings_and_leads_there_from_a_plain_bind() {
    let plain = free_port();
    let mut authority = Vec::new();
    let lab = Lab::start(|model| {
        // The lab's directory is where the map is.
        let certificates = Path::new(&model.proxy.state_file).with_file_name("certs");
        std::fs::create_dir(&certificates).unwrap();
        authority = certificate(&certificates.join("web.pem"));
        model.services[0].tls = Some(TlsModel {
            certificates: certificates.display().to_string(),
            min_version: "TLSv1.2".into(),
            redirect_from: Some(format!("127.0.0.1:{plain}")),
        });
    })
    .await;
    accepted_without_a_warning(&lab).await;
    let (secure, clear) = (browser(&authority, lab.port), browser(&authority, plain));
    let url = format!("https://web.example:{}/x?y=1", lab.port);
    until("onprem answers over TLS", async || match secure.get(&url).send().await {
        Ok(answer) => answer.text().await.is_ok_and(|text| text == "onprem"),
        Err(_) => false,
    })
    .await;
    let sent = clear.post(format!("http://web.example:{plain}/x?y=1")).body("z").send().await.unwrap();
    assert_eq!((sent.status().as_u16(), sent.headers()["location"].to_str().unwrap()), (308, url.as_str()));
    // Who speaks in the clear where TLS is expected gets nothing.
    assert!(get_of(lab.port, "web.example", "/").await.is_err());
}

#[tokio::test]
async fn certificates_that_are_missing_are_told_by_their_key_before_anything_is_touched() {
    let lab = Lab::start(|_| {}).await;
    let (text, pid) =
        (std::fs::read_to_string(lab.config_file()).unwrap(), lab.runtime().info().await.unwrap().pid);
    let certificates = lab.dir.path().join("certs.pem");
    let new = lab.rendered(|model| {
        model.services[0].tls = Some(TlsModel {
            certificates: certificates.display().to_string(),
            min_version: "TLSv1.3".into(),
            redirect_from: None,
        });
    });
    let target = lab.target(BindCheck::Local);
    let refused = async || {
        let outcome = apply(&target, &new).await.unwrap();
        let Outcome::Rejected { stage: Stage::Validation, message } = outcome else { panic!("{outcome:?}") };
        assert!(message.contains("services.api.tls.certificates"), "{message}");
        assert_eq!(std::fs::read_to_string(lab.config_file()).unwrap(), text);
        assert_eq!((lab.runtime().info().await.unwrap().pid, lab.site().await.as_str()), (pid, "onprem"));
        message
    };
    let message = refused().await;
    assert!(message.contains("certs.pem") && message.contains("No such file"), "{message}");
    // Without its key it is of no use.
    let authority = certificate(&certificates);
    std::fs::write(&certificates, &authority).unwrap();
    assert!(refused().await.contains("Private Key"));
    let authority = certificate(&certificates);
    let outcome = apply(&target, &new).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    let answer = browser(&authority, lab.port).get(format!("https://web.example:{}/", lab.port)).send().await;
    assert_eq!(answer.unwrap().text().await.unwrap(), "onprem");
}

fn snippet(key: &str, text: &str) -> Option<Snippet> {
    Some(Snippet { key: key.to_owned(), text: text.to_owned() })
}

#[tokio::test]
async fn snippets_work_where_they_stand_and_a_bad_one_is_named_by_its_key_and_line() {
    let lab = Lab::start(|model| {
        model.proxy.snippets.global = snippet("proxies.edge.snippets.global", "tune.maxaccept 50\n");
        model.proxy.snippets.defaults_http =
            snippet("proxies.edge.snippets.defaults_http", "option forwardfor");
        model.proxy.snippets.defaults_tcp = snippet("proxies.edge.snippets.defaults_tcp", "option clitcpka");
        model.services[0].snippets.frontend =
            snippet("services.api.snippets.frontend", "http-response set-header X-Edge \"of the lab\"\n");
        model.services[0].snippets.backend = snippet(
            "services.api.snippets.backend",
            "\n    balance leastconn\n    http-response set-header X-Pool %b\n",
        );
    })
    .await;
    accepted_without_a_warning(&lab).await;
    let client = reqwest::Client::builder()
        .tls_certs_only([])
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let url = format!("http://127.0.0.1:{}/", lab.port);
    until("the answer has what the snippets add", async || match client.get(&url).send().await {
        Ok(answer) => {
            let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
            header("x-edge") == Some("of the lab") && header("x-pool") == Some("api__onprem")
        }
        Err(_) => false,
    })
    .await;

    let (text, pid) =
        (std::fs::read_to_string(lab.config_file()).unwrap(), lab.runtime().info().await.unwrap().pid);
    let key = "services.api.snippets.backend";
    let secret = "balance leastconn\n  http-request set-header Authorization \"Basic c2VjcmV0\" if nobody\n";
    for (bad, said, line) in
        [(secret, "'nobody'", 2), ("balance leastconn\n\n  frobnicate\n", "'frobnicate'", 3)]
    {
        let new = lab.rendered(|model| model.services[0].snippets.backend = snippet(key, bad));
        let outcome = apply(&lab.target(BindCheck::Local), &new).await.unwrap();
        let Outcome::Rejected { stage: Stage::Validation, message } = outcome else { panic!("{outcome:?}") };
        assert!(message.contains(said) && message.contains(&format!("(line {line} of {key})")), "{message}");
        assert!(!message.contains("c2VjcmV0"), "{message}");
    }
    assert_eq!(std::fs::read_to_string(lab.config_file()).unwrap(), text);
    assert_eq!((lab.runtime().info().await.unwrap().pid, lab.site().await.as_str()), (pid, "onprem"));
}
