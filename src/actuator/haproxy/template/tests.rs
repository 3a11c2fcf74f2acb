use super::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn ident(text: &str) -> Ident {
    text.parse().unwrap()
}

fn server(name: &str, address: &str) -> ServerModel {
    ServerModel { name: ident(name), address: address.into(), maxconn: None }
}

fn pool(site: &str, servers: Vec<ServerModel>) -> PoolModel {
    PoolModel { site: ident(site), servers }
}

fn service(name: &str, bind: &str, pools: Vec<PoolModel>) -> ServiceModel {
    ServiceModel {
        name: ident(name),
        mode: Mode::Http,
        bind: bind.into(),
        tls: None,
        host: None,
        path: None,
        pools,
        check: CheckModel {
            http: Some(HttpCheck { path: "/health".into(), host: name.into(), status: "200".into() }),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            fall: 2,
            rise: 2,
        },
        stateful: false,
        retry_reads_after: Some(Duration::from_millis(1200)),
        slow_start: Duration::ZERO,
        maintenance_page: None,
        observe: true,
        snippets: ServiceSnippets::default(),
    }
}

/// The stack of `make demo`: one service, two sites, names resolved by Docker.
fn demo() -> Model {
    Model {
        proxy: ProxyModel {
            owner: ident("0123abcd"),
            user: None,
            group: None,
            admin_socket: "/run/haproxy/admin.sock".into(),
            socket_mode: "660".into(),
            socket_gid: Some(99),
            map_path: "/etc/haproxy/maps/routes.map".parse().unwrap(),
            state_file: "/run/haproxy/server-state".into(),
            maxconn: 4000,
            nameservers: vec!["127.0.0.11:53".into()],
            metrics_bind: Some("*:8405".into()),
            timeouts: Timeouts::default(),
            snippets: ProxySnippets::default(),
        },
        services: vec![service(
            "api",
            "*:8080",
            vec![
                pool("onprem", vec![server("api-onprem", "api-onprem:5000")]),
                pool("cloud", vec![server("api-cloud", "api-cloud:5000")]),
            ],
        )],
    }
}

fn text(model: &Model) -> String {
    render(model, DEFAULT_TEMPLATE).unwrap_or_else(|error| panic!("{error}")).text
}

#[test]
fn the_demo_renders_as_recorded() {
    let rendered = text(&demo());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/actuator/haproxy/template/demo.cfg");
        std::fs::write(path, &rendered).unwrap();
    }
    assert_eq!(rendered, include_str!("demo.cfg"), "run with UPDATE_GOLDEN=1 if the change is meant");
}

#[test]
fn the_revision_is_a_hash_of_all_but_the_description() {
    let one = render(&demo(), DEFAULT_TEMPLATE).unwrap();
    assert_eq!(one.revision, revision(&one.text));
    assert_eq!(parse_description(&one.description), Some(("0123abcd", one.revision.as_str())));
    let mut model = demo();
    model.proxy.owner = ident("another");
    assert_eq!(
        render(&model, DEFAULT_TEMPLATE).unwrap().revision,
        one.revision,
        "the owner is no part of it"
    );
    model.proxy.maxconn += 1;
    assert_ne!(render(&model, DEFAULT_TEMPLATE).unwrap().revision, one.revision);
}

