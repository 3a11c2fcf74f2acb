#!/bin/sh
# Starts HAProxy on the configuration in the shared volume, or on the bootstrap one while there is none.
set -eu

config=/etc/haproxy/haproxy.cfg
for directory in /etc/haproxy /var/lib/haproxy/maps /run/haproxy; do
    if [ ! -w "$directory" ]; then
        echo "entrypoint: $directory is not writable by $(id -un) ($(id -u)): give the volume to that user" >&2
        exit 78
    fi
done

if [ ! -e "$config" ]; then
    # A hard link is made whole or not at all and never replaces a file: supervisor may be writing its own right now.
    cp "$(dirname "$0")/bootstrap.cfg" "$config.bootstrap"
    ln "$config.bootstrap" "$config" 2>/dev/null || true
    rm -f "$config.bootstrap"
fi

# -W: a master that reloads and keeps the worker. -S: the master's socket, over which supervisor orders reloads.
# Master and worker run in the foreground as this process: no init stands between Docker's signals and HAProxy.
exec haproxy -W -S /run/haproxy/master.sock,mode,660,level,admin -f "$config"
