package peering_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
)

// TestOnePaste follows the guide's two commands, and everything that must not
// work beside them.
func TestOnePaste(t *testing.T) {
	w := newWorld(t,
		stand.Spec{Name: "aws-us-east-1", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "aws.test"},
		stand.Spec{Name: "gcp-us-central1", Cloud: "gcp", Region: "us-central1", Zone: "b", TrustDomain: "gcp.test"},
		stand.Spec{Name: "office", Cloud: "dc", Region: "office", Zone: "c", TrustDomain: "office.test"},
	)
	aws, gcp, office := w.Clusters[0], w.Clusters[1], w.Clusters[2]
	office.Gateways[0].Section()["advertise"] = []any{} // behind NAT: nobody can dial it
	w.Start()
	if out := w.run(aws, "peer", "list"); !strings.Contains(out, "isthmus peer invite") {
		t.Errorf("an empty list does not say what to do:\n%s", out)
	}
	stand.Eventually(t, within, "the gateways are in their rosters", func() error {
		for _, c := range []*stand.Cluster{aws, gcp, office} {
			if out := w.run(c, "status", "--json"); !strings.Contains(out, `"alive"`) {
				return fmt.Errorf("%s: no gateway is alive", c.Name)
			}
		}
		return nil
	})

	t.Run("refused", func(t *testing.T) { w.refused(t, aws, gcp, office) })

	g, here, there := guide.Read(t, "peering.md", stand.Binary(t)), w.operator(aws), w.operator(gcp)
	w.rest(t, g, here, there)
	token := strings.TrimSpace(g.Run("invite", here))
	preview := w.run(gcp, "peer", "accept", "--dry-run", token)
	for _, words := range []string{"aws-us-east-1", "identities of aws.test, and no other", "spiffe://aws.test/*", aws.Gateways[0].Link.String()} {
		if !strings.Contains(preview, words) {
			t.Errorf("the dry run does not say %q:\n%s", words, preview)
		}
	}
	began := time.Now()
	g.Run("accept", there, "TOKEN", token)
	accepted := time.Since(began)
	w.flows(aws, gcp)
	stand.Figure(t, "token of %d characters; accepted in %v; calls pass both ways %v after the paste", len(token),
		accepted.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	if list := w.invitations(aws); list[0].State != "completed" || list[0].Cluster != gcp.Name || list[0].Federation != gcp.ID() {
		t.Errorf("invitations: %+v", list)
	}

	w.run(gcp, "peer", "accept", token) // again: nothing changes
	w.fails(office, office, "wrong_invitee", "is for gcp-us-central1, and this is office", "peer", "accept", token)
	w.fails(aws, aws, "self", "paste it where", "peer", "accept", token)

	t.Run("behind NAT", func(t *testing.T) { w.behindNAT(t, office, gcp) })
	t.Run("removed", func(t *testing.T) { w.removed(t, aws, gcp, office, token) })
}

// refused are tokens that join nobody.
func (w *world) refused(t *testing.T, aws, gcp, office *stand.Cluster) {
	token := w.run(aws, "peer", "invite", "--to", gcp.Name)
	id := w.invitations(aws)[0].ID
	// At each part of the token: prefix, id, secret, expiry, names, anchors, gateways, checksum.
	for _, at := range []int{17, 30, 60, 92, 110, 140, 180, 230, len(token) - 30, len(token) - 1} {
		changed := []byte(token)
		if changed[at] == 'A' {
			changed[at] = 'B'
		} else {
			changed[at] = 'A'
		}
		w.fails(gcp, gcp, "tampered", "cut or changed on its way", "peer", "accept", string(changed))
	}
	w.fails(gcp, gcp, "malformed", "must begin with isthmus-invite-1-", "peer", "accept", "hello")
	w.fails(office, office, "wrong_invitee", "ask aws-us-east-1 for one of your own", "peer", "accept", token)

	// A thief who changes its own configuration can call itself what it likes, and
	// has still no certificate of the invited.
	card := w.run(gcp, "peer", "card")
	carded := w.run(aws, "peer", "invite", "--to", card)
	w.fails(office, office, "wrong_invitee", "and this is", "peer", "accept", carded)

	if out := w.run(aws, "peer", "revoke-invitation", id); !strings.Contains(out, "revoked") {
		t.Errorf("revoked: %s", out)
	}
	w.fails(gcp, aws, "revoked", "was revoked; ask for another", "peer", "accept", token)

	short := w.run(aws, "peer", "invite", "--ttl", "1s")
	stand.Eventually(t, within, "the invitation has expired", func() error {
		if s := w.invitations(aws)[0].State; s != "expired" {
			return fmt.Errorf("state %s", s)
		}
		return nil
	})
	w.fails(gcp, aws, "expired", "ask for another", "peer", "accept", short)

	_, errs, err := w.isthmus(aws, "peer", "invite", "--to", "No_Name", "--ttl", "1000h")
	if err == nil || !strings.Contains(errs, "body.to") || !strings.Contains(errs, "body.ttl") {
		t.Errorf("a bad invitation: %v\n%s", err, errs)
	}
	for _, c := range []*stand.Cluster{aws, gcp, office} {
		var peers []any
		if err := json.Unmarshal([]byte(w.run(c, "peer", "list", "--json")), &peers); err != nil || len(peers) != 0 {
			t.Errorf("%s has peers after refusals: %v, %v", c.Name, peers, err)
		}
	}
}

// rest is what the page has beside the way to join; rules may come before the peers.
func (w *world) rest(t *testing.T, g *guide.Guide, here, there *guide.Host) {
	for block, host := range map[string]*guide.Host{"export": here, "import": there} {
		if out := g.Run(block, host); !strings.Contains(out, " added") {
			t.Errorf("%s: %s", block, out)
		}
	}
	g.Run("card", there) // both hosts have one folder: that carries the file
	for _, block := range []string{"invite the card", "asserts"} {
		if out := g.Run(block, here); !strings.HasPrefix(out, "isthmus-invite-1-") {
			t.Errorf("%s: %s", block, out)
		}
	}
}

// behindNAT joins a cluster that nobody can dial.
func (w *world) behindNAT(t *testing.T, office, gcp *stand.Cluster) {
	token := w.run(office, "peer", "invite", "--to", gcp.Name)
	back, errs, err := w.isthmus(gcp, "peer", "accept", token)
	if err != nil || !strings.HasPrefix(back, "isthmus-return-1-") || !strings.Contains(errs, "Take this token back") {
		t.Fatalf("accept: %v\n%s\n%s", err, back, errs)
	}
	began := time.Now()
	w.run(office, "peer", "accept", back)
	w.flows(office, gcp)
	stand.Figure(t, "a cluster without an inbound port: calls pass both ways %v after the second paste", time.Since(began).Round(time.Millisecond))

	// Everything runs over links that it dialed: nobody has dialed it.
	metrics := "http://" + office.Gateways[0].Admin.String() + "/metrics"
	body, err := stand.Get(metrics)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "isthmus_tunnel_connections_accepted_total{") {
			t.Errorf("somebody dialed the cluster behind NAT: %s", line)
		}
	}
	if !strings.Contains(string(body), "isthmus_tunnel_dials_total{") {
		t.Errorf("%s has no counts of dials", metrics)
	}
}

