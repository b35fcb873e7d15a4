package mesh

import (
	"encoding/json"
	"iter"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// PatchFormat is the value of the query parameter patch: the version of Patch
// and of the digest.
const PatchFormat = 1

const (
	// maxPatchLine is about what one line of a patch holds, before the service
	// that exceeds it: gateways decode line by line.
	maxPatchLine = 1 << 20
	// MaxPatchServices bounds the services of one patch, over all of its lines.
	MaxPatchServices = 2 * catalog.MaxServices
)

// Patch leads from one table to another. It is one line or several, of which all
// but the last have More; it takes effect with the last, whole.
type Patch struct {
	// Epoch and Version are the table's that the patch leads to; Since is the
	// version that it leads from, in the same epoch. With Full it leads from
	// nothing.
	Epoch   uint64 `json:"epoch"`
	Version uint64 `json:"version"`
	Since   uint64 `json:"since,omitempty"`
	Full    bool   `json:"full,omitempty"`
	More    bool   `json:"more,omitempty"`

	// Head is the table without its position and its lists, Intentions are the
	// list; either is absent where it is unchanged.
	Head       json.RawMessage `json:"head,omitempty"`
	Intentions json.RawMessage `json:"intentions,omitempty"`

	Peers        []route.Peer          `json:"peers,omitempty"`
	RemovedPeers []catalog.ClusterName `json:"removed_peers,omitempty"`

	// Sets are lists of clusters that services of this line refer to.
	Sets            [][]catalog.ClusterName `json:"sets,omitempty"`
	Services        []ServicePatch          `json:"services,omitempty"`
	RemovedServices []catalog.ServiceName   `json:"removed_services,omitempty"`

	// The last line says what there is then: how many services, and the XOR of
	// the digests of all parts.
	Count  int    `json:"count,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// ServicePatch is what changes of one service. Absent lists are unchanged; with
// Whole they are empty.
type ServicePatch struct {
	Name  catalog.ServiceName `json:"name"`
	Whole bool                `json:"whole,omitempty"`
	Ports []catalog.Port      `json:"ports,omitempty"`
	// Quarantined, ExportedTo (an index into Sets) and Traffic (null: none)
	// replace what there was.
	Quarantined *[]string       `json:"quarantined,omitempty"`
	ExportedTo  *int            `json:"exported_to,omitempty"`
	Traffic     json.RawMessage `json:"traffic,omitempty"`
	// SubsetLabels replace what there was. They are outside of the digest: a gateway
	// that knows none would refuse every table with exports that publish labels.
	SubsetLabels *[]string `json:"subset_labels,omitempty"`
	// Endpoints are put after Gone are removed; Remote after RemoteGone.
	Endpoints  []catalog.Endpoint    `json:"endpoints,omitempty"`
	Gone       []Instance            `json:"gone,omitempty"`
	Remote     []route.Remote        `json:"remote,omitempty"`
	RemoteGone []catalog.ClusterName `json:"remote_gone,omitempty"`
}

// Instance is an endpoint within its service.
type Instance struct {
	Port string `json:"port"`
	ID   string `json:"id"`
}

// state is a table with the sum of its parts' digests, and what of it enters as
// text: the two ends of a stream have one each.
type state struct {
	table *route.Table
	// rows are what the federation's end has in place of the table's services, and
	// parts what is kept of each.
	rows       []*route.Service
	parts      map[catalog.ServiceName]part
	head       route.Digest // of Patch.Head
	intentions route.Digest
	traffic    map[catalog.ServiceName]route.Digest
	sum        route.Digest
	digester   route.Digester
}

// part is what the federation's end keeps of a service of the table.
type part struct {
	digest route.Digest
	stem   route.Stem // of it; nil until endpoints come again
	// distinct says that the endpoints are in order, each instance once; it is false
	// until they were looked at.
	distinct bool
}

// newState sums a table, whose policies travel as this build writes them.
func newState(t *route.Table) (*state, error) {
	s := &state{table: t, traffic: make(map[catalog.ServiceName]route.Digest)}
	each := func(yield func(*route.Service) bool) {
		for i := range t.Services {
			if !yield(&t.Services[i]) {
				return
			}
		}
	}
	return s, s.begin(each, func(*route.Service, route.Digest) {})
}

// stateOf is newState at the federation's end.
func stateOf(e *route.Edition) (*state, error) {
	s := &state{
		table: e.Head(), rows: e.Rows(),
		traffic: make(map[catalog.ServiceName]route.Digest), parts: make(map[catalog.ServiceName]part, len(e.Rows())),
	}
	return s, s.begin(slices.Values(e.Rows()), func(row *route.Service, d route.Digest) { s.parts[row.Name] = part{digest: d} })
}

// begin sums the table with the given rows.
func (s *state) begin(rows iter.Seq[*route.Service], note func(*route.Service, route.Digest)) error {
	t := s.table
	head, err := encodeHead(t)
	if err != nil {
		return err
	}
	intentions, err := encodeIntentions(t)
	if err != nil {
		return err
	}
	s.head, s.intentions = route.DigestText(head), route.DigestText(intentions)
	s.sum.Toggle(s.head)
	s.sum.Toggle(s.intentions)
	for i := range t.Peers {
		s.sum.Toggle(s.digester.Peer(&t.Peers[i]))
	}
	for row := range rows {
		if row.Traffic != nil {
			raw, err := json.Marshal(row.Traffic)
			if err != nil {
				return err
			}
			s.traffic[row.Name] = route.DigestText(raw)
		}
		d := s.digest(row)
		note(row, d)
		s.sum.Toggle(d)
	}
	return nil
}

// digest is that of one service of the state's table.
func (s *state) digest(row *route.Service) route.Digest {
	return s.digester.Service(row, s.traffic[row.Name])
}

// encodeHead writes what a table has one of, fields that are new included.
func encodeHead(t *route.Table) (json.RawMessage, error) {
	head := *t
	head.Epoch, head.Version = 0, 0
	head.Peers, head.Services, head.Intentions = nil, nil, nil
	return json.Marshal(&head)
}

func encodeIntentions(t *route.Table) (json.RawMessage, error) {
	if len(t.Intentions) == 0 {
		return nil, nil
	}
	return json.Marshal(t.Intentions)
}
