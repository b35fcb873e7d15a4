package refusals_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// TestWhatIsOpenEndsWhenItIsWithdrawn: a right that is taken away ends what it has let
// in, and keeps the next one out.
func TestWhatIsOpenEndsWhenItIsWithdrawn(t *testing.T) {
	for name, withdraw := range map[string]func(p *pair){
		"the export": func(p *pair) {
			for i := range p.services {
				p.services[i].ExportedTo = []catalog.ClusterName{"gamma"}
			}
		},
		"the service":   func(p *pair) { p.services = p.services[:1] },
		"the intention": func(p *pair) { p.intentions = p.intentions[1:] },
		"by a deny": func(p *pair) {
			deny := p.intentions[0]
			deny.Name, deny.Action = "zz-deny", policy.Deny
			p.intentions = append(p.intentions, deny)
		},
		"what the peer may assert": func(p *pair) { p.asserts = []policy.IDPattern{"spiffe://alpha.test/other"} },
		"all that it may assert":   func(p *pair) { p.asserts = nil },
	} {
		refuse(t, "withdrawn", name, func(t *testing.T) {
			p := newPair(t)
			c, err := net.Dial("tcp", p.alpha.Addrs().TCP[2].String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.WriteString(c, "x"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			withdraw(p)
			at := time.Now()
			p.push()
			_, err = c.Read(make([]byte, 1))
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || err == nil {
				t.Fatalf("the connection goes on: %v", err)
			}
			stand.Figure(t, "closed after %v", time.Since(at).Round(time.Millisecond))
			p.reached.Store(nil)
			if status, reason := p.ask("GET / HTTP/1.1\r\nHost: open.default\r\n\r\n"); status != 0 && status < 400 {
				t.Errorf("the next one: %d %s", status, reason)
			}
			p.untouched(t)
		})
	}
}
