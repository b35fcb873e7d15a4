package identity

import (
	"crypto/x509"
	"time"
)

// defaultRefreshHint is how often readers of our bundle should look again: the
// poll interval that the SPIFFE Trust Domain and Bundle specification (section
// 4.1.2) suggests in absence of a hint.
const defaultRefreshHint = 5 * time.Minute

// NextSequence numbers a bundle's new content after content that had the number
// last (0 when there was none). The Workload API hands out authorities without the
// number that a bundle document wants, and several processes of one trust domain,
// the CA among them, must number the same content alike without talking to each
// other; so the number is derived from the content, and is only counted on from
// last where the derived one would go back or stand still.
func NextSequence(last uint64, authorities []*x509.Certificate) uint64 {
	return max(contentSequence(authorities), last+1)
}

// contentSequence is (newest NotBefore in Unix seconds) * 256 + (255 - count): it grows
// when a newer authority joins, and grows again when an old one leaves. It shrinks
// only when the newest authority is withdrawn; whoever remembers the number
// before (a Source with a cache file, the CA's state) then counts on from there.
func contentSequence(authorities []*x509.Certificate) uint64 {
	var newest int64
	for _, c := range authorities {
		newest = max(newest, c.NotBefore.Unix())
	}
	const counts = 256
	count := min(len(authorities), counts-1)
	return uint64(newest)*counts + uint64(counts-1-count) // newest is >= 0 by max with zero
}
