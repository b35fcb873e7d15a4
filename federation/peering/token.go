package peering

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// The sorts of tokens, as they begin. The sort is part of what the checksum
// covers.
const (
	invitePrefix = "isthmus-invite-1-"
	returnPrefix = "isthmus-return-1-"
)

const (
	idBytes       = 16
	secretBytes   = 32
	checksumBytes = 8
	// maxTokenText bounds what is decoded: sixteen addresses of 253 characters and
	// four authorities are 4.5 KiB, and no token that is pasted has them.
	maxTokenText = 8 << 10
)

// TokenID names an invitation. It is no secret.
type TokenID [idBytes]byte

// String is the ID in hexadecimal, as the API and the log have it.
func (id TokenID) String() string { return hex.EncodeToString(id[:]) }

// ParseTokenID reads what String wrote.
func ParseTokenID(s string) (TokenID, error) {
	var id TokenID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != idBytes || hex.EncodeToString(b) != s {
		return id, fmt.Errorf("invitation %.80q: must be %d hexadecimal digits", s, 2*idBytes)
	}
	copy(id[:], b)
	return id, nil
}

// Token is an invitation in the hand of its bearer.
type Token struct {
	ID     TokenID
	Secret [secretBytes]byte
	// Expires is when the inviter stops taking it, by its clock; whole seconds.
	Expires time.Time
	// Cluster, Federation, Cloud and Region are the inviter's.
	Cluster       catalog.ClusterName
	Federation    spiffeid.ID
	Cloud, Region string
	// To is the name of the cluster that is invited, "" for any; ToID its
	// federation's SPIFFE ID, zero for any.
	To   catalog.ClusterName
	ToID spiffeid.ID
	// Anchors are the authorities by which the inviter is recognised.
	Anchors []identity.Anchor
	// Gateways are host:port of the inviter's gateways; none where it cannot be
	// dialed.
	Gateways []string
	// Reply is set in a return token: the invitation that it answers.
	Reply *Reply
}

// Reply proves that a return token was made by somebody who held the invitation.
type Reply struct {
	ID  TokenID
	MAC [sha256.Size]byte
}

// newToken makes ID and secret.
func newToken() (t Token) {
	_, _ = rand.Read(t.ID[:]) // never fails
	_, _ = rand.Read(t.Secret[:])
	return t
}

// LogValue keeps the secret out of logs.
func (t *Token) LogValue() slog.Value { return slog.StringValue(t.ID.String()) }

// String keeps the secret out of messages; Encode is what is pasted.
func (t *Token) String() string { return "token " + t.ID.String() }

// Encode is the token as it is pasted: letters, digits, "-" and "_".
func (t *Token) Encode() string {
	prefix := invitePrefix
	payload := t.payload()
	if t.Reply != nil {
		prefix = returnPrefix
		payload = append(append(payload, t.Reply.ID[:]...), t.Reply.MAC[:]...)
	}
	sum := checksum(prefix, payload)
	return prefix + base64.RawURLEncoding.EncodeToString(append(payload, sum[:]...))
}

// checksum finds a paste that lost or changed a character; against a forger there
// is the secret.
func checksum(prefix string, payload []byte) (sum [checksumBytes]byte) {
	whole := sha256.Sum256(append([]byte(prefix), payload...))
	copy(sum[:], whole[:])
	return sum
}

