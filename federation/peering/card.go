package peering

import (
	"bytes"
	"encoding/base64"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const cardPrefix = "isthmus-cluster-1-"

// Card says who a cluster is, so that it alone can be invited: an invitation for a
// card is worthless to whoever steals its token. Nothing in it is secret.
type Card struct {
	Cluster    catalog.ClusterName
	Federation spiffeid.ID
	Anchors    []identity.Anchor
}

// Card is this cluster's.
func (s *Service) Card() (*Card, error) {
	anchors, err := s.o.Identity.Anchors()
	if err != nil {
		return nil, refuseFor(ReasonInternal, err, "this federation has no svid yet")
	}
	return &Card{Cluster: s.o.Cluster, Federation: s.o.ID, Anchors: anchors}, nil
}

// Encode is the card as it is pasted.
func (c *Card) Encode() string {
	b := appendText(appendText(nil, string(c.Cluster)), c.Federation.String())
	b = append(b, byte(len(c.Anchors)))
	for _, a := range c.Anchors {
		b = append(b, a[:]...)
	}
	sum := checksum(cardPrefix, b)
	return cardPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:]...))
}

// ParseCard reads what Encode wrote; ok is false where text is no card at all.
// Errors are as those of ParseToken.
func ParseCard(text string) (c *Card, ok bool, err error) {
	text = strings.Join(strings.Fields(text), "")
	encoded, ok := strings.CutPrefix(text, cardPrefix)
	if !ok {
		return nil, false, nil
	}
	if len(text) > maxTokenText {
		return nil, true, refuse(ReasonMalformed, "card: has %d characters, at most %d", len(text), maxTokenText)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) < checksumBytes {
		return nil, true, refuse(ReasonTampered, "card: was cut or changed on its way; copy all of it")
	}
	payload, sum := raw[:len(raw)-checksumBytes], raw[len(raw)-checksumBytes:]
	if want := checksum(cardPrefix, payload); !bytes.Equal(sum, want[:]) {
		return nil, true, refuse(ReasonTampered, "card: was cut or changed on its way; copy all of it")
	}
	r := reader{b: payload}
	c = &Card{Cluster: catalog.ClusterName(r.text())}
	federation := r.text()
	for range r.count(identity.MaxAnchors) {
		var a identity.Anchor
		copy(a[:], r.take(len(a)))
		c.Anchors = append(c.Anchors, a)
	}
	if r.failed || len(r.b) != 0 || len(c.Anchors) == 0 {
		return nil, true, refuse(ReasonMalformed, "card: is not complete")
	}
	if err := (policy.Peer{Name: c.Cluster, ID: federation}).Validate(); err != nil {
		return nil, true, refuseFor(ReasonMalformed, err, "card: names no cluster")
	}
	c.Federation = spiffeid.RequireFromString(federation) // validated
	return c, true, nil
}
