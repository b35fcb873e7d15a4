package route

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Digest is the sum (XOR) of the hashes of a table's parts, so that a change
// costs what changed. It finds drift between two honest ends and is no defence.
//
// What is hashed is written out here, field by field, and not an encoding: two
// builds of different age agree on the fields that both know. Policies and what
// a table has one of, whose fields grow, enter as the JSON that travelled.
type Digest [sha256.Size]byte

// Toggle adds a part that is not in, and takes out one that is.
func (d *Digest) Toggle(part Digest) {
	for i := range d {
		d[i] ^= part[i]
	}
}

// String is hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// DigestText hashes JSON as it travels; of none at all it is zero.
func DigestText(raw []byte) (d Digest) {
	if len(raw) > 0 {
		d = sha256.Sum256(raw)
	}
	return d
}

// Digester hashes the parts of tables. The zero value is ready; it is for one
// goroutine at a time.
type Digester struct{ buf []byte }

// Service is the part of one service whose traffic policy has the given
// DigestText.
func (x *Digester) Service(s *Service, traffic Digest) Digest {
	x.begin('s')
	x.name(s.Name)
	x.ports(s.Ports)
	x.count(len(s.Endpoints))
	for i := range s.Endpoints {
		x.endpoint(&s.Endpoints[i])
	}
	x.texts(s.Quarantined)
	x.count(len(s.ExportedTo))
	for _, c := range s.ExportedTo {
		x.text(string(c))
	}
	x.count(len(s.Remote))
	for i := range s.Remote {
		r := &s.Remote[i]
		x.text(string(r.Cluster))
		x.name(r.Name)
		x.ports(r.Ports)
		x.count(len(r.Rows))
		for _, row := range r.Rows {
			x.text(row.Port)
			x.text(row.Zone)
			x.text(row.Subset)
			x.number(uint64(row.Ready))
			x.number(uint64(row.Total))
			x.number(row.Capacity)
		}
	}
	x.buf = append(x.buf, traffic[:]...)
	return sha256.Sum256(x.buf)
}

func (x *Digester) endpoint(e *catalog.Endpoint) {
	x.text(e.ID)
	x.text(e.Port)
	var room [32]byte
	address, _ := e.Address.AppendBinary(room[:0]) // has no error
	x.count(len(address))
	x.buf = append(x.buf, address...)
	x.locality(e.Locality)
	x.number(uint64(e.Weight))
	x.text(string(e.Health))
	x.text(e.Source)
	// One number for both flags: an endpoint in plaintext hashes as it did before
	// there were transports, so that builds of either age agree on it.
	x.number(uint64(truth(e.Quarantined) | truth(e.Transport != catalog.Plain)<<1))
	if e.Transport != catalog.Plain {
		x.text(string(e.Transport))
		x.text(e.ServerID)
	}
	x.count(len(e.Labels))
	if len(e.Labels) > 0 {
		for _, k := range slices.Sorted(maps.Keys(e.Labels)) {
			x.text(k)
			x.text(e.Labels[k])
		}
	}
}

// Peer is the part of one peer, but for its labels and its highest priority: a gateway
// that knows none would refuse every table for what only ranks clusters and calls.
func (x *Digester) Peer(p *Peer) Digest {
	x.begin('p')
	x.text(string(p.Name))
	x.locality(p.Locality)
	x.text(p.ID)
	x.count(len(p.Gateways))
	for i := range p.Gateways {
		g := &p.Gateways[i]
		x.text(g.Name)
		x.text(g.ID)
		x.texts(g.Addresses)
		x.flag(g.Draining)
	}
	if bundle, err := json.Marshal(p.Bundle); err == nil && len(p.Bundle) > 0 {
		x.text(string(bundle)) // as it travels: without its spaces
	}
	x.count(len(p.Asserts))
	for _, a := range p.Asserts {
		x.text(string(a))
	}
	x.flag(p.ControlLost)
	if !p.HeardAt.IsZero() {
		x.number(uint64(p.HeardAt.UnixNano()))
	}
	return sha256.Sum256(x.buf)
}

func (x *Digester) begin(kind byte) { x.buf = append(x.buf[:0], kind) }

func (x *Digester) number(n uint64) { x.buf = binary.AppendUvarint(x.buf, n) }

func (x *Digester) count(n int) { x.number(uint64(n)) }

func (x *Digester) text(s string) {
	x.count(len(s))
	x.buf = append(x.buf, s...)
}

func (x *Digester) texts(list []string) {
	x.count(len(list))
	for _, s := range list {
		x.text(s)
	}
}

func (x *Digester) flag(b bool) { x.count(truth(b)) }

func (x *Digester) name(n catalog.ServiceName) {
	x.text(n.Name())
	x.text(n.Namespace())
}

func (x *Digester) locality(l catalog.Locality) {
	x.text(l.Cloud)
	x.text(l.Region)
	x.text(l.Zone)
}

func (x *Digester) ports(list []catalog.Port) {
	x.count(len(list))
	for _, p := range list {
		x.text(p.Name)
		x.text(string(p.Protocol))
	}
}
