//! The service over a real socket, as HAProxy and the probes see it.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::faults::{Blow, Fault, Order, OrderError, Parameters};
use crate::routes::{App, router, site_name};
use crate::store::{Changes, Store};

/// A client deadline that only a fault reaches: everything else here takes milliseconds.
const GIVE_UP: Duration = Duration::from_secs(10);

/// A running service on a port of its own; it ends with the test's runtime.
struct Service {
    address: String,
    client: reqwest::Client,
    data: TempDir,
}

impl Service {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let app = router(App::new("onprem".to_owned(), store));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let client = reqwest::Client::builder().no_proxy().timeout(GIVE_UP).build().unwrap();
        Self { address, client, data }
    }

    async fn send(&self, method: Method, path: &str) -> Response {
        self.client.request(method, format!("{}{path}", self.address)).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path).await
    }

    async fn status(&self, path: &str) -> u16 {
        self.get(path).await.status().as_u16()
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).await.text().await.unwrap()).unwrap()
    }

    async fn create(&self, name: &str, id: &str) -> Response {
        self.client
            .post(format!("{}/items", self.address))
            .header("content-type", "application/json")
            .header("x-request-id", id)
            .body(json!({ "name": name }).to_string())
            .send()
            .await
            .unwrap()
    }

    async fn order(&self, fault: &str) {
        assert!(self.send(Method::POST, &format!("/fault/{fault}")).await.status().is_success());
    }

    async fn never_answers(&self, method: Method, path: &str, id: &str) -> bool {
        let request = self
            .client
            .request(method, format!("{}{path}", self.address))
            .header("content-type", "application/json")
            .header("x-request-id", id)
            .body(r#"{"name":"hanging"}"#)
            .timeout(Duration::from_millis(300));
        request.send().await.is_err_and(|error| error.is_timeout())
    }
}

#[tokio::test]
async fn every_answer_names_its_site() {
    let service = Service::start().await;
    assert!(service.get("/").await.text().await.unwrap().starts_with("onprem "));
    for path in
        ["/", "/items", "/items/77", "/health", "/live", "/metrics", "/executed", "/fault", "/nowhere"]
    {
        assert_eq!(service.get(path).await.headers()["x-site"], "onprem", "{path}");
    }
    service.order("error").await;
    assert_eq!(service.get("/").await.headers()["x-site"], "onprem");
}

