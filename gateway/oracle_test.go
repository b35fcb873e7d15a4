package gateway_test

import (
	"crypto/x509"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// The oracle: who may call what, read from README.md of federation/policy and the
// SPIFFE standards, and sharing nothing with the product but parsed values.

var (
	oracleID    = regexp.MustCompile(`^spiffe://([a-z0-9._-]{1,255})((?:/[a-zA-Z0-9._-]+)*)$`)
	oracleLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

func oracleParse(s string) (td, path string, ok bool) {
	m := oracleID.FindStringSubmatch(s)
	if m == nil || len(s) > 2048 || slices.ContainsFunc(strings.Split(m[2], "/"), func(p string) bool { return p == "." || p == ".." }) {
		return "", "", false
	}
	return m[1], m[2], true
}

// oracleLeaf is the ID that a chain proves under the roots, by trust domain.
func oracleLeaf(chain []*x509.Certificate, roots map[string]*x509.Certificate, now time.Time) (id string, ok bool) {
	if len(chain) == 0 || len(chain[0].URIs) != 1 {
		return "", false
	}
	leaf := chain[0]
	td, path, ok := oracleParse(leaf.URIs[0].String())
	if !ok || path == "" || leaf.IsCA || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 || roots[td] == nil {
		return "", false
	}
	whole := append(slices.Clone(chain), roots[td])
	for i, c := range whole {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) || i+1 < len(whole) && c.CheckSignatureFrom(whole[i+1]) != nil {
			return "", false
		}
		if i > 0 && (len(c.URIs) != 1 || c.URIs[0].String() != "spiffe://"+td) {
			return "", false
		}
	}
	return leaf.URIs[0].String(), true
}

// oracleAllows answers for a gateway that proved id. path is the request's, decoded.
func oracleAllows(t *route.Table, id string, ask *route.Ask, path string, ambiguous bool) bool {
	from := slices.IndexFunc(t.Peers, func(p route.Peer) bool {
		name, ok := strings.CutPrefix(id, p.ID+"/gateway/")
		listed := slices.ContainsFunc(p.Gateways, func(g catalog.Gateway) bool { return g.Name == "" || g.Name == name })
		return ok && oracleLabel.MatchString(name) && (listed || len(p.Gateways) == 0)
	})
	if from < 0 {
		return false
	}
	if ask.Service.Name() == "federation" {
		return ask.Service.Namespace() == string(t.Cluster.Name)
	}
	at := slices.IndexFunc(t.Services, func(s route.Service) bool { return s.Name == ask.Service })
	if _, _, ok := oracleParse(ask.Caller); at < 0 || !ok || !slices.Contains(t.Services[at].ExportedTo, t.Peers[from].Name) || !oracleCovers(t.Peers[from].Asserts, ask.Caller) {
		return false
	}
	port := t.Services[at].Ports[0]
	toCome := ask.HTTP == nil && port.Protocol == "http" && (ask.Port == "" || ask.Port == port.Name)
	allowed := false
	for _, in := range t.Intentions {
		if !slices.ContainsFunc(in.Services, func(p policy.ServicePattern) bool {
			return p == "*" || string(p) == ask.Service.String() || string(p) == "*."+ask.Service.Namespace()
		}) {
			continue
		}
		met := len(in.HTTP) == 0 || ask.HTTP == nil && toCome == (in.Action == "allow")
		for _, c := range in.HTTP {
			if ambiguous && c.Path+c.PathPrefix != "" {
				return false
			}
			met = met || ask.HTTP != nil && oracleMeets(c, in.Action == "allow", ask.HTTP.Method, path, ask.HTTP.Header)
		}
		if met && oracleCovers(in.Callers, ask.Caller) {
			if in.Action != "allow" {
				return false
			}
			allowed = true
		}
	}
	return allowed
}

func oracleCovers(patterns []policy.IDPattern, id string) bool {
	return slices.ContainsFunc(patterns, func(p policy.IDPattern) bool {
		base, below := strings.CutSuffix(string(p), "*")
		return !below && id == base || below && strings.HasPrefix(id, base) && id != base
	})
}

func oracleMeets(c policy.HTTPCondition, allow bool, method, path string, header http.Header) bool {
	same := func(want, got string) bool { return want == got || !allow && strings.EqualFold(want, got) }
	bare := strings.TrimSuffix
	okMethod := len(c.Methods) == 0 || slices.ContainsFunc(c.Methods, func(m string) bool { return same(m, method) })
	okPath := c.Path == "" || same(c.Path, path) || !allow && same(bare(c.Path, "/"), bare(path, "/"))
	if n := len(c.PathPrefix); n > 0 {
		okPath = len(path) >= n && same(c.PathPrefix, path[:n]) || !allow && same(c.PathPrefix, path+"/")
	}
	for _, h := range c.Headers {
		values, good := header.Values(h.Name), 0
		for _, v := range values {
			if (h.Present || h.Exact != "" && v == h.Exact || h.Prefix != "" && strings.HasPrefix(v, h.Prefix)) != h.Invert {
				good++
			}
		}
		if len(values) == 0 && !h.Invert || len(values) > 0 && (good == 0 || allow && good < len(values)) {
			return false
		}
	}
	return okMethod && okPath
}
