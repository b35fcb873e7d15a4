package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func etagPeer(r resource.PeerRule) string { return r.ETag }

// registerPeers serves one peer and the writes of peers: what is read is the
// peer's state with its entry below spec, what is written the entry.
func (s *Server) registerPeers(api huma.API) {
	shelf, states := s.opts.Rules.PeerRules(), s.opts.Lists.Peers
	huma.Register(api, huma.Operation{
		OperationID: "get-peer", Method: http.MethodGet, Path: "/v1/peers/{name}",
		Summary: "One peer: its state, and below spec what PUT takes, with its ETag.", Tags: []string{"peers"},
		Errors: []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusGone},
	}, func(ctx context.Context, in *ruleGetInput) (*ruleOutput[resource.Peer], error) {
		if in.AsOf != "" {
			was, err := pastItem(ctx, s.pastPeers, in.AsOf, "peer", in.Name)
			return &ruleOutput[resource.Peer]{Status: http.StatusOK, ETag: was.ETag, Body: was}, err
		}
		rule, ok := shelf.Feed().Get(in.Name)
		if !ok {
			return nil, problem(http.StatusNotFound, CodeNotFound, "no peer \""+in.Name+"\"")
		}
		if in.IfNoneMatch != "" {
			if p, err := rulebook.ParseIfMatch(in.IfNoneMatch); err == nil && p.Match(rule.ETag) {
				return nil, notModified(rule.ETag)
			}
		}
		state, ok := states.Get(in.Name)
		if !ok {
			// Written just now: its state is not known before the next round of work.
			state = newPeer(rule)
		}
		state.Spec, state.Stored = rule.Peer, rule.Stored
		return &ruleOutput[resource.Peer]{Status: http.StatusOK, ETag: rule.ETag, Body: state}, nil
	})
	registerWrites(s, api, shelf, "peer", etagPeer, Admin)
}

// newPeer is a peer of which nothing is known but its entry.
func newPeer(rule resource.PeerRule) resource.Peer {
	item := resource.Peer{
		Name: rule.Name, ID: rule.ID, Locality: rule.Locality(), State: resource.PeerConnecting,
		Bootstrap: rule.Gateways, Asserts: rule.Asserts,
	}
	if id, err := spiffeid.FromString(rule.ID); err == nil {
		item.TrustDomain = id.TrustDomain().Name()
	}
	return item
}
