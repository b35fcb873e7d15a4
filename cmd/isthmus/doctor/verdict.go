package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// Grade is how good a thing is.
type Grade string

// The grades. Fail makes the command exit with 1.
const (
	OK   Grade = "ok"
	Warn Grade = "warn"
	Fail Grade = "fail"
)

const (
	// svidSoon is when an SVID that is not renewed is told: SPIRE and the embedded CA
	// renew at half of an hour by default.
	svidSoon = 10 * time.Minute
	// rootSoon is when the last root of a trust domain that is about to end is told:
	// its successor should be long known.
	rootSoon = 24 * time.Hour
	// sourceOld is how old the last good read of a source may be.
	sourceOld = 5 * time.Minute
	// named bounds the users that one verdict names.
	named = 8
)

// Verdict is what is judged of one thing.
type Verdict struct {
	Grade Grade `json:"grade"`
	// Subject is the thing, Finding what was found, Fix what to do; empty where
	// nothing is to be done.
	Subject string `json:"subject"`
	Finding string `json:"finding"`
	Fix     string `json:"fix,omitempty"`
}

// Facts are what a federation says.
type Facts struct {
	Ready    resource.Readiness
	Trust    resource.Trust
	Peers    []resource.Peer
	Gateways []resource.Gateway
	Links    []resource.Link
	Sources  []resource.Source
}

// Failed reports whether any verdict is a Fail.
func Failed(verdicts []Verdict) bool {
	for _, v := range verdicts {
		if v.Grade == Fail {
			return true
		}
	}
	return false
}

// Judge judges everything, at a moment.
func Judge(f Facts, now time.Time) []Verdict {
	var out []Verdict
	out = append(out, ready(f.Ready)...)
	out = append(out, svid("own svid", f.Trust.SVID.NotAfter, now))
	out = append(out, users(f.Trust, now)...)
	out = append(out, domains(f, now)...)
	for _, p := range f.Peers {
		out = append(out, peer(p, now)...)
	}
	out = append(out, gateways(f)...)
	for _, s := range f.Sources {
		out = append(out, source(s, now))
	}
	return out
}

// ready judges what the federation says of itself.
func ready(r resource.Readiness) []Verdict {
	var out []Verdict
	for _, reason := range r.Reasons {
		out = append(out, Verdict{Grade: Fail, Subject: "federation", Finding: "not ready: " + reason, Fix: "what is served goes on from what it has; mend what it names"})
	}
	for _, d := range r.Degraded {
		out = append(out, Verdict{Grade: Warn, Subject: "federation", Finding: d, Fix: "everything is served; see docs/operations.md on the store"})
	}
	if len(out) == 0 {
		out = append(out, Verdict{Grade: OK, Subject: "federation", Finding: "ready"})
	}
	return out
}

func svid(subject string, notAfter, now time.Time) Verdict {
	v := Verdict{Grade: OK, Subject: subject}
	switch left := notAfter.Sub(now); {
	case notAfter.IsZero():
		v.Grade, v.Finding, v.Fix = Fail, "there is none", "see that the workload API of identity.workload_api runs and has an entry for this process"
	case left <= 0:
		v.Grade, v.Finding, v.Fix = Fail, "ended "+span(-left)+" ago", "see that the workload API of identity.workload_api runs; every handshake is refused until it renews"
	case left < svidSoon:
		v.Grade, v.Finding, v.Fix = Warn, "ends in "+span(left), "if its life is longer than that it should have been renewed: see the workload API"
	default:
		v.Finding = "valid for " + span(left)
	}
	return v
}

// users judges the certificates of the own gateways and of the other ends.
func users(t resource.Trust, now time.Time) []Verdict {
	var out []Verdict
	for _, a := range t.Authorities {
		for _, u := range a.Users {
			if u.Kind != "federation" && u.NotAfter.Sub(now) < svidSoon {
				out = append(out, svid(name(u)+" svid", u.NotAfter, now))
			}
		}
	}
	for _, u := range t.Unplaced {
		v := Verdict{Grade: Fail, Subject: name(u), Finding: "hangs below no root that is trusted now", Fix: "it is refused at its next handshake: follow its trust domain's bundle endpoint, or pin its new bundle (peers[].bundle)"}
		if u.Authority != "" {
			v.Finding += " (authority " + short(u.Authority) + ")"
			// An intermediate's name looks the same from here.
			v.Grade, v.Fix = Warn, "if its chain has no intermediate: "+v.Fix
		}
		out = append(out, v)
	}
	return out
}

// domains judges the bundle of each trust domain, and says who stands on which
// root.
func domains(f Facts, now time.Time) []Verdict {
	var out []Verdict
	var order []string
	last := make(map[string]time.Time)
	for _, a := range f.Trust.Authorities {
		if _, known := last[a.TrustDomain]; !known {
			order = append(order, a.TrustDomain)
		}
		if a.NotAfter.After(last[a.TrustDomain]) {
			last[a.TrustDomain] = a.NotAfter
		}
	}
	for _, td := range order {
		v := Verdict{Grade: OK, Subject: "bundle of " + td, Finding: "its last root is valid for " + span(last[td].Sub(now))}
		switch left := last[td].Sub(now); {
		case left <= 0:
			v.Grade, v.Finding, v.Fix = Fail, "every root has ended", "pin its current bundle (peers[].bundle), or see its certificate authority"
		case left < rootSoon:
			v.Grade, v.Finding, v.Fix = Warn, "its last root ends in "+span(left), "no successor is known yet: see that its bundle is followed (bundle endpoint, or the peer's federation)"
		}
		out = append(out, v)
		for _, a := range f.Trust.Authorities {
			if a.TrustDomain == td {
				out = append(out, Verdict{Grade: OK, Subject: "root " + short(a.KeyID) + " of " + td, Finding: standing(a.Users)})
			}
		}
	}
	return out
}

