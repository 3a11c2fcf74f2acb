#!/usr/bin/env bash
# Builds the binaries and the images of the stack. An image is built again only when a file of its build context
# or the base image has changed: each carries the hash of both as a label. So nothing to do costs a second.
# Arguments are services (default: all); the binaries are built only for the two that need them.
set -euo pipefail

cd "$(dirname "$0")/.."
export DOCKER_HOST="unix://${DOCKER_SOCKET:-/var/run/docker.sock}"
readonly BASE_IMAGE=debian:trixie-slim
readonly STAGE=target/compose
# Services whose image is Debian's package and files of compose/.
readonly DEBIAN_ONLY=(haproxy-server prometheus alertmanager mail)

main() {
    if wanted supervisor "$@" || wanted api-onprem "$@"; then
        binaries
        wanted api-onprem "$@" && image supervisor-demo-api api-onprem "$STAGE/api"
        wanted supervisor "$@" && image supervisor-demo-supervisor supervisor "$STAGE/supervisor"
    fi
    local service
    for service in "${DEBIAN_ONLY[@]}"; do
        if wanted "$service" "$@"; then
            image "supervisor-demo-${service%-server}" "$service" "compose/${service%-server}"
        fi
    done
}

wanted() {
    local service=$1
    shift
    [ $# -eq 0 ] || [[ " $* " == *" $service "* ]]
}

binaries() {
    timed "binaries" cargo build --release --locked --quiet --bin supervisor --example demo-api
    local built
    built=$(cargo metadata --no-deps --format-version 1 --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
    stage supervisor "$built/supervisor"
    stage api "$built/examples/demo-api"
}

# stage NAME BINARY: a build context with nothing but the Dockerfile and the binary.
stage() {
    mkdir -p "$STAGE/$1"
    cp --update "compose/$1/Dockerfile" "$2" "$STAGE/$1/"
}

# image NAME SERVICE CONTEXT: builds the image of that service in compose.yaml unless it is up to date.
image() {
    local name=$1 service=$2 context=$3 hash
    hash=$(context_hash "$context")
    if [ "$(docker image inspect --format '{{index .Config.Labels "supervisor.context"}}' "$name" 2>/dev/null)" = "$hash" ]; then
        printf 'images: %-30s up to date\n' "$name"
        return
    fi
    timed "$name" compose/compose.sh build --build-arg "CONTEXT_HASH=$hash" "$service"
    # What the new image replaced has lost its name; unless a container still runs on it, its 90 MB go.
    docker image prune --force --filter label=supervisor.context >/dev/null
}

context_hash() {
    {
        docker image inspect --format '{{.Id}}' "$BASE_IMAGE"
        (cd "$1" && find . -type f -printf '%P %m\n' | sort && find . -type f -print0 | sort -z | xargs -0 sha256sum)
    } | sha256sum | cut -c1-16
}

# timed NAME COMMAND…: prints the seconds; the command's output only when it fails.
timed() {
    local name=$1 began log
    began=$(date +%s%N)
    log=target/compose/build.log
    mkdir -p target/compose
    shift
    if ! "$@" >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        echo "images: $name: '$*' failed; its last words are above" >&2
        exit 1
    fi
    local ms=$((($(date +%s%N) - began) / 1000000))
    printf 'images: %-30s %4d.%03d s\n' "$name" $((ms / 1000)) $((ms % 1000))
}

main "$@"
