#!/bin/sh
# Runs as root before the files go. Debian says "remove" or "upgrade", RPM how many
# versions stay: at an upgrade the units go on.
set -e

case "$1" in
  upgrade | failed-upgrade | 1) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
  systemctl --no-reload disable --now isthmus.service isthmus-ca.service isthmus-ca-agent.service || true
fi
