package federation

import (
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// namesakeEvery is how often one stranger is told of: it comes back for as long
	// as it runs.
	namesakeEvery = 10 * time.Minute
	// maxNamesakes bounds the strangers that are remembered.
	maxNamesakes = 64
)

// noteNamesake raises the alarm that a second cluster is called as a peer is. It
// has been refused already, and the peer is not touched.
func (p *plane) noteNamesake(peer catalog.ClusterName, id spiffeid.ID) {
	now := p.now()
	p.mu.Lock()
	at, known := p.namesakes[id]
	quiet := known && now.Sub(at) < namesakeEvery && !now.Before(at) || !known && len(p.namesakes) >= maxNamesakes
	if !quiet {
		if p.namesakes == nil {
			p.namesakes = make(map[spiffeid.ID]time.Time)
		}
		p.namesakes[id] = now
	}
	p.mu.Unlock()
	if !quiet {
		p.events.note(eventPeerNamesake, string(peer), fmt.Sprintf("%s calls itself %s and is refused: the peer of that name is another; rename one of the clusters", id, peer))
	}
}