func standing(users []resource.TrustUser) string {
	if len(users) == 0 {
		return "nobody stands on it: it could leave now"
	}
	return fmt.Sprintf("%d would break if it left now: %s", len(users), list(users))
}

// Without says who would break if a root left now. key is its key ID or the
// beginning of it, and names exactly one.
func Without(t resource.Trust, key string) (Verdict, error) {
	var found []resource.Authority
	for _, a := range t.Authorities {
		if key != "" && strings.HasPrefix(a.KeyID, strings.ToLower(key)) {
			found = append(found, a)
		}
	}
	if len(found) != 1 {
		return Verdict{}, fmt.Errorf("root %q: %d of %d roots have a key id that begins so, want one", key, len(found), len(t.Authorities))
	}
	a := found[0]
	v := Verdict{Grade: OK, Subject: "without root " + short(a.KeyID) + " of " + a.TrustDomain, Finding: standing(a.Users)}
	if len(a.Users) > 0 {
		v.Grade, v.Fix = Fail, "wait until their certificates have been renewed below another root, then look again"
		return v, nil
	}
	for _, b := range t.Authorities {
		if b.TrustDomain == a.TrustDomain && b.KeyID != a.KeyID {
			return v, nil
		}
	}
	v.Grade, v.Finding, v.Fix = Fail, "it is the only root of its domain", "publish its successor first"
	return v, nil
}

func peer(p resource.Peer, now time.Time) []Verdict {
	subject := "peer " + string(p.Name)
	var out []Verdict
	if p.State != resource.PeerOK {
		out = append(out, Verdict{Warn, subject, strings.TrimSpace(string(p.State) + " " + p.Reason), "isthmus status shows links; traffic goes on by what it said last"})
	}
	t := p.Trust
	if t == nil {
		return out
	}
	switch {
	case !t.Held:
		out = append(out, Verdict{Fail, subject, "no bundle of " + p.TrustDomain + " is held: no link can come up", "pin its first bundle with peers[].bundle.file, or federate at the workload API"})
	case t.Error != "":
		out = append(out, Verdict{Warn, subject, "its last bundle was refused: " + t.Error, "the one before is in force; if its numbering has started anew, remove the peer and add it again"})
	}
	if e := t.Endpoint; e != nil && e.State == "failing" {
		found := "bundle endpoint " + e.URL + " fails: " + e.Error
		if !e.FetchedAt.IsZero() {
			found += ", last good answer " + span(now.Sub(e.FetchedAt)) + " ago"
		}
		out = append(out, Verdict{Warn, subject, found, "see that the URL answers from this host, and that bundle.endpoint.spiffe_id is its server's"})
	}
	if len(out) == 0 {
		out = append(out, Verdict{Grade: OK, Subject: subject, Finding: fmt.Sprintf("in sync, bundle %d from %s", t.Sequence, t.From)})
	}
	return out
}

func gateways(f Facts) []Verdict {
	if len(f.Gateways) == 0 {
		return []Verdict{{Fail, "gateways", "none has reported", "start one: isthmus run with a gateway section, whose federation is this one's mesh address"}}
	}
	var out []Verdict
	for _, g := range f.Gateways {
		v := Verdict{Grade: OK, Subject: "gateway " + g.Name, Finding: fmt.Sprintf("%d of %d links are up", g.LinksUp, g.Links)}
		switch {
		case g.State != "alive":
			v.Grade, v.Finding, v.Fix = Fail, "silent", "see its process and its log"
		case g.LinksUp < g.Links:
			v.Grade, v.Fix = Warn, "isthmus links says why"
		}
		out = append(out, v)
	}
	return out
}

func source(s resource.Source, now time.Time) Verdict {
	v := Verdict{Grade: OK, Subject: "source " + s.Name, Finding: "read " + span(now.Sub(s.LastSuccess)) + " ago"}
	switch {
	case s.LastSuccess.IsZero():
		v.Grade, v.Finding, v.Fix = Fail, strings.TrimSpace("nothing read yet "+s.Error), "see its address and credentials in federation.sources"
	case s.State != "ok":
		v.Grade, v.Finding, v.Fix = Warn, s.State+", "+v.Finding+reason(s.Error), "what it said last is kept; see its address and credentials"
	case now.Sub(s.LastSuccess) > sourceOld:
		v.Grade, v.Fix = Warn, "it says that it is well, but has not been read for long: compare the clocks"
	}
	return v
}

func reason(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

func name(u resource.TrustUser) string {
	n := u.Kind + " " + u.Name
	if u.Via != "" {
		n += " (by " + u.Via + ")"
	}
	return n
}

func list(users []resource.TrustUser) string {
	var names []string
	for _, u := range users[:min(len(users), named)] {
		names = append(names, name(u))
	}
	if more := len(users) - named; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// short is the beginning of a key ID, as --without takes it.
func short(keyID string) string { return keyID[:min(len(keyID), 12)] }

func span(d time.Duration) string {
	if d > 48*time.Hour {
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
	return d.Round(time.Second).String()
}
