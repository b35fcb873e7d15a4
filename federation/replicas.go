package federation

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/federation/store/consulkv"
)

const (
	// saveWithin bounds the write of an epoch: the exporter waits for it.
	saveWithin = 3 * time.Second
	// unkeptEpochs is how far apart replicas that cannot keep their epochs choose
	// them: two of one epoch would contradict each other.
	unkeptEpochs = 1 << 10
)

// StoreConfig says where policies, peers and the history are kept. Left out, they
// are in a file in the data directory, for one federation process.
type StoreConfig struct {
	// Consul keeps them in Consul's key-value store, for several federation
	// processes of one cluster that serve side by side.
	Consul *consulkv.Config `yaml:"consul"`
	// Replica names this process among the replicas; default the host's name.
	Replica string `yaml:"replica"`
}

func (c StoreConfig) shared() bool { return c.Consul != nil }

// consul is where a cluster's store is.
func (c StoreConfig) consul(cluster catalog.ClusterName) consulkv.Config {
	config := *c.Consul
	config.Prefix = cmp.Or(config.Prefix, consulkv.DefaultPrefix+"/"+string(cluster))
	return config
}

// InitializeStore begins the store of a new cluster in Consul, at an operator's
// word; prefix is where. began is false where there is one already.
func InitializeStore(ctx context.Context, cluster catalog.ClusterName, c StoreConfig) (began bool, prefix string, err error) {
	config := c.consul(cluster)
	began, err = consulkv.Initialize(ctx, config)
	return began, config.WithDefaults().Prefix, err
}

// openStore opens what the configuration names.
func (p *plane) openStore(ctx context.Context) (err error) {
	c := p.opts.Config.Store
	if !c.shared() {
		p.store, err = store.OpenBolt(store.BoltOptions{Path: p.path("store.db"), Log: p.log})
		return err
	}
	config := c.consul(p.opts.Cluster)
	p.shared, err = consulkv.Open(ctx, consulkv.Options{Config: config, CacheDir: p.path("store"), Log: p.log, Registerer: p.registry})
	if err != nil {
		return err // not into p.store: a nil of a type is not nil
	}
	p.store = p.shared
	return nil
}

// replicaName is what this process is called among the replicas.
func (p *plane) replicaName() string {
	if name := p.opts.Config.Store.Replica; name != "" {
		return name
	}
	if host, err := os.Hostname(); err == nil {
		return host
	}
	return "federation"
}

// joinReplicas makes this process one of the replicas, once its address is known.
func (p *plane) joinReplicas() {
	self := consulkv.Member{Name: p.replicaName(), Address: p.address, Build: p.opts.Build, StartedAt: p.started}
	if p.shared == nil {
		p.lists.Replicas.Replace([]feed.Entry[resource.Replica]{replicaEntry(self, self, self.Name)})
		return
	}
	p.replicas = p.shared.Replicas(consulkv.ReplicasOptions{Self: self, Log: p.log, Changed: p.sawReplicas})
	p.sawReplicas(consulkv.View{})
}

func replicaEntry(m, exporter consulkv.Member, self string) feed.Entry[resource.Replica] {
	return feed.Entry[resource.Replica]{Key: m.Name, Item: resource.Replica{
		Name: m.Name, Address: m.Address, Build: m.Build, StartedAt: m.StartedAt,
		Exporter: m.Name == exporter.Name, Self: m.Name == self,
	}}
}

// sawReplicas is told who is there and who of them is the exporter.
func (p *plane) sawReplicas(v consulkv.View) {
	var list []feed.Entry[resource.Replica]
	for _, m := range v.Members {
		list = append(list, replicaEntry(m, v.Exporter, p.replicaName()))
	}
	p.lists.Replicas.Replace(unique(list))
	before := p.speaker.Load()
	if v.Exporter.Name == "" {
		// Nobody for the moment: gateways keep the address of the last one.
		v.Exporter.Address = cmp.Or(before.Address, p.address)
	}
	now := &speaker{Member: v.Exporter, held: v.Held}
	p.speaker.Store(now)
	if before.Member != now.Member || before.held != now.held {
		if now.Name != "" && now.Member != before.Member {
			p.events.note(eventExporterChanged, now.Name, now.Address)
		}
		p.touch(catalogChanged)
	}
}

// speaker is the replica that speaks to peers.
type speaker struct {
	consulkv.Member
	held bool // it is this one
}

// speaks reports whether this process tells peers what is exported to them.
func (p *plane) speaks() bool { return p.replicas == nil || p.speaker.Load().held }

// federationAddress is where gateways bring peers' federations.
func (p *plane) federationAddress() string {
	if p.replicas == nil {
		return p.address
	}
	return cmp.Or(p.speaker.Load().Address, p.address)
}

// hush ends what peers are told by this process: another one tells them.
func (p *plane) hush() {
	for _, name := range p.exporter.Peers() {
		p.exporter.Remove(name)
	}
}

// saveExchangeEpoch keeps the epoch under which a peer is told something. Among
// replicas it is the exporter's alone, judged by Consul: one that has lost the
// lease, and does not know, has no epoch that peers would take.
func (p *plane) saveExchangeEpoch(peer catalog.ClusterName, n uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), saveWithin)
	defer cancel()
	c := p.exchangeEpoch(peer)
	if p.replicas == nil {
		return c.set(ctx, n)
	}
	have, revision, err := c.load(ctx)
	if err != nil {
		return err
	}
	if n <= have {
		return fmt.Errorf("epoch %d: %d was used already", n, have)
	}
	_, err = p.replicas.Apply(ctx, store.Write{Key: c.key(), Value: binary.BigEndian.AppendUint64(nil, n), Expect: revision})
	return err
}

// apart makes an epoch that cannot be kept one that no other replica is likely to
// choose.
func (p *plane) apart(epoch uint64, err error) uint64 {
	if p.shared != nil && errors.Is(err, store.ErrNotWritable) {
		return epoch + rand.Uint64N(unkeptEpochs)
	}
	return epoch
}
