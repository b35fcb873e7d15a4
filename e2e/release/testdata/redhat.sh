# Installs the packages with rpm, whose own database is empty here.
rpm --initdb
rpm -K --nosignature /pkg/*.rpm
rpm -qip /pkg/isthmus-1*.rpm
rpm -i --nodeps /pkg/*.rpm
isthmus version
isthmus-source version
id isthmus
id isthmus-ca
rpm -V --nodeps isthmus
echo '# changed' >>/etc/isthmus/isthmus.yaml
rpm -U --force --nodeps /pkg/*.rpm
grep -q '# changed' /etc/isthmus/isthmus.yaml
echo "kept: the changed file"
rpm -e isthmus isthmus-source
test ! -e /usr/bin/isthmus
echo gone
