package gateway

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/gateway/preface"
)

// ProxyProtocol is what balancers say in front of a connection (PROXY protocol, version 2).
type ProxyProtocol struct {
	// From are the ranges of the balancers; nobody else may connect.
	From []netip.Prefix `yaml:"from"`
	// V1 takes version 1, too, which is text.
	V1 bool `yaml:"v1,omitempty"`
}

func (c *ProxyProtocol) validate(p *problems, at string) {
	if c == nil {
		return
	}
	if len(c.From) == 0 {
		p.add(at+"from", "", "must list the balancers' ranges: what they say of who connects is believed")
	}
	p.prefixes(at+"from", c.From)
}

// peers are the ranges whose connections a listener takes.
func (l TCPListener) peers() []netip.Prefix {
	if l.ProxyProtocol != nil {
		return l.ProxyProtocol.From
	}
	return l.Sources
}

// preface reads what balancers say; nil where there are none.
func (l TCPListener) preface() *preface.Reader {
	if l.ProxyProtocol == nil {
		return nil
	}
	return preface.New(preface.Options{V1: l.ProxyProtocol.V1, Sources: l.Sources})
}
