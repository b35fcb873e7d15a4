package tunnel_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// A root leaves while the link's last proof hangs on it. What its other end has
// decides: with a certificate of the new root, which was refused before, the link is
// proven in place and no call is lost, although the bundle went from the old root to
// the new one in a single step; without one the link is cut within a second.
func TestARootLeavesUnderALink(t *testing.T) {
	for name, c := range map[string]struct {
		rotated bool // the peer has a certificate of the new root
		lost    bool
	}{
		"the peer has rotated":     {true, false},
		"the peer has not rotated": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const life = 2 * time.Minute
				m, east, _, a, b := rotors(t, life, nil)
				defer m.Close()
				m.Connect()
				first, back := a.WaitLink(b, tunnel.StateUp), b.WaitLink(a, tunnel.StateUp)
				out, in := openTo(t, a, "west"), openTo(t, b, "east")
				defer out.Close()
				defer in.Close()
				old := east.signs
				next := identitytest.NewCA("a.test")
				if c.rotated {
					east.signs = next
				}
				east.all = []*identitytest.CA{old, next} // at home both are good
				east.rotate()
				time.Sleep(12 * time.Second) // proofs of the new one are refused meanwhile
				for _, s := range []*tunnel.Stream{out, in} {
					if err := echoOnce(s, []byte("x")); err != nil {
						t.Fatalf("before the root leaves: %v", err)
					}
				}
				east.all = []*identitytest.CA{next}
				east.tell() // the peer's bundle goes from the old root to the new one
				began := time.Now()
				for time.Since(began) < time.Second {
					time.Sleep(10 * time.Millisecond)
					for _, s := range []*tunnel.Stream{out, in} {
						if err := echoOnce(s, []byte("x")); err != nil && !c.lost {
							t.Fatalf("%v after the root has left: %v", time.Since(began), err)
						}
					}
				}
				for _, s := range []*tunnel.Stream{out, in} {
					if err := echoOnce(s, []byte("y")); (err != nil) != c.lost {
						t.Errorf("a second after the root has left: %v, lost should be %t", err, c.lost)
					}
				}
				if c.lost {
					return
				}
				if now := a.WaitLink(b, tunnel.StateUp); !now.Since.Equal(first.Since) {
					t.Error("the link was replaced")
				}
				l := b.WaitLink(a, tunnel.StateUp)
				if !l.Since.Equal(back.Since) {
					t.Error("the other link was replaced")
				}
				if leaf := east.source.Certificate(); l.PeerSerial != leaf.SerialNumber.Text(16) {
					t.Errorf("the link hangs on another certificate: %+v", l)
				}
				t.Log("figure: a root leaves under a link whose peer has rotated: proven in place, 0 streams cut")
			})
		})
	}
}

// Who offers a certificate that is refused does not live on by that: the link ends
// within a second of the authority's end.
func TestARefusedProofIsNoLongerLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, east, _, a, b := rotors(t, 2*time.Minute, nil)
		defer m.Close()
		m.Connect()
		in := openTo(t, b, "east")
		defer in.Close()
		a.WaitLink(b, tunnel.StateUp)
		east.signs = identitytest.NewCA("a.test") // nobody will ever trust it
		east.all = append(east.all, east.signs)
		east.rotate()
		time.Sleep(12 * time.Second)
		if err := echoOnce(in, []byte("x")); err != nil {
			t.Fatal(err)
		}
		east.all = []*identitytest.CA{identitytest.NewCA("a.test")}
		east.tell()
		time.Sleep(time.Second)
		if err := echoOnce(in, []byte("x")); err == nil {
			t.Error("the link outlives its authority")
		}
	})
}
