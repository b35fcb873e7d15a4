package peering_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/peering"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func sampleToken() *peering.Token {
	return &peering.Token{
		ID: peering.TokenID{1}, Secret: [32]byte{2}, Expires: time.Unix(1_800_000_000, 0).UTC(), Cluster: "east",
		Federation: spiffeid.RequireFromString("spiffe://east.test/isthmus/cluster/east"), Cloud: "aws", Region: "us-east-1",
		To: "west", ToID: spiffeid.RequireFromString("spiffe://west.test/isthmus/cluster/west"),
		Anchors: []identity.Anchor{{3}, {4}}, Gateways: []string{"gw1.east.test:7443", "192.0.2.1:7443"},
	}
}

// What parses is said again in the same characters: there is one spelling of each
// token.
func FuzzParseToken(f *testing.F) {
	plain := sampleToken()
	back := sampleToken()
	back.Reply = &peering.Reply{ID: peering.TokenID{9}}
	for _, s := range []string{"", "isthmus-invite-1-", "isthmus-return-1-AAAA", plain.Encode(), back.Encode()} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := peering.ParseToken(text)
		if err != nil {
			if _, ok := errors.AsType[*peering.Refusal](err); !ok {
				t.Errorf("ParseToken(%q) = %v, no refusal", text, err)
			}
			return
		}
		again, err := peering.ParseToken(token.Encode())
		if err != nil || again.Encode() != token.Encode() {
			t.Errorf("ParseToken(%q) is not said again: %v", text, err)
		}
	})
}

func FuzzParseCard(f *testing.F) {
	t := sampleToken()
	c := peering.Card{Cluster: t.Cluster, Federation: t.Federation, Anchors: t.Anchors}
	f.Add(c.Encode())
	f.Add("isthmus-cluster-1-AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		card, ok, err := peering.ParseCard(text)
		if !ok || err != nil {
			return
		}
		if again, _, err := peering.ParseCard(card.Encode()); err != nil || again.Encode() != card.Encode() {
			t.Errorf("ParseCard(%q) is not said again: %v", text, err)
		}
	})
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte{0, 0, 0, 50, 1, 1})
	f.Add(append([]byte{0, 0, 0, 52, 1, 1}, make([]byte, 50)...))
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = peering.ReadMessage(bytes.NewReader(b)) // must not panic, nor allocate what is not there
	})
}

func TestTokensRoundTrip(t *testing.T) {
	for _, reply := range []*peering.Reply{nil, {ID: peering.TokenID{7}, MAC: [32]byte{8}}} {
		token := sampleToken()
		token.Reply = reply
		got, err := peering.ParseToken(token.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if got.Encode() != token.Encode() || got.Cluster != "east" || got.To != "west" || len(got.Anchors) != 2 || len(got.Gateways) != 2 ||
			!got.Expires.Equal(token.Expires) || got.Secret != token.Secret || (got.Reply == nil) != (reply == nil) {
			t.Errorf("got %+v", got)
		}
	}
}