#[tokio::test]
async fn items_are_created_listed_read_and_deleted() {
    let service = Service::start().await;
    let created = service.create("first", "a").await;
    assert_eq!(created.status(), StatusCode::CREATED);
    assert_eq!(created.headers()["location"], "/items/1");
    service.create("second", "b").await;
    assert_eq!(service.json("/items/1").await, json!({"id": 1, "name": "first"}));
    assert_eq!(service.json("/items?limit=1").await, json!({"items": [{"id": 2, "name": "second"}]}));
    assert_eq!(service.send(Method::DELETE, "/items/1").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(service.status("/items/1").await, 404);
    assert_eq!(service.send(Method::DELETE, "/items/1").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_name() {
    let service = Service::start().await;
    assert_eq!(service.create(&"x".repeat(20_000), "a").await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(service.create(&"x".repeat(1_025), "a").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(service.create("", "a").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let long_id = service.create("x", &"i".repeat(129)).await;
    assert_eq!(long_id.status(), StatusCode::BAD_REQUEST);
    assert!(long_id.text().await.unwrap().contains("x-request-id"));
    assert_eq!(service.json("/items").await, json!({"items": []}));
}

#[tokio::test]
async fn health_fails_with_its_store_and_live_does_not() {
    let service = Service::start().await;
    assert_eq!(service.status("/health").await, 200);
    let other = rusqlite::Connection::open(service.data.path().join("items.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let sick = service.get("/health").await;
    assert_eq!(sick.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(sick.text().await.unwrap().contains("locked"));
    assert_eq!(service.status("/live").await, 200);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(service.status("/health").await, 200);
}

#[tokio::test]
async fn health500_leaves_the_items_working() {
    let service = Service::start().await;
    service.order("health500").await;
    assert_eq!(service.status("/health").await, 500);
    assert_eq!(service.status("/items").await, 200);
    assert_eq!(service.status("/live").await, 200);
}

#[tokio::test]
async fn a_wrong_body_comes_with_status_200() {
    let service = Service::start().await;
    assert!(service.get("/health").await.text().await.unwrap().contains(r#""status":"ok""#));
    service.order("wrong-body").await;
    let wrong = service.get("/health").await;
    assert_eq!(wrong.status(), StatusCode::OK);
    assert!(!wrong.text().await.unwrap().contains("onprem"));
}

#[tokio::test]
async fn an_error_executes_nothing_and_clearing_mends_it() {
    let service = Service::start().await;
    service.order("error").await;
    for path in ["/", "/items", "/health", "/live", "/metrics"] {
        assert_eq!(service.status(path).await, 500, "{path}");
    }
    assert_eq!(service.json("/executed").await["total"], 0);
    assert_eq!(service.send(Method::DELETE, "/fault").await.status(), StatusCode::OK);
    assert_eq!(service.status("/health").await, 200);
}

#[tokio::test]
async fn slow_delays_everything_but_the_switches() {
    let service = Service::start().await;
    service.order("slow?ms=150").await;
    assert_eq!(service.json("/fault").await, json!({"fault": "slow", "ms": 150}));
    for path in ["/", "/health", "/live"] {
        let began = std::time::Instant::now();
        assert_eq!(service.status(path).await, 200);
        assert!(began.elapsed() >= Duration::from_millis(150), "{path}");
    }
}

#[tokio::test]
async fn a_hang_answers_nothing_executes_nothing_and_can_be_cleared() {
    let service = Service::start().await;
    service.order("hang").await;
    for path in ["/", "/items", "/health", "/live"] {
        assert!(service.never_answers(Method::GET, path, "h").await, "{path}");
    }
    assert!(service.never_answers(Method::POST, "/items", "h").await);
    assert_eq!(service.json("/executed").await["total"], 0);
    service.send(Method::DELETE, "/fault").await;
    assert_eq!(service.json("/items").await, json!({"items": []}));
}

#[tokio::test]
async fn a_hang_after_execution_has_executed() {
    let service = Service::start().await;
    service.order("hang?after=true").await;
    assert!(service.never_answers(Method::POST, "/items", "lost-answer").await);
    assert_eq!(service.json("/executed/ids").await, json!({"lost-answer": 1}));
    service.send(Method::DELETE, "/fault").await;
    service.create("again", "lost-answer").await;
    assert_eq!(service.json("/executed").await["repeated"], json!(["lost-answer"]));
}

#[tokio::test]
async fn only_the_service_itself_counts_as_executed() {
    let service = Service::start().await;
    for path in ["/", "/items", "/items/9", "/health", "/live", "/metrics", "/executed", "/fault", "/nowhere"]
    {
        service.get(path).await;
    }
    service.create("x", "one").await;
    service.send(Method::DELETE, "/items/1").await;
    assert_eq!(
        service.json("/executed").await,
        json!({
            "total": 5, "by_method": {"GET": 3, "POST": 1, "DELETE": 1},
            "identified": 1, "forgotten": 0, "repeated_count": 0, "repeated": []
        })
    );
}

#[tokio::test]
async fn metrics_count_answers_by_status() {
    let service = Service::start().await;
    service.create("x", "one").await;
    service.order("error").await;
    service.get("/items/1").await;
    service.send(Method::DELETE, "/fault").await;
    let text = service.get("/metrics").await.text().await.unwrap();
    for line in [
        r#"demo_api_requests_total{site="onprem",method="POST",path="/items",status="201"} 1"#,
        r#"demo_api_requests_total{site="onprem",method="GET",path="/items/{id}",status="500"} 1"#,
        r#"demo_api_items{site="onprem"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
    }
}

#[tokio::test]
async fn a_repeated_id_is_seen_across_a_restart() {
    let data = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let store = Store::open(data.path()).unwrap();
        store.create("x".to_owned(), Some("twice".to_owned())).await.unwrap();
        store.create("x".to_owned(), None).await.unwrap();
    }
    let store = Store::open(data.path()).unwrap();
    assert_eq!(
        store.changes().await.unwrap(),
        Changes { identified: 1, forgotten: 0, repeated_count: 1, repeated: vec!["twice".to_owned()] }
    );
}

#[tokio::test]
async fn old_ids_are_forgotten_and_the_store_says_how_many() {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open_remembering(data.path(), 3).unwrap();
    for id in ["a", "b", "c", "d", "e", "e"] {
        store.create("x".to_owned(), Some(id.to_owned())).await.unwrap();
    }
    let ids = [("c", 1), ("d", 1), ("e", 2)].map(|(id, times)| (id.to_owned(), times));
    assert_eq!(store.changed_ids().await.unwrap(), ids);
    assert_eq!(store.changes().await.unwrap().forgotten, 2);
}

#[test]
fn a_store_without_a_directory_says_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let missing = data.path().join("missing");
    let error = Store::open(&missing).err().unwrap().to_string();
    assert!(error.contains("missing/items.db") && error.contains("must exist"), "{error}");
}

#[tokio::test]
async fn an_order_with_a_wrong_name_or_parameter_is_refused() {
    let service = Service::start().await;
    for (fault, status) in [
        ("tired", 404),
        ("exit?code=256", 400),
        ("slow?ms=60001", 400),
        ("error?ms=5", 400),
        ("slow?sec=1", 400),
    ] {
        let answer = service.send(Method::POST, &format!("/fault/{fault}")).await;
        assert_eq!(answer.status().as_u16(), status, "{fault}");
    }
    assert_eq!(service.json("/fault").await, json!({"fault": "none"}));
}

#[test]
fn orders_have_the_defaults_that_their_table_names() {
    let order = |name| Order::parse(name, Parameters::default());
    assert_eq!(order("slow"), Ok(Order::Last(Fault::Slow { ms: 1_000 })));
    assert_eq!(order("hang"), Ok(Order::Last(Fault::Hang { after: false })));
    assert_eq!(order("exit"), Ok(Order::Strike(Blow::Exit(1))));
    assert_eq!(order("oom"), Ok(Order::Strike(Blow::Oom)));
    assert_eq!(order("Slow"), Err(OrderError::Unknown));
}

#[test]
fn a_site_name_fits_a_header_and_a_word() {
    assert_eq!(site_name("on-prem_1.a").unwrap(), "on-prem_1.a");
    for bad in ["", "on prem", "on\nprem", "a;b", &"x".repeat(65)] {
        assert!(site_name(bad).is_err(), "{bad:?}");
    }
}
