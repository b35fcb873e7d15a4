package agent

import (
	"errors"
	"time"

	"github.com/hashicorp/consul/api"
)

// maxLag is how long a server may be without a word from its leader before its
// answers are not believed.
const maxLag = time.Minute

// What makes an answer of status 200 a false one.
var (
	ErrNoLeader = errors.New("the answer comes from a server that knows no leader")
	ErrLagging  = errors.New("the answer comes from a server that has not heard its leader for a minute")
	ErrFiltered = errors.New("the answer was filtered by ACLs: the token needs service:read and node:read on everything (or set accept_filtered)")
)

// Trust returns why Consul does not vouch for an answer, or nil.
func Trust(meta *api.QueryMeta) error {
	switch {
	case !meta.KnownLeader:
		return ErrNoLeader
	case meta.LastContact > maxLag:
		return ErrLagging
	case meta.ResultsFilteredByACLs:
		return ErrFiltered
	}
	return nil
}
