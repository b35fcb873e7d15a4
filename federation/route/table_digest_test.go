package route

import (
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// A part that goes on from its stem is the part.
func TestAPartGoesOnFromItsStem(t *testing.T) {
	n, err := catalog.ParseServiceName("web.shop")
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{Name: n, Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}}
	for i := range 100 {
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: string(rune('a' + i)), Port: "http", Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80),
			Labels: map[string]string{"track": "stable"},
		})
	}
	var kept, whole Digester
	var stem Stem
	for i := range uint32(5) {
		s.Remote = []Remote{{Cluster: "gcp", Name: n, Rows: []catalog.SummaryRow{{Port: "http", Ready: i, Total: 9}}}}
		var got Digest
		if got, stem = kept.ServiceOn(stem, s, Digest{byte(i)}); got != whole.Service(s, Digest{byte(i)}) {
			t.Fatalf("after %d changes: another digest", i)
		}
	}
	// One that is of no use is made anew.
	if got, again := kept.ServiceOn(Stem("of another build"), s, Digest{}); got != whole.Service(s, Digest{}) || string(again) != string(stem) {
		t.Error("a stem of another build leads to another digest")
	}
}
