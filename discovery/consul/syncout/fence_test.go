package syncout

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// A writer that stood still while its session ended, and another took over, writes
// nothing more, though it has not heard of it.
func TestRealConsulFencesALateWriter(t *testing.T) {
	t.Parallel()
	a := consultest.Start(t, consultest.Options{Binary: tools.Require(t, "consul"), Dev: true})
	newWriter := func(name string) *Writer {
		w, err := New(Options{
			Config: Config{Config: agent.Config{Address: a.Address()}}, Cluster: "east", Name: name,
			Offers: func() (Offer, bool) { return Offer{}, false },
		})
		if err != nil {
			t.Fatal(err)
		}
		client, httpClient, err := agent.New(agent.Options{Config: w.config.Config, Conns: conns, Idle: idle})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(httpClient.CloseIdleConnections)
		w.client = client
		return w
	}
	old, next := newWriter("old"), newWriter("next")
	write := func(w *Writer, l *lock, address string) error {
		in := inputs{
			config: w.config, cluster: w.cluster, others: freeFor("billing"),
			offer: Offer{Ways: []Way{way("billing", "gw1", address)}, Gateways: []string{"gw1"}},
		}
		var err error
		if in.there, err = w.read(t.Context()); err != nil {
			return err
		}
		p := makePlan(in)
		return w.apply(t.Context(), l, &p, &writing{})
	}
	held, err := old.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := write(old, held, "10.0.0.5:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Client().Session().Destroy(held.session, nil); err != nil {
		t.Fatal(err)
	}
	if err := write(old, held, "10.0.0.6:1"); !errors.Is(err, errLost) {
		t.Errorf("while nobody holds the lock: %v", err)
	}
	taken, err := next.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.release()
	if err := write(old, held, "10.0.0.7:1"); !errors.Is(err, errLost) {
		t.Errorf("while another holds the lock: %v", err)
	}
	if err := write(next, taken, "10.0.0.8:1"); err != nil {
		t.Error(err)
	}
	got, _, err := a.Client().Catalog().Service("billing", "", nil)
	if err != nil || len(got) != 1 || got[0].ServiceAddress != "10.0.0.8" || got[0].ServiceMeta[writerMeta] != "next" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A node of our name that somebody has made since it was last looked for stays theirs.
func TestRealConsulTakesNoNodeOver(t *testing.T) {
	t.Parallel()
	a := consultest.Start(t, consultest.Options{Binary: tools.Require(t, "consul"), Dev: true})
	w, err := New(Options{
		Config: Config{Config: agent.Config{Address: a.Address()}}, Cluster: "east", Name: "w",
		Offers: func() (Offer, bool) { return Offer{}, false },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.client = a.Client()
	l, err := w.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	in := inputs{
		config: w.config, cluster: w.cluster, others: freeFor("billing"),
		offer: Offer{Ways: []Way{way("billing", "gw1", "10.0.0.5:1")}, Gateways: []string{"gw1"}},
	}
	if in.there, err = w.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := makePlan(in)
	theirs := &api.CatalogRegistration{Node: w.config.Node, Address: "10.9.9.9", NodeMeta: map[string]string{"rack": "7"}}
	if _, err := a.Client().Catalog().Register(theirs, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.apply(t.Context(), l, &p, &writing{denied: map[string]time.Time{}}); err == nil {
		t.Error("it was written")
	}
	got, _, err := a.Client().Catalog().Node(w.config.Node, nil)
	if err != nil || got == nil || got.Node.Address != "10.9.9.9" || got.Node.Meta["rack"] != "7" || len(got.Services) != 0 {
		t.Errorf("the node is %+v, %v", got, err)
	}
}
