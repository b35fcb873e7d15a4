package dns

import (
	"context"

	"github.com/miekg/dns"
)

// SetExchange replaces the network.
func (s *Source) SetExchange(f func(ctx context.Context, resolver string, m *dns.Msg, tcp bool) (*dns.Msg, error)) {
	s.asker.exchange = f
}

// Resolve resolves one entry.
func (s *Source) Resolve(ctx context.Context, service Service) (addresses []string, exists bool, err error) {
	r, err := s.asker.resolve(ctx, service)
	for _, e := range r.endpoints {
		addresses = append(addresses, e.Address.String())
	}
	return addresses, r.exists, err
}
