package mesh

import (
	"crypto/x509"
	"net"
	"testing"
	"time"
)

// Certificates are verified anew when something has changed, and when one has
// expired; time that passes costs a look at the clock.
func TestRecheckVerifiesWhatIsDue(t *testing.T) {
	now := time.Now()
	verified := 0
	c := newConns(func([]*x509.Certificate) admission {
		verified++
		return admission{role: role{peer: "west"}, until: now.Add(2 * time.Hour)}
	}, newMetrics(nil))
	const soon, late = 3, 7
	for i := range soon + late {
		conn, far := net.Pipe()
		defer conn.Close()
		defer far.Close()
		l := &live{kind: "peer", until: now.Add(time.Hour)}
		if i < soon {
			l.until = now.Add(time.Minute)
		}
		c.live[conn] = l
	}
	for _, step := range []struct {
		name string
		all  bool
		at   time.Duration
		want int
	}{
		{"nothing has happened", false, 30 * time.Second, 0},
		{"peers or bundles have changed", true, 30 * time.Second, soon + late},
		{"all are valid for longer now", false, time.Hour + time.Minute, 0},
		{"all have expired", false, 2*time.Hour + time.Second, soon + late},
	} {
		verified = 0
		if gone := c.recheck(step.all, now.Add(step.at)); len(gone) != 0 || verified != step.want {
			t.Errorf("%s: %d verified, want %d; gone: %v", step.name, verified, step.want, gone)
		}
	}
	c.admit = func([]*x509.Certificate) admission { return admission{reason: "untrusted"} }
	if gone := c.recheck(false, now.Add(time.Hour)); len(gone) != 0 {
		t.Errorf("cut before its time: %v", gone)
	}
	if gone := c.recheck(false, now.Add(3*time.Hour)); len(gone) != 1 {
		t.Errorf("gone: %v", gone)
	}
}
