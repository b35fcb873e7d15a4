package gateway

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/identity/consulca"
)

// DefaultConsulService is the service of a Consul mesh that a gateway dials as.
const DefaultConsulService = "isthmus-gateway"

// The identities of a way in.
const (
	// IdentitySVID is the gateway's own SVID.
	IdentitySVID = "svid"
	// IdentityConsul is a certificate of the Consul mesh.
	IdentityConsul = "consul"
)

// maxALPN bounds the application protocols of a listener, maxALPNLen each of them
// (RFC 7301, section 3.1).
const (
	maxALPN    = 8
	maxALPNLen = 255
)

// Consul is the Consul service mesh that the gateway has joined: it holds
// certificates of that mesh's CA, got from the local agent.
type Consul struct {
	consulca.Config `yaml:",inline"`
	// Service is the service of the mesh that the gateway is when it dials endpoints
	// that speak mTLS; default DefaultConsulService. Intentions in Consul name it as the
	// source.
	Service string `yaml:"service,omitempty"`
	// IgnoreIntentions leaves it to Isthmus's intentions who may call the services that
	// the gateway stands for. Without it Consul's are asked, too, for each connection.
	IgnoreIntentions bool `yaml:"ignore_intentions,omitempty"`
}

func (c Consul) withDefaults() Consul {
	c.Config = c.Config.WithDefaults()
	setDefault(&c.Service, DefaultConsulService)
	return c
}

// MTLSListener is the way in for workloads that prove who they are: a connection's
// caller is the SPIFFE ID in its certificate.
type MTLSListener struct {
	Address string `yaml:"address"`
	// Service is "name.namespace", or "name" in the default namespace: every connection
	// goes to it. Empty: what arrives is HTTP/1.1, HTTP/2 or gRPC, by authority.
	Service string `yaml:"service,omitempty"`
	// Port is a port name; empty is the only or default port.
	Port string `yaml:"port,omitempty"`
	// Identity is who the gateway is here, and so whom it lets in: svid (default) for
	// workloads of the own trust domain, consul for those of the Consul mesh.
	Identity string `yaml:"identity,omitempty"`
	// ConsulService is the name in Consul of the service that the gateway stands for,
	// which callers expect to find; default the service's name, needed without one.
	ConsulService string `yaml:"consul_service,omitempty"`
	// ALPN are the application protocols that are offered to callers; default none, and
	// h2 and http/1.1 without a service.
	ALPN []string `yaml:"alpn,omitempty"`
	// Callers are the SPIFFE IDs that may connect; default all of the trust domain.
	Callers []policy.IDPattern `yaml:"callers,omitempty"`
	// Sources are the source ranges that may connect; default all.
	Sources []netip.Prefix `yaml:"sources,omitempty"`
}

// alpn are the protocols that are offered.
func (l MTLSListener) alpn() []string {
	if l.Service == "" && len(l.ALPN) == 0 {
		return []string{"h2", "http/1.1"}
	}
	return l.ALPN
}

// consulService is the service of the Consul mesh that the listener stands for.
func (l MTLSListener) consulService() string {
	name, _ := catalog.ParseServiceName(l.Service) // validated
	return cmp.Or(l.ConsulService, name.Name())
}

func (c Config) validateMTLS(p *problems) {
	if c.Consul != nil {
		for _, f := range c.Consul.Problems() {
			p.add("consul."+f.Field, f.Value, f.Rule)
		}
		if err := consulca.CheckService(c.Consul.Service); err != nil {
			p.add("consul.service", c.Consul.Service, err.Error())
		}
	}
	seen := make(map[string]int, len(c.MTLS))
	leaves := map[string]bool{}
	for i, l := range c.MTLS {
		at := fmt.Sprintf("listen.mtls[%d].", i)
		p.address(at+"address", l.Address)
		if j, dup := seen[l.Address]; dup && !ephemeral(l.Address) {
			p.add(at+"address", l.Address, fmt.Sprintf("is already taken by listen.mtls[%d]", j))
		}
		seen[l.Address] = i
		if l.Service != "" {
			p.service(at, l.Service, l.Port)
		} else if l.Port != "" {
			p.add(at+"port", l.Port, "is for a listener of one service")
		}
		p.prefixes(at+"sources", l.Sources)
		l.validateIdentity(p, at, c.Consul != nil)
		if l.Identity == IdentityConsul {
			leaves[l.consulService()] = true
		}
	}
	if n := len(leaves); n >= consulca.MaxLeaves {
		p.add("listen.mtls", fmt.Sprint(n), fmt.Sprintf("stand for too many services of consul: at most %d", consulca.MaxLeaves-1))
	}
}

func (l MTLSListener) validateIdentity(p *problems, at string, joined bool) {
	switch l.Identity {
	case IdentityConsul:
		if !joined {
			p.add(at+"identity", l.Identity, "needs the section consul")
		}
		name, err := catalog.ParseServiceName(l.Service)
		service := l.ConsulService
		if err == nil {
			service = cmp.Or(service, name.Name())
		}
		switch {
		case service == "" && l.Service == "":
			p.add(at+"consul_service", "", "is missing: it is who the gateway is for callers of the mesh")
		case service != "" && consulca.CheckService(service) != nil:
			p.add(at+"consul_service", service, consulca.CheckService(service).Error())
		}
	case IdentitySVID, "":
		if l.ConsulService != "" {
			p.add(at+"consul_service", l.ConsulService, "is for identity consul")
		}
	default:
		p.add(at+"identity", l.Identity, "must be svid or consul")
	}
	if len(l.ALPN) > maxALPN {
		p.add(at+"alpn", fmt.Sprint(len(l.ALPN)), fmt.Sprintf("must be at most %d", maxALPN))
	}
	for i, name := range l.ALPN {
		if name == "" || len(name) > maxALPNLen {
			p.add(fmt.Sprintf("%salpn[%d]", at, i), name, fmt.Sprintf("must have 1 to %d bytes", maxALPNLen))
		}
	}
	for i, pattern := range l.Callers {
		if _, err := policy.ParseIDPattern(string(pattern)); err != nil {
			p.add(fmt.Sprintf("%scallers[%d]", at, i), string(pattern), err.Error())
		}
	}
}
