#!/bin/sh
# Runs as root after the files are gone. Keys, catalogs and history in /var/lib stay,
# but for Debian's purge, which asks for exactly that.
set -e

if [ "$1" = purge ]; then
  rm -rf /var/lib/isthmus /var/lib/isthmus-ca /var/lib/isthmus-ca-agent
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
