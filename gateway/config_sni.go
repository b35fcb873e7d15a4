package gateway

import (
	"fmt"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/gateway/authority"
	"github.com/isthmus-mesh/isthmus/gateway/sniway"
)

// SNIListener is the way in for TLS between a caller and an endpoint, of which nothing
// ends here: the server name says which service is meant.
type SNIListener struct {
	Address string `yaml:"address"`
	// Caller is the SPIFFE ID given to whoever connects: the certificates are not seen.
	Caller string `yaml:"caller"`
	// Sources are the source ranges that may connect, needed where the listener is
	// not on loopback.
	Sources []netip.Prefix `yaml:"sources,omitempty"`
	// Default is where TLS without a server name goes, as a name of the mesh
	// ("web.shop", "_https.web.shop"); empty: it is refused.
	Default string `yaml:"default,omitempty"`
	// Names say what names of other meshes stand for.
	Names sniway.Names `yaml:",inline"`
}

func (c Config) validateSNI(p *problems) {
	seen := make(map[string]int, len(c.SNI))
	for i, l := range c.SNI {
		at := fmt.Sprintf("listen.sni[%d].", i)
		p.way(at, "address", l.Address, "caller", l.Caller, "sources", l.Sources)
		if j, dup := seen[l.Address]; dup && !ephemeral(l.Address) {
			p.add(at+"address", l.Address, fmt.Sprintf("is already taken by listen.sni[%d]", j))
		}
		seen[l.Address] = i
		if _, err := l.fallback(); err != nil {
			p.add(at+"default", l.Default, `must be a service ("web.shop") or a port of one ("_https.web.shop")`)
		}
		for _, problem := range l.Names.Problems() {
			p.add(at+problem.Field, problem.Value, problem.Rule)
		}
	}
}

// fallback is where TLS without a server name goes; zero: nowhere.
func (l SNIListener) fallback() (authority.Name, error) {
	if l.Default == "" {
		return authority.Name{}, nil
	}
	return authority.Parse(l.Default)
}
