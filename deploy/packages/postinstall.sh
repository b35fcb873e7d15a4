#!/bin/sh
# Runs as root after the files are in place: at the first installation, at an upgrade
# and at a downgrade.
set -e

if command -v systemd-sysusers >/dev/null; then
  systemd-sysusers /usr/lib/sysusers.d/isthmus.conf
else
  for user in isthmus isthmus-ca; do
    getent passwd "$user" >/dev/null ||
      useradd --system --user-group --home-dir "/var/lib/$user" --no-create-home --shell /usr/sbin/nologin "$user"
  done
fi

if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  sysctl -q -p /usr/lib/sysctl.d/50-isthmus.conf || true # not in a container
  # An upgrade drains and restarts what runs; nothing is started that did not run.
  systemctl try-restart isthmus-ca.service isthmus-ca-agent.service isthmus.service || true
fi
