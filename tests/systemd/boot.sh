#!/bin/sh
# What systemd expects of whoever starts its container, and Docker does not do without --privileged:
# a tree of control groups that it may write (version 2, also where the engine itself uses version 1; the container's
# own part of it, by --cgroupns private), and mounts that are shared, without which services get no credentials.
set -eu
umount --recursive --lazy /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared /
exec /lib/systemd/systemd
