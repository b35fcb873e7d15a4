package route

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash"
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
type Digester struct {
	buf  []byte
	hash hash.Hash // of ServiceOn
}

// Stem is the hash of what the part of a service begins with, its name, its ports
// and its endpoints, in the form in which it can be taken up again. It is for the
// process that made it alone.
type Stem []byte

// Service is the part of one service whose traffic policy has the given
// DigestText.
func (x *Digester) Service(s *Service, traffic Digest) Digest {
	x.stem(s)
	x.rest(s, traffic)
	return sha256.Sum256(x.buf)
}

// ServiceOn is Service for who keeps the stem, of a service that had the same name,
// ports and endpoints: there may be hundreds of these, and most changes are of what
// comes after them. An empty stem is made, and one that cannot be taken up is made
// anew; next is the one to keep.
func (x *Digester) ServiceOn(stem Stem, s *Service, traffic Digest) (part Digest, next Stem) {
	if x.hash == nil {
		x.hash = sha256.New()
	}
	if len(stem) == 0 || x.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(stem) != nil {
		x.hash.Reset()
		x.stem(s)
		x.hash.Write(x.buf)
		stem, _ = x.hash.(encoding.BinaryMarshaler).MarshalBinary() // has no error
	}
	x.buf = x.buf[:0]
	x.rest(s, traffic)
	x.hash.Write(x.buf)
	x.hash.Sum(part[:0])
	return part, stem
}

func (x *Digester) stem(s *Service) {
	x.begin('s')
	x.name(s.Name)
	x.ports(s.Ports)
	x.count(len(s.Endpoints))
	for i := range s.Endpoints {
		x.endpoint(&s.Endpoints[i])
	}
}

func (x *Digester) rest(s *Service, traffic Digest) {
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
