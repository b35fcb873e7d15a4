package identity_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// What is verified holds until the first certificate of its chain expires.
func TestVerifyPeerUntil(t *testing.T) {
	ca := identitytest.NewCA("east.test")
	inner := ca.Intermediate("east.test")
	id := ca.ID("/isthmus/cluster/east")
	source := ca.Source(id, ca.Bundle())
	soon := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	late := ca.Certificate().NotAfter.Add(time.Hour)
	for name, c := range map[string]struct {
		by       *identitytest.CA
		notAfter time.Time
		want     time.Time
	}{
		"the leaf is the first":         {ca, soon, soon},
		"the root is the first":         {ca, late, ca.Certificate().NotAfter},
		"the leaf below another":        {inner, soon, soon},
		"the intermediate is the first": {inner, late, inner.Certificate().NotAfter},
	} {
		certs := c.by.Mint(identitytest.Leaf{URIs: []string{id.String()}, NotAfter: c.notAfter}).Certificates
		got, until, err := source.VerifyPeerUntil(certs)
		if err != nil || got != id || !until.Equal(c.want) {
			t.Errorf("%s: %v until %v, %v; want until %v", name, got, until, err, c.want)
		}
	}
	if _, until, err := source.VerifyPeerUntil(ca.Expired(id).Certificates); err == nil || !until.IsZero() {
		t.Errorf("an expired one: until %v, %v", until, err)
	}
}
