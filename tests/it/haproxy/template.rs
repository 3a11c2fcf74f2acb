//! What the template makes of the settings, in a HAProxy that serves: who gets which request.

use super::lab::{Lab, get_of, ident, until};
use supervisor::actuator::haproxy::template::Model;
use supervisor::actuator::haproxy::{LocalBinary, Validate, Validation};

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
