#!/usr/bin/env bash
# Brings the HAProxy of another Debian release to this machine and prints the path of a program that runs it, for
# HAPROXY=… of the tests. No package of the machine is touched.
#
#   tests/haproxy/fetch.sh SUITE      trixie (3.0), testing (3.2 or later), …
#   HAPROXY=$(tests/haproxy/fetch.sh trixie) cargo test --test it -- haproxy::
#
# apt downloads the package with everything that it depends on, checked by Debian's keys as ever, into target/haproxy/SUITE;
# there it is unpacked, not installed. It is done once: `rm -r target/haproxy` to look for newer ones.
#
#   DEBIAN_MIRROR   where from (default: from where this machine's apt takes Debian's packages)
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
readonly suite=${1:?which Debian release: trixie, testing, …}
readonly home=$PWD/target/haproxy/$suite
readonly program=$home/haproxy

main() {
    mkdir -p "$home"
    # Two runs side by side must not both unpack.
    exec 9>"$home/lock"
    flock --wait 600 9 || fail "another run has been fetching it for ten minutes"
    if [ ! -x "$program" ]; then
        download
        unpack
        make_program
    fi
    printf 'haproxy: %s has %s\n' "$suite" "$("$program" -v | sed -n '1s/.*version \([^ ]*\).*/\1/p')" >&2
    echo "$program"
}

# apt with directories of its own: an empty list of what is installed, so that it leaves out nothing as being there already.
download() {
    [ -s "$KEYRING" ] || fail "$KEYRING is missing: apt-get install debian-archive-keyring"
    local apt=$home/apt
    rm -rf "$apt"
    mkdir -p "$apt"/lists/partial "$apt"/cache/archives/partial "$apt"/none
    : >"$apt/status"
    echo "deb [signed-by=$KEYRING] $(mirror) $suite main" >"$apt/sources.list"
    local options=(-qq -o "Dir::State=$apt" -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status"
        -o "Dir::Cache=$apt/cache" -o "Dir::Cache::archives=$apt/cache/archives"
        -o "Dir::Etc::sourcelist=$apt/sources.list" -o "Dir::Etc::sourceparts=$apt/none"
        -o "Dir::Etc::preferences=$apt/none/none" -o "Dir::Etc::preferencesparts=$apt/none"
        # Whoever runs this may write here, and apt's own user may not.
        -o "APT::Sandbox::User=" -o Acquire::Retries=3)
    if ! {
        apt-get "${options[@]}" update &&
            apt-get "${options[@]}" install --yes --download-only --no-install-recommends haproxy
    } >"$home/apt.log" 2>&1 9>&-; then
        tail -n 20 "$home/apt.log" >&2
        fail "apt-get could not download HAProxy of $suite; its last words are above"
    fi
}

# The first place of this machine's apt that is Debian's main archive.
mirror() {
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        echo "$DEBIAN_MIRROR"
        return
    fi
    local codename found
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    found=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(CODENAME)' 'Created-By: Packages' |
        awk -v codename="$codename" '$2 == codename || $3 == codename { print $1; exit }')
    [ -n "$found" ] || fail "apt takes nothing from Debian's archive here: DEBIAN_MIRROR=URL $0 $suite"
    echo "$found"
}

unpack() {
    local root=$home/root package
    rm -rf "$root"
    mkdir "$root"
    for package in "$home"/apt/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$root"
    done
    rm -rf "$home/apt"
}

# Its libraries are newer than this machine's, also the C library, whose loader must be of the same release. A master begins
# anew at each reload with the name that it was started by: that is this program's.
make_program() {
    local loader
    loader=$(find "$home/root" -name 'ld-linux*.so.*' -type f -print -quit)
    [ -n "$loader" ] || fail "no loader is among the packages of $suite"
    cat >"$program.new" <<-PROGRAM
		#!/bin/sh
		exec '$loader' --argv0 "\$0" --library-path '${loader%/*}' '$home/root/usr/sbin/haproxy' "\$@"
	PROGRAM
    chmod 755 "$program.new"
    "$program.new" -v >/dev/null || fail "HAProxy of $suite does not run here"
    mv "$program.new" "$program"
}

fail() {
    echo "haproxy: $1" >&2
    exit 1
}

main
