package gateway

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// problems gathers what is wrong with a configuration as catalog.FieldErrors, so
// that one reading finds all of it.
type problems []error

func (p *problems) add(field, value, rule string) {
	*p = append(*p, &catalog.FieldError{Field: field, Value: value, Rule: rule})
}

// address checks an ip:port to listen on; port 0 takes a free one.
func (p *problems) address(field, value string) (netip.AddrPort, bool) {
	a, err := netip.ParseAddrPort(value)
	if err != nil {
		p.add(field, value, "must be ip:port")
	}
	return a, err == nil
}

// hostPort checks an address that others dial.
func (p *problems) hostPort(field, value string) {
	if err := catalog.CheckHostPort(value); err != nil {
		p.add(field, value, err.Error())
		return
	}
	host, _, _ := net.SplitHostPort(value)
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		p.add(field, value, "must be an address that others can dial, not the unspecified one")
	}
}

// way checks a way in: who connects gets the listener's identity, so the
// listener must say who can connect.
func (p *problems) way(at, addressField, address, callerField, caller, sourcesField string, sources []netip.Prefix) {
	a, ok := p.address(at+addressField, address)
	if id, err := spiffeid.FromString(caller); err != nil || id.Path() == "" {
		p.add(at+callerField, caller, "must be the SPIFFE ID of a workload: whoever connects is taken for it")
	}
	if ok && !a.Addr().IsLoopback() && len(sources) == 0 {
		p.add(at+sourcesField, "", fmt.Sprintf("must list source ranges, since %s is not a loopback address and whoever connects is taken for %s", address, callerField))
	}
	p.prefixes(at+sourcesField, sources)
}

// prefixes checks source ranges.
func (p *problems) prefixes(field string, sources []netip.Prefix) {
	for i, s := range sources {
		if !s.IsValid() || s != s.Masked() {
			p.add(fmt.Sprintf("%s[%d]", field, i), s.String(), "must be a prefix without host bits, such as 10.0.0.0/8")
		}
	}
}

// service checks what a listener stands for.
func (p *problems) service(at, service, port string) {
	name, err := catalog.ParseServiceName(service)
	switch {
	case err != nil:
		p.add(at+"service", service, "must be name.namespace, or name in namespace default")
	case name.IsFederation():
		p.add(at+"service", service, "federation.* is reserved for the federations themselves")
	}
	if port != "" {
		if _, err := catalog.ParseClusterName(port); err != nil {
			p.add(at+"port", port, "must be a port name, which is a DNS label")
		}
	}
}

// ephemeral reports whether the address asks for any free port.
func ephemeral(address string) bool {
	a, err := netip.ParseAddrPort(address)
	return err == nil && a.Port() == 0
}