// removed parts aws and gcp; gcp and office stay.
func (w *world) removed(t *testing.T, aws, gcp, office *stand.Cluster, token string) {
	began := time.Now()
	out := w.run(aws, "peer", "remove", gcp.Name)
	for _, name := range []string{aws.Name, gcp.Name, gcp.ID()} {
		if !strings.Contains(out, name) {
			t.Errorf("the message does not name %s: %s", name, out)
		}
	}
	stand.Eventually(t, within, "no call passes", func() error {
		for _, pair := range [][2]*stand.Cluster{{aws, gcp}, {gcp, aws}} {
			if who, err := call(t.Context(), pair[0], pair[1]); err == nil {
				return fmt.Errorf("%s still answers %s", who, pair[0].Name)
			}
		}
		return nil
	})
	stand.Figure(t, "no call passes %v after the removal began", time.Since(began).Round(time.Millisecond))
	if who, err := call(t.Context(), gcp, office); err != nil || who != office.Name {
		t.Errorf("the other peer was touched: %q, %v", who, err)
	}
	// gcp still has aws, and the old token: neither brings it back.
	w.run(gcp, "peer", "remove", aws.Name)
	w.fails(gcp, aws, "removed", "ask for another", "peer", "accept", token)
	anybodys := w.run(aws, "peer", "invite")
	w.run(gcp, "peer", "accept", anybodys)
	w.flows(aws, gcp)
	w.fails(office, aws, "used", "the token was used by "+gcp.Name, "peer", "accept", anybodys)
}
