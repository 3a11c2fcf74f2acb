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
        printf 'up: %-15s %-30s %s\n' "$container" "${address%/health}" "$about"
    done
}

wanted() {
    local container=$1
    shift
    [ $# -eq 0 ] || [[ " $* " == *" $container "* ]]
}

# Any status will do: HAProxy answers 503 until supervisor has configured it.
answers() { curl --noproxy '*' --silent --output /dev/null --max-time 2 "$1"; }

give_up() {
    docker logs --tail 20 "$1" >&2 || true
    echo "up: $1 does not answer at $2 after $DEADLINE_SECONDS s; its last words are above" >&2
    exit 1
}

main "$@"
