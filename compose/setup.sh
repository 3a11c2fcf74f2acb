#!/usr/bin/env bash
# Makes a Debian machine with a Rust toolchain ready for the stack and the tests: packages, a Docker engine that
# answers, and the base image that every image of ours is built from.
#
# It only adds what is missing, so a second run looks around and ends in under a second. It never changes an
# engine that answers already, and never replaces an installed package.
#
#   DOCKER_SOCKET   the engine's socket (default /var/run/docker.sock; rootless: $XDG_RUNTIME_DIR/docker.sock)
#   DEBIAN_MIRROR   the mirror debootstrap takes (default: debootstrap's own)
set -euo pipefail

cd "$(dirname "$0")/.."
# Debian keeps dockerd, debootstrap and haproxy in sbin, which an ordinary user's PATH lacks.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export DOCKER_SOCKET="${DOCKER_SOCKET:-/var/run/docker.sock}"
export DOCKER_HOST="unix://$DOCKER_SOCKET"

readonly BASE_IMAGE=debian:trixie-slim
readonly BASE_SUITE=trixie
# A registry that answers delivers these 30 MB in well under a minute; debootstrap takes about as long.
readonly PULL_DEADLINE_SECONDS=60
# A first start of dockerd probes storage drivers and writes iptables rules: seconds, on a slow disk tens of them.
readonly ENGINE_DEADLINE_SECONDS=60
# Another apt run (unattended-upgrades on a fresh machine) may hold dpkg's lock for some minutes.
readonly APT_LOCK_SECONDS=300
readonly ENGINE_LOG=/var/log/dockerd.log

main() {
    mkdir -p target
    # Two runs in one clone (a test beside `make up`) must not both start an engine.
    exec 9>target/setup.lock
    flock --wait 900 9 || fail "another setup in this clone has been running for 15 minutes: end it and try again"

    stage "Rust toolchain" need_cargo
    stage "packages" install_packages
    stage "Docker engine" start_engine
    stage "base image $BASE_IMAGE" make_base_image
}

need_cargo() {
    has cargo || fail "cargo is not in PATH: install a Rust toolchain (rustup.rs), then run this again"
    note "$(cargo --version)"
}

