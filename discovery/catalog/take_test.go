package catalog_test

import (
	"fmt"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Take is With of what the other snapshot has and lacks, whose services it shares.
func TestTakeIsWithOfWhatTheOtherHas(t *testing.T) {
	named := func(n, meta string) *catalog.Service {
		return &catalog.Service{Name: catalog.MustServiceName(n), Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}, Meta: map[string]string{"v": meta}}
	}
	snapshot := func(services ...*catalog.Service) *catalog.Snapshot {
		s, err := catalog.NewSnapshot("s", services)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a := snapshot(named("a.x", "1"), named("b.x", "1"), named("c.x", "1"))
	b := snapshot(named("b.x", "2"), named("c.x", "2"), named("d.x", "2"))
	names := []catalog.ServiceName{catalog.MustServiceName("d.x"), catalog.MustServiceName("a.x"), catalog.MustServiceName("b.x"), catalog.MustServiceName("z.x")}
	got, err := a.Take(b, names, []*catalog.Service{named("e.x", "3")})
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for s := range got.All() {
		said += fmt.Sprintf("%s=%s ", s.Name, s.Meta["v"])
	}
	if want := "b.x=2 c.x=1 d.x=2 e.x=3 "; said != want || got.Len() != 4 {
		t.Errorf("%q of %d services, want %q", said, got.Len(), want)
	}
	if d := catalog.MustServiceName("d.x"); got.Get(d) != b.Get(d) {
		t.Error("what was taken is another service")
	}
	if _, err := a.Take(b, nil, []*catalog.Service{{Name: catalog.MustServiceName("e.x")}, {Name: catalog.MustServiceName("e.x")}}); err == nil {
		t.Error("services without ports, given twice, are put")
	}
}
