#!/usr/bin/env bash
# Checks what Prometheus, Alertmanager and Grafana are told, with their own tools out of the stack's images:
# configurations, rules and their tests, routes, every query of the dashboards, and the names and links in all of them.
#
#   prometheus/check.sh          the files; needs no running stack
#   prometheus/check.sh --live   also asks the running Prometheus for every rule and every query of the dashboards
#
#   PROMTOOL, AMTOOL   programs to use in place of the images' (then no Docker is needed)
set -euo pipefail

cd "$(dirname "$0")/.."
export DOCKER_HOST="unix://${DOCKER_SOCKET:-/var/run/docker.sock}"
readonly PROMETHEUS_URL=${PROMETHEUS_URL:-http://127.0.0.1:9090}
# A fresh Prometheus has asked everybody and evaluated everything within a few rounds of 5 s.
readonly LIVE_DEADLINE_SECONDS=60
mkdir -p target
work=$(mktemp -d target/check.XXXXXX)
trap 'rm -rf "$work"' EXIT
failures=0

main() {
    [ -n "${PROMTOOL:-}" ] && [ -n "${AMTOOL:-}" ] || compose/images.sh prometheus alertmanager
    queries >"$work/queries"

    check "prometheus.yml" promtool check config prometheus/prometheus.yml
    check "rules, with every lint" promtool check rules --lint=all --lint-fatal prometheus/rules/*.yml
    check "rules' tests" promtool test rules prometheus/tests/*.yml
    check "every alert has a test" every_alert_is_tested
    check "alertmanager.yml" amtool check-config alertmanager/alertmanager.yml
    check "alertmanager.gmail.example.yml" amtool check-config alertmanager/alertmanager.gmail.example.yml
    check "the example routes as the demo does" same_routes
    check "routes" routes
    check "queries of the dashboards" queries_parse
    check "our metrics are documented" documented
    check "runbooks exist" runbooks
    if [ "${1:-}" = --live ]; then
        check "the running Prometheus: rules" within "$LIVE_DEADLINE_SECONDS" live_rules
        check "the running Prometheus: targets" within "$LIVE_DEADLINE_SECONDS" live_targets
        check "the running Prometheus: queries" live_queries
    fi
    [ $failures -eq 0 ] || exit 1
}

promtool() { tool "${PROMTOOL:-}" promtool supervisor-demo-prometheus "$@"; }
amtool() { tool "${AMTOOL:-}" amtool supervisor-demo-alertmanager "$@"; }

# tool PROGRAM NAME IMAGE ARGUMENT…: the program if one is named, else the image's, which sees this directory.
tool() {
    local program=$1 name=$2 image=$3
    shift 3
    if [ -n "$program" ]; then
        "$program" "$@"
    else
        docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$PWD:/project:ro" --workdir /project \
            --entrypoint "$name" "$image" "$@"
    fi
}

# check NAME COMMAND…: what the command says is only shown when it fails.
check() {
    local name=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        printf 'monitoring: ok      %s\n' "$name"
    else
        printf 'monitoring: FAILED  %s\n' "$name"
        sed 's/^/    /' "$work/said"
        failures=$((failures + 1))
    fi
}

# 'receiver|labels'. The labels are those of docs/alerts.md.
readonly ROUTES=(
    "email-notifications|alertname=PoolDown service=api site=onprem severity=critical source=supervisor"
    "email-notifications|alertname=ServiceDown service=api severity=critical source=supervisor"
    "email-notifications|alertname=SiteDown site=onprem severity=critical source=supervisor"
    "email-notifications|alertname=FailbackLocked service=api severity=warning source=supervisor"
    "email-notifications|alertname=ContainerDown engine=local container=api-onprem severity=warning source=supervisor"
    "email-notifications|alertname=StoreDegraded severity=warning source=supervisor"
    "no-mail|alertname=PoolDown service=api site=onprem severity=critical source=supervisor delivered_by=supervisor-email"
    "no-mail|alertname=ServerDown service=api site=onprem severity=critical source=prometheus paged_by=supervisor"
    "no-mail|alertname=HAProxyServerDown severity=warning source=prometheus paged_by=supervisor"
    "email-notifications|alertname=Unsupervised fault=ServerDown service=api site=onprem severity=critical source=prometheus"
    "email-notifications|alertname=SupervisorAbsent severity=critical source=prometheus"
    "email-notifications|alertname=ErrorBudgetBurn service=api severity=critical source=prometheus"
    "email-notifications|alertname=ServerFlaps severity=warning source=prometheus"
    "no-mail|alertname=FailedOver service=api severity=info source=prometheus"
    "no-mail|alertname=Watchdog severity=none source=prometheus"
    # Nobody's alert: better one mail too many.
    "email-notifications|alertname=SomethingElse"
)

routes() {
    local file route wrong=0
    for file in alertmanager/alertmanager.yml alertmanager/alertmanager.gmail.example.yml; do
        for route in "${ROUTES[@]}"; do
            # The labels are words of their own.
            # shellcheck disable=SC2086
            amtool config routes test --config.file="$file" --verify.receivers="${route%%|*}" ${route#*|} ||
                { echo "$file: wanted ${route%%|*} for ${route#*|}"; wrong=1; }
        done
    done
    return $wrong
}

# All but the addresses, and the demo's shorter group_interval.
same_routes() {
    diff <(routes_of alertmanager/alertmanager.yml) <(routes_of alertmanager/alertmanager.gmail.example.yml)
}

routes_of() { sed -n '/^route:/,$p' "$1" | grep -vE '^ *(- to|group_interval):'; }

every_alert_is_tested() {
    local alert wrong=0
    while read -r alert; do
        grep -qE "alertname(=\"|: )$alert\b" prometheus/tests/*.yml || { echo "no test names $alert"; wrong=1; }
    done < <(alerts)
    return $wrong
}

alerts() { sed -n 's/^ *- alert: *//p' prometheus/rules/*.yml; }

# Every query of the dashboards, one a line, with Grafana's variables replaced by what they could be.
queries() {
    grep -ho '"expr": "\([^"\\]\|\\.\)*"' grafana/provisioning/dashboards/*.json |
        sed -e 's/^"expr": "//' -e 's/"$//' -e 's/\\"/"/g' -e 's/\\\\/\\/g' \
            -e 's/\$__rate_interval/1m/g' -e 's/\$__range/1h/g' -e 's/\$[a-z_]\+/.*/g'
}

queries_parse() {
    local found number=0 query
    found=$(grep -ho '"expr"' grafana/provisioning/dashboards/*.json | wc -l)
    [ "$found" -gt 0 ] && [ "$(wc -l <"$work/queries")" -eq "$found" ] ||
        { echo "$found queries in the dashboards, $(wc -l <"$work/queries") could be read"; return 1; }
    # As rules of a file, which promtool can check; in single quotes YAML knows no escapes but ''.
    {
        printf 'groups:\n  - name: dashboards\n    rules:\n'
        while read -r query; do
            number=$((number + 1))
            printf "      - record: dashboard:query:%d\n        expr: '%s'\n" "$number" "${query//\'/\'\'}"
        done <"$work/queries"
    } >"$work/queries.yml"
    promtool check rules "$work/queries.yml"
}

# A name that docs/api.md does not have is a typing error, or undocumented.
documented() {
    local name wrong=0
    while read -r name; do
        grep -q "^| \`$name\` |" docs/api.md || { echo "$name is not in docs/api.md"; wrong=1; }
    done < <(grep -ohE '\bsupervisor_[a-z_]+' prometheus/rules/*.yml "$work/queries" | sed -E 's/_(bucket|sum|count)$//' | sort -u)
    return $wrong
}

# docs/alerts.md has a heading for each alert, and each alert names it.
runbooks() {
    local alert wrong=0
    while read -r alert; do
        grep -q "^### $alert$" docs/alerts.md || { echo "docs/alerts.md has no heading for $alert"; wrong=1; }
        grep -q "runbook: docs/alerts.md#${alert,,}$" prometheus/rules/*.yml || { echo "$alert names no runbook"; wrong=1; }
    done < <(alerts)
    return $wrong
}

# within SECONDS COMMAND…: until it succeeds; then, what it said last.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >"$work/last" 2>&1; do
        [ $SECONDS -lt $deadline ] || { cat "$work/last"; return 1; }
        sleep 1
    done
}

ask() { curl --noproxy '*' --silent --show-error --max-time 10 "$@"; }

live_rules() {
    local answer
    answer=$(ask "$PROMETHEUS_URL/api/v1/rules")
    [[ $answer == '{"status":"success"'* ]] || { echo "$answer"; return 1; }
    local all well
    all=$(grep -o '"health":"[a-z]*"' <<<"$answer" | wc -l)
    well=$(grep -o '"health":"ok"' <<<"$answer" | wc -l)
    echo "$well of $all rules are evaluated without an error"
    [ "$all" -gt 0 ] && [ "$all" -eq "$well" ]
}

live_targets() {
    local answer
    answer=$(ask "$PROMETHEUS_URL/api/v1/targets?state=active")
    grep -o '"lastError":"[^"]*"' <<<"$answer" | sort | uniq -c
    [ "$(grep -o '"health":"up"' <<<"$answer" | wc -l)" -eq "$(grep -o '"health":"' <<<"$answer" | wc -l)" ] &&
        [[ $answer == *'"health":"up"'* ]]
}

# Each must be answered; one without data is told, since a fault that has not happened has none.
live_queries() {
    local query answer wrong=0 empty=0 all=0
    while read -r query; do
        all=$((all + 1))
        answer=$(ask --data-urlencode "query=$query" "$PROMETHEUS_URL/api/v1/query") || { wrong=1; continue; }
        case $answer in
            '{"status":"success"'*'"result":[]'*) empty=$((empty + 1)); echo "no data: $query" ;;
            '{"status":"success"'*) ;;
            *) echo "$query: $answer"; wrong=1 ;;
        esac
    done <"$work/queries"
    echo "$empty of $all queries have no data"
    # A dashboard whose names are all wrong is answered too.
    [ $((empty * 2)) -lt $all ] || wrong=1
    return $wrong
}

main "$@"
