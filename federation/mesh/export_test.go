package mesh

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Publisher is the server's side of patches, for tests without a network.
type Publisher struct{ t *tables }

// NewPublisher has no table yet.
func NewPublisher() *Publisher { return &Publisher{newTables()} }

// Publish makes a table the current one.
func (p *Publisher) Publish(t *route.Table) error { return p.t.publish(route.EditionOf(t)) }

// Lines are what a gateway at a position is sent.
func (p *Publisher) Lines(epoch, version uint64) [][]byte {
	if lines, _, ok := p.t.patches(position{epoch, version}); ok {
		return lines
	}
	lines, at, done, err := p.t.open()
	defer done()
	if err != nil {
		panic(err)
	}
	more, _, ok := p.t.patches(at)
	if !ok && at != p.t.at {
		panic("the log does not lead on from the full copy")
	}
	return append(slices.Clip(lines), more...)
}

// DigestOf is the digest of a table, its policies as this build writes them.
func DigestOf(t *route.Table) (string, error) {
	s, err := newState(t)
	if err != nil {
		return "", err
	}
	return s.sum.String(), nil
}

// DecodeReport reads a report the quick way where it can.
var DecodeReport = decodeReport

// CutLinks reports whether the links of a report are read the quick way.
func CutLinks(data []byte) bool {
	_, _, ok := cutLinks(data, nil)
	return ok
}
