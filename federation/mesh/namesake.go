package mesh

import (
	"fmt"
	"path"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// authorize is the listener's identity.Authorizer: the roles decide, and of the
// refused those are told apart who are called as a peer is.
func (s *Server) authorize(id spiffeid.ID) error {
	err := s.roles.authorize(id)
	if err == nil {
		return nil
	}
	peer, known, ok := s.roles.namesake(id)
	if !ok {
		return err
	}
	s.metrics.namesakes.Inc()
	if s.opts.Namesake != nil {
		s.opts.Namesake(peer, id)
	}
	return fmt.Errorf("%s is called %s as the peer %s is, and is another: two clusters of one name, or one whose identity has changed", id, peer, known)
}

// namesake is the peer whose name an ID without a role ends in.
func (r *roles) namesake(id spiffeid.ID) (peer catalog.ClusterName, known spiffeid.ID, ok bool) {
	last := path.Base(id.Path())
	for known, peer := range *r.peers.Load() {
		if string(peer) == last {
			return peer, known, true
		}
	}
	return "", spiffeid.ID{}, false
}
