#!/usr/bin/env bash
# Runs Compose for this project: `compose/compose.sh ps`. The one place that knows the tool and the project's name.
#
#   DOCKER_SOCKET   the engine's socket (default /var/run/docker.sock)
#   COMPOSE         the tool (default: docker-compose where there is one, else docker compose)
set -euo pipefail

export DOCKER_SOCKET="${DOCKER_SOCKET:-/var/run/docker.sock}"
export DOCKER_HOST="unix://$DOCKER_SOCKET"
if [ -z "${COMPOSE:-}" ]; then
    if command -v docker-compose >/dev/null; then COMPOSE=docker-compose; else COMPOSE="docker compose"; fi
fi
# docker-compose 1.29 refuses every command, even `down`, while a build context does not exist.
here=$(dirname "$0")
mkdir -p "$here/../target/compose/api" "$here/../target/compose/supervisor"
# COMPOSE may be two words.
# shellcheck disable=SC2086
exec $COMPOSE --project-name supervisor --file "$here/compose.yaml" "$@"
