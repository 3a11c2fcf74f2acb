#!/usr/bin/env bash
# Shows the demo's box of mails: `compose/mail.sh` lists it, newest last; `compose/mail.sh 3` shows the third mail,
# `compose/mail.sh 3 --raw` as it came.
set -euo pipefail
export DOCKER_HOST="unix://${DOCKER_SOCKET:-/var/run/docker.sock}"

if [ "$(docker container inspect --format '{{.State.Running}}' mail 2>/dev/null)" != true ]; then
    echo "mail: the container 'mail' does not run: start it with 'make up' or 'docker start mail'" >&2
    exit 69
fi
exec docker exec mail boxes "$@"
