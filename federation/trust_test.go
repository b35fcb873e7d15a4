package federation_test

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// Two clusters whose federations talk: the list of roots says who hangs below
// each, the peer's federation by the chain that it showed, and a link below no
// root apart.
func TestTrustSaysWhoStandsOnWhichRoot(t *testing.T) {
	t.Parallel()
	w := newWAN()
	east, west := newCluster(t, w, "east"), newCluster(t, w, "west")
	join(east, west)
	east.source.publish()
	west.source.publish()
	east.start()
	west.start()
	east.gateway("gw-1")
	gw := west.gateway("gw-1")
	gw.authority.Store(new(hex.EncodeToString(east.ca.Certificate().SubjectKeyId)))
	key := func(ca *identitytest.CA) string { return hex.EncodeToString(ca.Certificate().SubjectKeyId) }
	users := func(keyID string) (kinds []string) {
		trust, err := west.api.Trust(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range trust.Authorities {
			if a.KeyID == keyID {
				for _, u := range a.Users {
					kinds = append(kinds, u.Kind+" "+u.Name)
				}
			}
		}
		return kinds
	}
	eventually(t, "the peer's gateway and federation stand on its root", func() bool {
		return slices.Equal(users(key(east.ca)), []string{"link east/gw-1", "peer east"})
	})
	if got := users(key(west.ca)); !slices.Equal(got, []string{"federation west", "gateway gw-1"}) {
		t.Errorf("on the own root stand %v", got)
	}
	trust, err := west.api.Trust(t.Context())
	if err != nil || len(trust.Authorities) != 2 || len(trust.Unplaced) != 0 || trust.SVID.ID != west.id.String() {
		t.Fatalf("trust is %+v, %v", trust, err)
	}
	gw.authority.Store(new("00ff"))
	eventually(t, "a link below no root", func() bool {
		trust, err := west.api.Trust(t.Context())
		return err == nil && slices.ContainsFunc(trust.Unplaced, func(u resource.TrustUser) bool {
			return u.Kind == "link" && strings.HasPrefix(u.Name, "east/") && u.Authority == "00ff"
		})
	})
}