// payload is everything but the reply and the checksum.
func (t *Token) payload() []byte {
	b := append([]byte(nil), t.ID[:]...)
	b = append(b, t.Secret[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.Unix()))
	toID := ""
	if !t.ToID.IsZero() {
		toID = t.ToID.String()
	}
	for _, s := range []string{string(t.Cluster), t.Federation.String(), t.Cloud, t.Region, string(t.To), toID} {
		b = appendText(b, s)
	}
	b = append(b, byte(len(t.Anchors)))
	for _, a := range t.Anchors {
		b = append(b, a[:]...)
	}
	b = append(b, byte(len(t.Gateways)))
	for _, g := range t.Gateways {
		b = appendText(b, g)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// ParseToken reads a token as it was pasted: white space around and inside of it
// (a line that was wrapped) is left out. Errors are *Refusal of ReasonMalformed,
// ReasonVersion or ReasonTampered.
func ParseToken(text string) (*Token, error) {
	text = strings.Join(strings.Fields(text), "")
	if len(text) > maxTokenText {
		return nil, refuse(ReasonMalformed, "token: has %d characters, at most %d", len(text), maxTokenText)
	}
	var prefix string
	switch {
	case strings.HasPrefix(text, invitePrefix):
		prefix = invitePrefix
	case strings.HasPrefix(text, returnPrefix):
		prefix = returnPrefix
	case strings.HasPrefix(text, "isthmus-invite-"), strings.HasPrefix(text, "isthmus-return-"):
		return nil, refuse(ReasonVersion, "token: is of another version than 1; both clusters need versions of isthmus that understand it")
	default:
		return nil, refuse(ReasonMalformed, "token: must begin with %s or %s", invitePrefix, returnPrefix)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text[len(prefix):])
	if err != nil || len(raw) < checksumBytes {
		return nil, refuse(ReasonTampered, "token: was cut or changed on its way; copy all of it")
	}
	payload, sum := raw[:len(raw)-checksumBytes], raw[len(raw)-checksumBytes:]
	if want := checksum(prefix, payload); !bytes.Equal(sum, want[:]) {
		return nil, refuse(ReasonTampered, "token: was cut or changed on its way; copy all of it")
	}
	t, err := parsePayload(payload, prefix == returnPrefix)
	if err != nil {
		return nil, refuse(ReasonMalformed, "token: %v", err)
	}
	return t, nil
}

func parsePayload(b []byte, isReturn bool) (*Token, error) {
	r := reader{b: b}
	t := &Token{}
	copy(t.ID[:], r.take(idBytes))
	copy(t.Secret[:], r.take(secretBytes))
	seconds := r.number(8)
	cluster, federation := r.text(), r.text()
	t.Cloud, t.Region = r.text(), r.text()
	to, toID := r.text(), r.text()
	for range r.count(identity.MaxAnchors) {
		var a identity.Anchor
		copy(a[:], r.take(len(a)))
		t.Anchors = append(t.Anchors, a)
	}
	for range r.count(policy.MaxBootstraps) {
		t.Gateways = append(t.Gateways, r.text())
	}
	if isReturn {
		t.Reply = &Reply{}
		copy(t.Reply.ID[:], r.take(idBytes))
		copy(t.Reply.MAC[:], r.take(len(t.Reply.MAC)))
	}
	if r.failed || len(r.b) != 0 {
		return nil, fmt.Errorf("is not complete")
	}
	const latest = 1 << 40 // seconds: tens of thousands of years
	if seconds > latest {
		return nil, fmt.Errorf("expiry: value %d: is no time", seconds)
	}
	t.Expires = time.Unix(int64(seconds), 0).UTC()
	t.Cluster, t.To = catalog.ClusterName(cluster), catalog.ClusterName(to)
	if toID != "" {
		var err error
		if t.ToID, err = spiffeid.FromString(toID); err != nil {
			return nil, fmt.Errorf("invited id: %w", err)
		}
	}
	if to != "" {
		if _, err := catalog.ParseClusterName(to); err != nil {
			return nil, fmt.Errorf("invited: %w", err)
		}
	}
	if len(t.Anchors) == 0 {
		return nil, fmt.Errorf("names no authority")
	}
	inviter := policy.Peer{Name: t.Cluster, ID: federation, Gateways: t.Gateways, Cloud: t.Cloud, Region: t.Region}
	if err := inviter.Validate(); err != nil {
		return nil, err
	}
	t.Federation = spiffeid.RequireFromString(federation) // validated
	return t, nil
}

// reader takes a payload apart; after a failure everything is zero.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.failed, r.b = true, nil
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) number(bytes int) (n uint64) {
	for _, b := range r.take(bytes) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r *reader) text() string {
	n := int(r.number(2))
	if n > len(r.b) {
		r.failed, r.b = true, nil
		return ""
	}
	return string(r.take(n))
}

func (r *reader) count(most int) int {
	n := int(r.number(1))
	if n > most {
		r.failed, r.b = true, nil
		return 0
	}
	return n
}

// reply makes t the answer to the invitation that key belongs to.
func (t *Token) reply(to TokenID, k key) {
	t.Reply = &Reply{ID: to, MAC: k.mac(roleReturn, nil, t.payload())}
}

// repliesTo reports whether t was made by a holder of the invitation of key.
func (t *Token) repliesTo(k key) bool {
	want := k.mac(roleReturn, nil, t.payload())
	return t.Reply != nil && hmac.Equal(t.Reply.MAC[:], want[:])
}