install_packages() {
    local missing=()
    engine_answers || has dockerd || missing+=(docker.io)
    has docker || missing+=(docker-client)
    has docker-compose || docker compose version >/dev/null 2>&1 || missing+=(docker-compose)
    # rusqlite and aws-lc compile C; tests run the host's HAProxy and inject disk faults with strace.
    has cc || missing+=(gcc libc6-dev)
    # libFuzzer is C++.
    has c++ || missing+=(g++)
    has haproxy || missing+=(haproxy)
    has strace || missing+=(strace)
    has curl || missing+=(curl)
    # dockerd runs it for `docker top`, with which the demo finds what it freezes.
    has ps || missing+=(procps)
    [ -s /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
    has debootstrap || missing+=(debootstrap)
    [ -s /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    if [ ${#missing[@]} -eq 0 ]; then
        note "all there"
        return
    fi
    note "installing: ${missing[*]}"
    apt_install "${missing[@]}"
}

start_engine() {
    if engine_answers; then
        note "version $(docker version --format '{{.Server.Version}}') answers at $DOCKER_SOCKET"
        return
    fi
    [ "$DOCKER_SOCKET" = /var/run/docker.sock ] ||
        fail "no engine answers at $DOCKER_SOCKET: start the one that DOCKER_SOCKET names, or unset DOCKER_SOCKET"
    need_root "start a Docker engine"
    local pid=
    if [ -d /run/systemd/system ]; then
        note "starting docker.service"
        systemctl start docker
    else
        note "no systemd here: starting dockerd in the background, log in $ENGINE_LOG"
        # setsid: the engine must outlive this script and its terminal. 9>&-: it must not keep our lock.
        setsid dockerd >>"$ENGINE_LOG" 2>&1 </dev/null 9>&- &
        pid=$!
    fi
    local deadline=$((SECONDS + ENGINE_DEADLINE_SECONDS))
    until engine_answers; do
        if [ -n "$pid" ] && ! kill -0 "$pid" 2>/dev/null; then
            tail -n 20 "$ENGINE_LOG" >&2
            fail "dockerd ended while it started; its last words are above"
        fi
        [ $SECONDS -lt $deadline ] ||
            fail "the engine did not answer at $DOCKER_SOCKET within $ENGINE_DEADLINE_SECONDS s: see $ENGINE_LOG or 'journalctl -u docker'"
        sleep 0.2
    done
    note "version $(docker version --format '{{.Server.Version}}') answers at $DOCKER_SOCKET"
}

make_base_image() {
    if docker image inspect "$BASE_IMAGE" >/dev/null 2>&1; then
        note "there"
        return
    fi
    if timeout "$PULL_DEADLINE_SECONDS" docker pull --quiet "$BASE_IMAGE" >/dev/null 2>&1; then
        note "pulled"
        return
    fi
    note "no registry delivers it: building it with debootstrap"
    need_root "run debootstrap"
    # /var/tmp, because /tmp is often a small tmpfs and may be mounted nodev.
    local root
    root=$(mktemp -d /var/tmp/base-image.XXXXXX)
    # The path is expanded now: it is local to this function.
    # shellcheck disable=SC2064
    trap "rm -rf --one-file-system '$root'" EXIT
    if ! debootstrap --variant=minbase "$BASE_SUITE" "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >target/debootstrap.log 2>&1; then
        tail -n 20 target/debootstrap.log >&2
        fail "debootstrap failed; its last words are above. Another mirror: DEBIAN_MIRROR=URL make setup"
    fi
    # What Debian's own slim images leave out too; packages installed later leave it out by the same list.
    cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<-'SLIM'
		path-exclude /usr/share/doc/*
		path-include /usr/share/doc/*/copyright
		path-exclude /usr/share/info/*
		path-exclude /usr/share/locale/*
		path-exclude /usr/share/man/*
	SLIM
    tar -C "$root" --exclude=./usr/share/info/'*' --exclude=./usr/share/locale/'*' --exclude=./usr/share/man/'*' \
        --exclude=./var/cache/apt/archives/'*.deb' --exclude=./var/lib/apt/lists/'*' -c . |
        docker import --change 'CMD ["bash"]' - "$BASE_IMAGE" >/dev/null
    rm -rf --one-file-system "$root"
    trap - EXIT
    note "made by debootstrap"
}

apt_install() {
    need_root "install $*"
    local apt=(apt-get -qq -o "DPkg::Lock::Timeout=$APT_LOCK_SECONDS" -o Acquire::Retries=3)
    export DEBIAN_FRONTEND=noninteractive
    if ! {
        "${apt[@]}" update &&
            "${apt[@]}" install --yes --no-install-recommends "${@/#docker-client/$(docker_client_package)}"
    } >target/apt.log 2>&1 9>&-; then
        tail -n 20 target/apt.log >&2
        fail "apt-get could not install $*; its last words are above"
    fi
}

# Debian 13 split the client off into docker-cli, which docker.io only recommends; before, it was in docker.io.
# Asked after `apt-get update`: a fresh machine has no package lists.
docker_client_package() {
    if apt-cache show docker-cli >/dev/null 2>&1; then echo docker-cli; else echo docker.io; fi
}

engine_answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

need_root() { [ "$(id -u)" -eq 0 ] || fail "root is needed to $1: run 'make setup' as root once"; }

has() { command -v "$1" >/dev/null 2>&1; }

# stage NAME COMMAND: runs the command; prints what it noted and the seconds it took.
stage() {
    local name=$1 began
    began=$(date +%s%N)
    shift
    noted=
    "$@"
    local ms=$((($(date +%s%N) - began) / 1000000))
    printf 'setup: %-30s %4d.%03d s  %s\n' "$name" $((ms / 1000)) $((ms % 1000)) "$noted"
}

note() { noted="${noted:+$noted; }$1"; }

fail() {
    echo "setup: $1" >&2
    exit 1
}

main "$@"
