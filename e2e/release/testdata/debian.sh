# Installs the packages, runs a cluster as the units would, upgrades and purges.
dpkg -i /pkg/*.deb
isthmus version
isthmus-source version
test "$(stat -c '%U %a' /etc/isthmus/isthmus.yaml)" = 'root 644'
dpkg -c /pkg/isthmus_*.deb | grep -q ' \./usr/share/man/man1/isthmus-run\.1\.gz$'
for unit in isthmus isthmus-ca isthmus-ca-agent; do
  systemd-analyze verify "/usr/lib/systemd/system/$unit.service" 2>&1 | grep -F "$unit.service" && exit 1
done

# as USER COMMAND...: with the unit's user and lack of privileges; in the background only.
as() {
  user=$1
  shift
  exec setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
}
install -d -o isthmus -g isthmus -m 700 /var/lib/isthmus
install -d -o isthmus-ca -g isthmus-ca -m 700 /var/lib/isthmus-ca
install -d -o isthmus -g isthmus /run/isthmus
install -d -o isthmus-ca -g isthmus-ca /run/isthmus-ca
sed "s/TRUST.DOMAIN/east.test/; s/CLUSTER/east/; s/999/$(id -u isthmus)/" /pkg/ca.yaml >/etc/isthmus/ca.yaml
cat >/etc/isthmus/isthmus.yaml <<EOF
cluster: {name: east, cloud: onprem, region: here}
identity: {trust_domain: east.test, workload_api: "unix:///run/isthmus-ca/ca.sock"}
federation:
  listen: 127.0.0.1:17483
  api: {socket: /run/isthmus/api.sock}
gateway:
  name: gw1
  federation: 127.0.0.1:17483
  listen: {link: "127.0.0.1:0", admin: "127.0.0.1:0", control: "127.0.0.1:0"}
EOF
as isthmus-ca isthmus ca serve -c /etc/isthmus/ca.yaml >/pkg/ca.log 2>&1 &
ca=$!
as isthmus isthmus run -c /etc/isthmus/isthmus.yaml >/pkg/run.log 2>&1 &
run=$!
tries=0
until isthmus status >/pkg/status 2>&1 && grep -q ' 1 gateway\|gw1' /pkg/status; do
  tries=$((tries + 1))
  test "$tries" -lt 300 || { cat /pkg/status /pkg/ca.log /pkg/run.log; exit 1; }
  sleep 0.2
done
cat /pkg/status
echo "ran: cluster east"
kill -HUP "$run"
tries=0
until grep -q 'configuration taken' /pkg/run.log; do
  tries=$((tries + 1))
  test "$tries" -lt 300 || { cat /pkg/run.log; exit 1; }
  sleep 0.2
done
echo reloaded
kill "$run"
wait "$run"
kill "$ca"

# An upgrade asks nothing and keeps what was changed.
dpkg -i /pkg/*.deb
grep -q east.test /etc/isthmus/isthmus.yaml
dpkg -r isthmus isthmus-source
grep -q east.test /etc/isthmus/isthmus.yaml && test -d /var/lib/isthmus
echo "kept: the changed file"
dpkg -P isthmus isthmus-source
test ! -e /usr/bin/isthmus && test ! -e /var/lib/isthmus && test ! -e /etc/isthmus/isthmus.yaml
echo gone