#[test]
fn every_pool_has_the_next_site_as_backup_and_a_rescue_line_for_each_other() {
    let mut model = demo();
    model.services[0].pools[1].servers.push(server("api-cloud-2", "10.0.0.2:5000"));
    model.services[0].pools.push(pool("third", vec![server("t1", "10.0.1.1:5000")]));
    let text = text(&model);
    let lines = |backend: &str| -> Vec<String> {
        let start = text.split(&format!("\nbackend {backend} ")).nth(1).unwrap();
        let body = start.split("\n\n").next().unwrap();
        let names = body.lines().filter_map(|line| line.trim().strip_prefix("server "));
        names.map(|rest| rest.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(
        lines("api__onprem"),
        ["api-onprem", "x__cloud__api-cloud", "x__cloud__api-cloud-2", "r__cloud", "r__third"]
    );
    assert_eq!(lines("api__third"), ["t1", "x__onprem", "r__onprem", "r__cloud"]);
    assert!(text.contains("backup no-check track api__cloud/api-cloud-2\n"), "{text}");
}

#[test]
fn without_name_servers_the_system_resolves_names() {
    let mut model = demo();
    assert!(text(&model).contains(" init-addr last,none resolvers dns\n"));
    model.proxy.nameservers.clear();
    // With `last,none` alone a name would never be resolved, and its server never serve; with `last` first, only once.
    let text = text(&model);
    assert!(text.contains(" init-addr libc,last,none\n") && !text.contains("resolvers"), "{text}");
}

#[test]
fn a_haproxy_of_roots_becomes_the_user_that_is_named() {
    let mut model = demo();
    assert!(!text(&model).contains("\n    user ") && !text(&model).contains("\n    group "));
    (model.proxy.user, model.proxy.group) = (Some(ident("haproxy")), Some(ident("www")));
    assert!(text(&model).contains("\n    user haproxy\n    group www\n    server-state-file "));
}

#[test]
fn a_servers_own_line_starts_slowly_and_its_backup_lines_do_not() {
    let mut model = demo();
    assert!(!text(&model).contains("slowstart"));
    model.services[0].slow_start = Duration::from_secs(30);
    let slow: Vec<String> = text(&model)
        .lines()
        .filter(|line| line.contains("slowstart"))
        .map(|line| line.trim().to_owned())
        .collect();
    assert_eq!(
        slow,
        [
            "server api-onprem api-onprem:5000 slowstart 30000ms",
            "server api-cloud api-cloud:5000 slowstart 30000ms"
        ]
    );
}

#[test]
fn a_maintenance_page_is_named_in_each_pool_of_an_http_service() {
    let mut model = demo();
    assert!(!text(&model).contains("errorfile"));
    model.services[0].maintenance_page = Some("/etc/haproxy/pages/api.http".to_owned());
    let named =
        |model: &Model| text(model).matches("\n    errorfile 503 /etc/haproxy/pages/api.http\n").count();
    assert_eq!(named(&model), 2);
    model.services[0].mode = Mode::Tcp;
    model.services[0].check.http = None;
    assert_eq!(named(&model), 0);
    model.services[0].maintenance_page = Some("/tmp/a page".to_owned());
    assert!(render(&model, DEFAULT_TEMPLATE).is_err(), "a blank would end the line's word");
}

#[test]
fn a_stateful_service_has_no_lines_of_other_sites() {
    let mut model = demo();
    model.services[0].stateful = true;
    let text = text(&model);
    assert!(!text.contains("backup") && !text.contains("r__") && !text.contains("allbackups"), "{text}");
}

#[test]
fn services_on_one_bind_are_told_apart_by_host() {
    let mut model = demo();
    let mut web = model.services[0].clone();
    web.name = ident("web");
    web.host = Some("Web.Example".into());
    model.services.push(web);
    let rendered = text(&model);
    assert_eq!(rendered.matches("\nfrontend fe__").count(), 1);
    let with_host = rendered.find("if { req.hdr(host),host_only,lower -m str web.example }").unwrap();
    let without = rendered.find("%[str(api),map_str(/etc/haproxy/maps/routes.map,api__onprem)]\n").unwrap();
    assert!(with_host < without, "the rule without a host must come last");
    assert!(rendered.contains("\n    default_backend api__onprem\n"));

    model.services[0].host = Some("api.example".into());
    assert!(text(&model).contains("\n    default_backend be_unrouted\n"), "an unknown host is nobody's");

    model.services[0].host = None;
    model.services[1].host = None;
    let error = render(&model, DEFAULT_TEMPLATE).unwrap_err();
    assert!(matches!(error, TemplateError::Bind { .. }), "{error}");
    model.services[1].mode = Mode::Tcp;
    assert!(matches!(render(&model, DEFAULT_TEMPLATE), Err(TemplateError::Bind { .. })));
}

#[test]
fn of_several_services_the_one_that_asks_for_the_least_comes_first() {
    let mut model = demo();
    let asking = [
        ("shop", None, Some("/shop")),
        ("web", Some("web.example"), None),
        ("cart", None, Some("/shop/cart")),
        ("web-api", Some("web.example"), Some("/api")),
    ];
    for (name, host, path) in asking {
        let mut service = model.services[0].clone();
        service.name = ident(name);
        (service.host, service.path) = (host.map(str::to_owned), path.map(str::to_owned));
        model.services.push(service);
    }
    let rendered = text(&model);
    let rules: Vec<String> = rendered
        .lines()
        .filter_map(|line| line.trim().strip_prefix("use_backend %[str("))
        .map(|line| line.replace(",map_str(/etc/haproxy/maps/routes.map,", " ").replace("__onprem)]", ""))
        .collect();
    let web = "{ req.hdr(host),host_only,lower -m str web.example }";
    assert_eq!(
        rules,
        [
            format!("web-api) web-api if {web} {{ path,concat(/) -m beg /api/ }}"),
            format!("web) web if {web}"),
            "cart) cart if { path,concat(/) -m beg /shop/cart/ }".to_owned(),
            "shop) shop if { path,concat(/) -m beg /shop/ }".to_owned(),
            "api) api".to_owned(),
        ]
    );
    assert!(rendered.contains("\n    default_backend api__onprem\n"));
    model.services[0].path = Some("/api".to_owned());
    assert!(text(&model).contains("\n    default_backend be_unrouted\n"), "other paths are nobody's");
    model.services[1].path = Some("/api".to_owned());
    let error = render(&model, DEFAULT_TEMPLATE).unwrap_err();
    assert!(matches!(error, TemplateError::Bind { .. }), "{error}");
}

fn tls() -> TlsModel {
    TlsModel {
        certificates: "/etc/haproxy/certs".into(),
        min_version: "TLSv1.2".into(),
        redirect_from: Some("*:80".into()),
    }
}

#[test]
fn where_clients_speak_tls_the_bind_says_so_and_a_plain_one_leads_there() {
    let mut model = demo();
    assert!(!text(&model).contains(" ssl "));
    model.services[0].tls = Some(tls());
    let rendered = text(&model);
    let bind = "    bind *:8080 ssl crt /etc/haproxy/certs ssl-min-ver TLSv1.2 alpn h2,http/1.1\n";
    assert!(rendered.contains(bind), "{rendered}");
    assert!(rendered.contains("\n    http-request set-header X-Forwarded-Proto https\n"));
    let plain = rendered.split("\nfrontend fe__api__plain from http\n    bind *:80\n").nth(1).unwrap();
    assert!(
        plain.contains(" code 308 location https://%[req.hdr(host),host_only]:8080%[pathq]\n"),
        "{plain}"
    );

    model.services[0].bind = "*:443".into();
    assert!(
        text(&model).contains(" location https://%[req.hdr(host),host_only]%[pathq]\n"),
        "as browsers show it"
    );

    let mut web = model.services[0].clone();
    (web.name, web.host) = (ident("web"), Some("web.example".into()));
    model.services.push(web);
    assert_eq!(text(&model).matches(" ssl crt ").count(), 1);
    assert_eq!(text(&model).matches("__plain from http\n").count(), 1);
    model.services[1].tls = None;
    let error = render(&model, DEFAULT_TEMPLATE).unwrap_err();
    assert!(matches!(error, TemplateError::Bind { .. }), "{error}");

    model.services.pop();
    model.services[0].mode = Mode::Tcp;
    model.services[0].check.http = None;
    let rendered = text(&model);
    assert!(
        rendered.contains("    bind *:443 ssl crt /etc/haproxy/certs ssl-min-ver TLSv1.2\n"),
        "{rendered}"
    );
    assert!(!rendered.contains("__plain") && !rendered.contains("X-Forwarded"), "{rendered}");
}

#[test]
fn snippets_stand_in_their_sections_as_they_are_between_marks() {
    let mut model = demo();
    assert!(!text(&model).contains("snippet"));
    let snippet = |key: &str| Some(Snippet { key: key.to_owned(), text: format!("  say \"{key}\" # $x\n") });
    model.proxy.snippets = ProxySnippets {
        global: snippet("global"),
        defaults_http: snippet("defaults_http"),
        defaults_tcp: snippet("defaults_tcp"),
    };
    model.services[0].snippets =
        ServiceSnippets { frontend: snippet("frontend"), backend: snippet("backend") };
    let mut web = model.services[0].clone();
    (web.name, web.host) = (ident("web"), Some("web.example".into()));
    web.snippets.frontend = snippet("frontend of web");
    model.services.push(web);
    let rendered = text(&model);
    let within = |head: &str| -> Vec<String> {
        let section = rendered.split(&format!("\n{head}")).nth(1).unwrap().split("\n\n").next().unwrap();
        let lines: Vec<&str> = section.lines().collect();
        let said = |line: &&&str| line.starts_with("  say ");
        lines.iter().filter(said).map(|line| line.replace("  say ", "")).collect()
    };
    for (head, said) in [
        ("global\n", vec!["\"global\" # $x"]),
        ("defaults http\n", vec!["\"defaults_http\" # $x"]),
        ("defaults tcp\n", vec!["\"defaults_tcp\" # $x"]),
        ("frontend fe__api ", vec!["\"frontend\" # $x", "\"frontend of web\" # $x"]),
        ("backend api__onprem ", vec!["\"backend\" # $x"]),
        ("backend web__cloud ", vec!["\"backend\" # $x"]),
    ] {
        assert_eq!(within(head), said, "{rendered}");
    }
    let line = 1 + rendered.lines().position(|line| line == "  say \"frontend of web\" # $x").unwrap();
    assert_eq!(snippet_of(&rendered, line), Some(("frontend of web", 1)));
    let before = |one: &str, other: &str| rendered.find(one).unwrap() < rendered.find(other).unwrap();
    assert!(
        before("end of snippet frontend of web", "use_backend %"),
        "HAProxy warns of rules behind use_backend"
    );
    assert!(
        before("balance roundrobin", "# snippet backend")
            && before("# snippet backend", "default-server check")
    );

    model.services[0].snippets.backend = Some(Snippet { key: "backend".into(), text: "tops3cret\0".into() });
    let error = render(&model, DEFAULT_TEMPLATE).unwrap_err().to_string();
    assert!(error.contains("\"backend\"") && !error.contains("tops3cret"), "{error}");
}

#[test]
fn a_tcp_service_has_no_http_options() {
    let mut model = demo();
    model.services[0].mode = Mode::Tcp;
    model.services[0].check.http = None;
    model.proxy.metrics_bind = None;
    let rendered = text(&model);
    let own = rendered.split("\nfrontend ").nth(1).unwrap().split("backend be_unrouted").next().unwrap();
    assert!(!own.contains("http"), "{own}");
    assert!(own.contains("on-marked-down shutdown-sessions"));
}

#[test]
fn values_that_could_inject_a_directive_are_refused_by_name() {
    type Change = fn(&mut Model);
    let cases: [(&str, Change); 17] = [
        ("bind", |m| m.services[0].bind = "*:8080\n    acl x".into()),
        ("bind", |m| m.services[0].bind = "*".into()),
        ("bind", |m| m.services[0].bind = "*:0".into()),
        ("host", |m| m.services[0].host = Some("a b".into())),
        ("certificates", |m| m.services[0].tls = Some(TlsModel { certificates: "/a b".into(), ..tls() })),
        ("TLS version", |m| m.services[0].tls = Some(TlsModel { min_version: "1 2".into(), ..tls() })),
        ("redirect bind", |m| {
            m.services[0].tls = Some(TlsModel { redirect_from: Some("*:0".into()), ..tls() });
        }),
        ("path", |m| m.services[0].path = Some("/a b".into())),
        ("path", |m| m.services[0].path = Some("/a/".into())),
        ("server address", |m| m.services[0].pools[0].servers[0].address = "a:1 backup".into()),
        ("check path", |m| m.services[0].check.http.as_mut().unwrap().path = "/a b".into()),
        ("check status", |m| m.services[0].check.http.as_mut().unwrap().status = "2xx".into()),
        ("socket", |m| m.proxy.admin_socket = "/run/a b".into()),
        ("socket", |m| m.proxy.admin_socket = "ipv4@127.0.0.1".into()),
        ("socket", |m| m.proxy.admin_socket = "ipv4@[::1]:9999".into()),
        ("socket", |m| m.proxy.admin_socket = "ipv4@haproxy:9999".into()),
        ("server name", |m| m.services[0].pools[0].servers[0].name = ident("r__cloud")),
    ];
    for (what, change) in cases {
        let mut model = demo();
        change(&mut model);
        let error = render(&model, DEFAULT_TEMPLATE).unwrap_err();
        assert!(matches!(&error, TemplateError::Value { what: w, .. } if *w == what), "{what}: {error}");
    }
    let mut model = demo();
    model.services[0].pools.clear();
    assert!(matches!(render(&model, DEFAULT_TEMPLATE), Err(TemplateError::NoServer(_))));
}

#[test]
fn a_socket_over_tcp_has_no_mode_and_no_group() {
    let mut model = demo();
    model.proxy.admin_socket = "ipv6@[::1]:9999".into();
    let text = render(&model, DEFAULT_TEMPLATE).unwrap().text;
    assert!(text.contains("\n    stats socket ipv6@[::1]:9999 level admin\n"), "{text}");
}

#[test]
fn an_error_in_a_users_template_is_shown_with_its_line() {
    let template = "global\n    description supervisor={{ proxy.owner }} rev={{ revision }}\n    maxconn {{ proxy.maxcon }}\n";
    let error = render(&demo(), template).unwrap_err().to_string();
    assert!(error.contains("maxcon") && error.contains(":3:"), "{error}");
    let error = render(&demo(), "global\n{% if %}\n").unwrap_err().to_string();
    assert!(error.contains(":2:"), "{error}");
}

#[test]
fn the_line_that_prints_what_cannot_be_printed_is_named() {
    let described = "global\n    description supervisor={{ proxy.owner }} rev={{ revision }}\n";
    for (lines, named) in [
        ("{{ \"a b\" }}\n{{ proxy.maxconn }}\n", ":3: `{{ \"a b\" }}` prints"),
        (
            "{% for pool in pools %}\n  # {{ pool.backend }}\n  x {{ pool.site ~ \" y\" }}\n{% endfor %}\n{{ \"c d\" }}",
            ":5: `x {{",
        ),
        ("{{ proxy.owner }}\n{{\n \"a b\"\n}}\n", ":4: `{{` prints"),
        ("{% if true %}{{ proxy.owner ~ \" b\" }}{% endif %}", ":3: `{% if true %}"),
        ("  user a password {{ \"a b\" }}\n", ":3: `user a password"),
    ] {
        let error = render(&demo(), &format!("{described}{lines}")).unwrap_err().to_string();
        assert!(error.contains(&format!("haproxy.cfg.tera{named}")), "{lines:?}: {error}");
    }
}

/// Every name that a template can write, with what it is; `[]` stands for each element of a list.
fn variables(model: &Model) -> BTreeMap<String, BTreeSet<&'static str>> {
    fn walk(value: &Value, name: String, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
        let kind = match value {
            Value::Null => "none",
            Value::Bool(_) => "switch",
            Value::Number(_) => "number",
            Value::String(_) => "text",
            Value::Array(elements) => {
                return elements.iter().for_each(|element| walk(element, format!("{name}[]"), found));
            }
            Value::Object(entries) => {
                let dot = if name.is_empty() { "" } else { "." };
                return entries
                    .iter()
                    .for_each(|(key, value)| walk(value, format!("{name}{dot}{key}"), found));
            }
        };
        found.entry(name).or_default().insert(kind);
    }
    let mut found = BTreeMap::new();
    walk(&serde_json::to_value(Layout::of(model).unwrap()).unwrap(), String::new(), &mut found);
    found
}

#[test]
fn the_documentation_has_every_variable_of_a_template_with_its_type_and_no_other() {
    let mut full = demo();
    let snippet = || Some(Snippet { key: "a".into(), text: "b".into() });
    (full.proxy.user, full.proxy.group) = (Some(ident("haproxy")), Some(ident("haproxy")));
    full.proxy.snippets =
        ProxySnippets { global: snippet(), defaults_http: snippet(), defaults_tcp: snippet() };
    let service = &mut full.services[0];
    (service.tls, service.host, service.path) = (Some(tls()), Some("a.b".into()), Some("/c".into()));
    service.slow_start = Duration::from_secs(1);
    service.maintenance_page = Some("/page".into());
    service.snippets = ServiceSnippets { frontend: snippet(), backend: snippet() };
    service.pools[1].servers[0].maxconn = Some(1);
    service.pools[0].servers[0].maxconn = Some(1);
    let mut bare = demo();
    (bare.proxy.socket_gid, bare.proxy.metrics_bind) = (None, None);
    bare.services[0].retry_reads_after = None;
    bare.services[0].check.http = None;
    let (full, bare) = (variables(&full), variables(&bare));
    let mut expected: BTreeMap<String, String> = full
        .iter()
        .map(|(name, kinds)| {
            let kind = kinds.iter().next().copied().unwrap_or_default();
            // Without TLS there is no `tls` to have something in it: it is none as a whole.
            let whole = name.rsplit_once('.').map_or("", |(table, _)| table);
            let none = bare.get(name).is_some_and(|kinds| kinds.contains("none")) || bare.contains_key(whole);
            (name.clone(), if none { format!("{kind} or none") } else { kind.to_owned() })
        })
        .collect();
    expected.insert("revision".into(), "text".into());
    expected.insert("rescue_placeholder".into(), "text".into());
    let page = include_str!("../../../../docs/template.md");
    let (_, tables) = page
        .split_once(
            "## What a template gets
",
        )
        .unwrap();
    let rows = tables.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeMap<String, String> = rows
        .filter_map(|row| {
            let (name, rest) = row.split_once("` | ")?;
            Some((name.to_owned(), rest.split_once(" | ")?.0.to_owned()))
        })
        .collect();
    assert_eq!(documented, expected);
}

#[test]
fn a_users_template_cannot_print_a_text_with_blanks_nor_leave_the_description_out() {
    let described = "description supervisor={{ proxy.owner }} rev={{ revision }}\n";
    let error = render(&demo(), &format!("{described}{{{{ \"a b\" }}}}")).unwrap_err();
    assert!(matches!(error, TemplateError::Template(_)), "{error}");
    assert!(matches!(render(&demo(), "global\n"), Err(TemplateError::NoDescription)));
}

#[test]
fn a_users_template_that_leaves_out_what_the_settings_ask_for_is_refused() {
    let mut model = demo();
    model.services[0].path = Some("/api".to_owned());
    let key = "services.api.snippets.backend".to_owned();
    model.services[0].snippets.backend = Some(Snippet { key, text: "option forwardfor".to_owned() });
    render(&model, DEFAULT_TEMPLATE).unwrap();
    let older = DEFAULT_TEMPLATE.replace("{{ route.path }}", "").replace("{{ pool.snippet | safe }}", "");
    let error = render(&model, &older).unwrap_err().to_string();
    assert!(
        error.contains("leaves out services.api.path, services.api.snippets.backend:"),
        "both at once: {error}"
    );
    // Who asks for none of it needs none of it.
    render(&demo(), &older).unwrap();
}
