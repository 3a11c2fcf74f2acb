#!/usr/bin/env bash
# Starts the stack and waits until each part answers; says which one did not, with its last words.
# Arguments are services (default: all).
set -euo pipefail

cd "$(dirname "$0")"
export DOCKER_HOST="unix://${DOCKER_SOCKET:-/var/run/docker.sock}"
# Containers start in about a second each; on a busy machine of two cores they took up to ten.
readonly DEADLINE_SECONDS=60

# 'container|address|what it is'
readonly PARTS=(
    "api-onprem|http://127.0.0.1:5000/health|the service, site onprem"
    "api-cloud|http://127.0.0.1:5001/health|the service, site cloud"
    "haproxy-server|http://127.0.0.1:8080/|what clients use"
    "supervisor|http://127.0.0.1:9480/|supervisor's status"
    "prometheus|http://127.0.0.1:9090/-/ready|what is measured, and which alerts fire"
    "alertmanager|http://127.0.0.1:9093/-/ready|who is told about them"
    "mail|smtp://127.0.0.1:2525|keeps what is mailed: make mail"
)

main() {
    # 1.29 tells its progress on stderr, a line for each container: kept for the case that it fails.
    local said
    said=$(./compose.sh up --detach --no-build "$@" 2>&1) || {
        echo "$said" >&2
        exit 1
    }
    local deadline=$((SECONDS + DEADLINE_SECONDS)) part container address about
    for part in "${PARTS[@]}"; do
        IFS='|' read -r container address about <<<"$part"
        wanted "$container" "$@" || continue
        until answers "$address"; do
            [ $SECONDS -lt $deadline ] || give_up "$container" "$address"
            sleep 0.1
        done
        address=${address%/health}
        printf 'up: %-15s %-30s %s\n' "$container" "${address%-/ready}" "$about"
    done
}

wanted() {
    local container=$1
    shift
    [ $# -eq 0 ] || [[ " $* " == *" $container "* ]]
}

answers() {
    case $1 in
        # Docker accepts the connection for the container, so a greeting is what counts.
        smtp://*) [[ $(smtp_greeting "${1#smtp://}") == 220* ]] ;;
        # 503 until it is.
        */-/ready) curl --noproxy '*' --silent --output /dev/null --max-time 2 --fail "$1" ;;
        # Any status will do: HAProxy answers 503 until supervisor has configured it.
        *) curl --noproxy '*' --silent --output /dev/null --max-time 2 "$1" ;;
    esac
}

smtp_greeting() {
    # A shell of its own: whatever goes wrong with the descriptor ends with it.
    timeout 2 bash -c "exec 3<>/dev/tcp/${1/://} && head -n 1 <&3 && printf 'QUIT\r\n' >&3" 2>/dev/null || true
}

give_up() {
    docker logs --tail 20 "$1" >&2 || true
    echo "up: $1 does not answer at $2 after $DEADLINE_SECONDS s; its last words are above" >&2
    exit 1
}

main "$@"
