package exchange_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const peerID = "spiffe://gcp.example.org/isthmus/cluster/gcp"

var (
	name = catalog.MustServiceName
	t0   = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
)

// script writes the lines of a peer by hand, as the format's document says, so
// that the reader is not tested against its own writer.
type script struct {
	lines    []string
	items    map[string]string // what the digest is over
	services int
}

func newScript() *script { return &script{items: map[string]string{}} }

func (s *script) line(format string, args ...any) *script {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
	return s
}

func (s *script) full(epoch, version int) *script {
	s.items, s.services = map[string]string{}, 0
	return s.line(`{"type":"begin","format":1,"cluster":"gcp","epoch":%d,"version":%d}`, epoch, version)
}

func (s *script) delta(epoch, version, since int) *script {
	return s.line(`{"type":"begin","format":1,"cluster":"gcp","epoch":%d,"version":%d,"delta":true,"since":%d}`, epoch, version, since)
}

func (s *script) put(service string, ready int) *script {
	return s.putRaw(service, summaryJSON(service, ready))
}

func summaryJSON(service string, ready int) string {
	return fmt.Sprintf(`{"service":%q,"ports":[{"name":"http","protocol":"http"}],"rows":[{"port":"http","ready":%d,"total":9}]}`, service, ready)
}

func (s *script) putRaw(service, value string) *script {
	if _, known := s.items["service/"+service]; !known {
		s.services++
	}
	s.items["service/"+service] = value
	return s.line(`{"type":"service","service":%s}`, value)
}

func (s *script) remove(service string) *script {
	if _, known := s.items["service/"+service]; known {
		s.services--
	}
	delete(s.items, "service/"+service)
	return s.line(`{"type":"remove","name":%q}`, service)
}

func (s *script) roster(value string) *script {
	s.items["roster"] = value
	return s.line(`{"type":"roster","gateways":%s}`, value)
}

func (s *script) bundle(value string) *script {
	s.items["bundle"] = value
	return s.line(`{"type":"bundle","bundle":%s}`, value)
}

func (s *script) conflicts(value string) *script {
	s.items["conflicts"] = value
	return s.line(`{"type":"conflicts","conflicts":%s}`, value)
}

func (s *script) digest() string {
	var x [sha256.Size]byte
	for k, v := range s.items {
		h := sha256.Sum256([]byte(k + "\x00" + v))
		for i := range x {
			x[i] ^= h[i]
		}
	}
	return hex.EncodeToString(x[:])
}

func (s *script) sync(epoch, version int) *script {
	return s.line(`{"type":"sync","epoch":%d,"version":%d,"services":%d,"digest":%q}`, epoch, version, s.services, s.digest())
}

func (s *script) heartbeat(epoch, version int) *script {
	return s.line(`{"type":"heartbeat","epoch":%d,"version":%d,"digest":%q}`, epoch, version, s.digest())
}

func gatewayJSON(gateway, address string) string {
	return fmt.Sprintf(`{"name":%q,"id":"%s/gateway/%s","addresses":[%q]}`, gateway, peerID, gateway, address)
}

func newApplier(opts ...func(*exchange.ApplierOptions)) *exchange.Applier {
	o := exchange.ApplierOptions{Cluster: "gcp", ID: spiffeid.RequireFromString(peerID)}
	for _, f := range opts {
		f(&o)
	}
	return exchange.NewApplier(o)
}

// feed applies lines one millisecond apart and returns the first refusal.
func feed(a *exchange.Applier, lines []string, at time.Time) (last exchange.Effect, err error) {
	for i, l := range lines {
		if last, err = a.Apply([]byte(l), at.Add(time.Duration(i)*time.Millisecond)); err != nil {
			return last, err
		}
	}
	return last, nil
}

// show is a snapshot as text: what a listener may act on.
func show(s *exchange.Snapshot) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d.%d", s.Position().Epoch, s.Position().Version)
	for _, v := range s.Services() {
		fmt.Fprintf(&b, " %s=", v.Service)
		for _, r := range v.Rows {
			fmt.Fprintf(&b, "%d", r.Ready)
		}
	}
	for _, g := range s.Gateways() {
		fmt.Fprintf(&b, " %s@%s", g.Name, strings.Join(g.Addresses, ","))
	}
	if s.Bundle() != nil {
		fmt.Fprintf(&b, " bundle:%s", s.Bundle())
	}
	if c := s.Conflicts(); len(c) > 0 {
		j, _ := json.Marshal(c)
		fmt.Fprintf(&b, " conflicts:%s", j)
	}
	return b.String()
}

func wantRefused(t *testing.T, err error, want exchange.Reason) {
	t.Helper()
	re, ok := errors.AsType[*exchange.RefusedError](err)
	if !ok || re.Reason != want {
		t.Errorf("error %v, want one with the reason %s", err, want)
	}
}
