package spire_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/spire"
)

// web is the domain of a SPIRE whose endpoint is https_web.
const web = "web.example.org"

// TestBundleEndpointsOfSPIRE: what SPIRE publishes is followed by Isthmus, and what
// Isthmus publishes is followed by SPIRE, in both profiles, while the roots of both
// rotate under load. Nobody else tells either of the other's roots: of the two
// clusters one is on SPIRE, the other on the embedded CA.
func TestBundleEndpointsOfSPIRE(t *testing.T) {
	t.Parallel() // most of it waits for SPIRE to look again
	s := stand.New(t,
		stand.Spec{Name: "gcp-us-central1", Cloud: "gcp", Region: "us-central1", Zone: "b", TrustDomain: gcp},
		stand.Spec{Name: "onprem", Cloud: "onprem", Region: "cellar", Zone: "c", TrustDomain: lone},
	)
	w := &world{Stand: s, gcp: s.Clusters[0], onprem: s.Clusters[1], spire: map[string]*spire.Domain{}}
	w.client = clientOf(t)
	webCA, cert, key := webCertificate(t, s.Dir)
	published, publishedWeb := stand.FreePort(t), stand.FreePort(t)

	// The embedded CA publishes by https_spiffe, the federation by https_web.
	d := s.Domains[lone]
	d.SVIDTTL, d.CATTL = 10*time.Second, 40*time.Second
	d.Config = stand.Object{"bundle_endpoint": stand.Object{"address": published.String(), "profile": "https_spiffe"}}
	w.onprem.Section()["bundle_endpoint"] = stand.Object{"address": publishedWeb.String(), "profile": "https_web", "cert_file": cert, "key_file": key}

	s.Domains[gcp].External = true
	far := spire.New(t, spire.Options{TrustDomain: gcp, SVIDTTL: life, Dir: filepath.Join(s.Dir, "s-gcp"), Socket: s.Domains[gcp].Socket})
	far.Follow(lone, "https://"+published.String(), "spiffe://"+lone+"/isthmus/ca")
	other := spire.New(t, spire.Options{TrustDomain: web, SVIDTTL: life, Dir: filepath.Join(s.Dir, "s-web"), WebCert: cert, WebKey: key})
	other.Follow(lone, "https://"+publishedWeb.String(), "")
	other.Server.Env = append(other.Server.Env, "SSL_CERT_FILE="+webCA) // the system's roots
	w.spire[gcp], w.spire[web] = far, other
	for _, sd := range w.spire {
		sd.StartServer()
	}
	far.StartAgent()

	// The first bundles are carried by hand, once.
	first := filepath.Join(s.Dir, "gcp.first.json")
	if err := os.WriteFile(first, far.Bundle(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Clusters {
		c.WriteCatalog(t, stand.Service{Name: "hello-" + c.Name + ".default", Port: "main", Protocol: "http", Addresses: []string{instance(t, c.Name)}})
	}
	peers := w.onprem.Section()["peers"].([]any)
	peers[0].(stand.Object)["bundle"] = stand.Object{"file": first, "endpoint": stand.Object{
		"url": "https://" + far.Bundles.String(), "profile": "https_spiffe", "spiffe_id": "spiffe://" + gcp + "/spire/server",
	}}
	w.onprem.Section()["peers"] = append(peers, stand.Object{
		"name": "webby", "id": "spiffe://" + web + "/isthmus/cluster/webby", "gateways": []any{stand.FreePort(t).String()},
		"bundle": stand.Object{"endpoint": stand.Object{"url": "https://" + other.Bundles.String(), "profile": "https_web", "ca_file": webCA}},
	})
	delete(w.gcp.Section()["peers"].([]any)[0].(stand.Object), "bundle") // SPIRE tells
	uid := os.Getuid()
	w.bootstrap(t, d)
	// SPIRE looks once a minute at the least; it is told to look every second.
	stop := w.refreshing(t)
	defer stop()
	far.Register(
		spire.Entry{ID: w.gcp.ID(), UID: uid, Federates: []string{lone}},
		spire.Entry{ID: w.gcp.ID() + "/gateway/gw1", UID: uid, Federates: []string{lone}},
	)
	w.Start()

	begin := time.Now()
	ways := [][2]*stand.Cluster{{w.gcp, w.onprem}, {w.onprem, w.gcp}}
	var loads []*stand.Load
	for _, way := range ways {
		stand.Eventually(t, within, "calls flow", func() error {
			_, err := w.call(way[0], way[1])(t.Context())
			return err
		})
		loads = append(loads, stand.StartLoad(t.Context(), perLn, 10*time.Second, w.call(way[0], way[1])))
	}
	stand.Figure(t, "SPIRE and the embedded CA, federated by bundle endpoints: calls flow both ways after %.1f s", time.Since(begin).Seconds())

	knows := func(td string, want float64) {
		t.Helper()
		stand.Eventually(t, 2*within, fmt.Sprintf("the gateway knows %v authorities of %s", want, td), func() error {
			if n := metric(w.onprem.Gateways[0], `isthmus_identity_bundle_authorities\{role="gateway",trust_domain="`+td+`"\}`); n != want {
				return fmt.Errorf("it knows %v", n)
			}
			return nil
		})
	}
	knows(web, 1)

	// The roots of both SPIREs rotate: prepared, followed, activated, and the old ones
	// revoked, when nobody has an SVID below them any more: isthmus check says so.
	old := map[string]string{}
	for td, sd := range w.spire {
		old[td] = authority(t, sd, "active")
		sd.CLI("localauthority", "x509", "prepare")
	}
	began := time.Now()
	knows(gcp, 2)
	knows(web, 2)
	stand.Figure(t, "new roots of both SPIREs reached the peer's gateway after %.1f s", time.Since(began).Seconds())
	for td, sd := range w.spire {
		sd.CLI("localauthority", "x509", "activate", "-authorityID", authority(t, sd, "prepared"))
		sd.CLI("localauthority", "x509", "taint", "-authorityID", old[td])
	}
	began = time.Now()
	stand.Eventually(t, 2*within, "nobody would break without the old root", func() error {
		return errors.Join(w.without(w.gcp, old[gcp]), w.without(w.onprem, old[gcp]))
	})
	stand.Figure(t, "isthmus check lets the old root leave %.1f s after the new one was activated", time.Since(began).Seconds())
	for td, sd := range w.spire {
		sd.CLI("localauthority", "x509", "revoke", "-authorityID", old[td])
	}
	began = time.Now()
	knows(gcp, 1)
	knows(web, 1)
	stand.Figure(t, "their revocations after %.1f s", time.Since(began).Seconds())

	// The embedded CA's roots rotate by themselves: both SPIREs hold what it publishes
	// now, and it is not what they were given.
	stand.Eventually(t, 2*within, "both SPIREs hold another root of the embedded CA", func() error {
		now := keysOf(t, d.Bundle)
		for _, sd := range w.spire {
			held, err := heldOf(sd, lone)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(held, func(k string) bool { return slices.Contains(now, k) && !slices.Contains(w.first, k) }) {
				return fmt.Errorf("%s holds %d roots, none of the new ones", sd.TrustDomain, len(held))
			}
		}
		return nil
	})
	for i, l := range loads {
		rs := l.Stop()
		if n := len(rs.Failed()); n > 0 || len(rs) == 0 {
			t.Errorf("%s to %s: %d of %d failed:\n%s", ways[i][0].Name, ways[i][1].Name, n, len(rs), rs.Errors())
		}
		stand.Figure(t, "%s to %s while all roots rotated: %d calls, %d failed", ways[i][0].Name, ways[i][1].Name, len(rs), len(rs.Failed()))
	}
	for _, profile := range []string{gcp, web} {
		taken := api(w.onprem, `isthmus_bundle_fetches_total\{outcome="taken",trust_domain="`+profile+`"\}`)
		failed := api(w.onprem, `isthmus_bundle_fetches_total\{outcome="failed",trust_domain="`+profile+`"\}`)
		stand.Figure(t, "SPIRE's endpoint of %s was read %v times, %v failed", profile, taken, failed)
		if taken < 2 {
			t.Errorf("the endpoint of %s was read %v times", profile, taken)
		}
	}
}

// without asks a cluster who would break if a root left now.
func (w *world) without(c *stand.Cluster, root string) error {
	out, err := exec.CommandContext(w.T.Context(), stand.Binary(w.T), "check", "--json", "--without", root, "--api", "http://"+c.API.String(),
		"--config", filepath.Join(w.Dir, c.Name, "federation.yaml"),
		"--token-file", filepath.Join(w.Dir, c.Name, "data", "federation", "api.token")).Output()
	var verdicts []struct{ Grade, Subject, Finding string }
	if json.Unmarshal(out, &verdicts) != nil {
		return fmt.Errorf("%s: %w: %s", c.Name, err, out)
	}
	asked := false
	for _, v := range verdicts {
		if !strings.HasPrefix(v.Subject, "without root") {
			continue
		}
		asked = true
		if v.Grade != "ok" {
			return fmt.Errorf("%s: %s %s: %s", c.Name, v.Grade, v.Subject, v.Finding)
		}
	}
	if !asked {
		return fmt.Errorf("%s: no verdict of the root in %s", c.Name, out)
	}
	return nil
}

// bootstrap gives both SPIREs the first bundle of the embedded CA, by hand.
func (w *world) bootstrap(t *testing.T, d *stand.Domain) {
	t.Helper()
	w.StartCAs()
	stand.Eventually(t, within, "the bundle of the embedded CA", func() error { _, err := os.Stat(d.Bundle); return err })
	doc, err := os.ReadFile(d.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	w.first = keysOf(t, d.Bundle)
	for _, sd := range w.spire {
		sd.SetBundle(d.TrustDomain, doc)
	}
}

// refreshing tells both SPIREs to look at the embedded CA's endpoint.
func (w *world) refreshing(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			for _, sd := range w.spire {
				_, _ = sd.Try("federation", "refresh", "-id", "spiffe://"+lone) // what it holds is what counts
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// authority is the ID of a server's active or prepared root.
func authority(t *testing.T, sd *spire.Domain, which string) string {
	t.Helper()
	var all map[string]struct {
		ID string `json:"authority_id"`
	}
	if err := json.Unmarshal(sd.CLI("localauthority", "x509", "show", "-output", "json"), &all); err != nil {
		t.Fatal(err)
	}
	return all[which].ID
}

// heldOf are the roots of another domain that a server holds.
func heldOf(sd *spire.Domain, td string) ([]string, error) {
	out, err := sd.Try("bundle", "list", "-id", "spiffe://"+td, "-format", "spiffe")
	if err != nil {
		return nil, err
	}
	return keys(out)
}

func keysOf(t *testing.T, path string) []string {
	t.Helper()
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := keys(doc)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// keys are the certificates of a bundle document.
func keys(doc []byte) (all []string, err error) {
	i := strings.IndexByte(string(doc), '{')
	if i < 0 {
		return nil, errors.New("no document")
	}
	var d struct {
		Keys []struct {
			Use string
			X5C []string
		}
	}
	if err := json.NewDecoder(strings.NewReader(string(doc[i:]))).Decode(&d); err != nil {
		return nil, err
	}
	for _, k := range d.Keys {
		if k.Use == "x509-svid" {
			all = append(all, k.X5C...)
		}
	}
	return all, nil
}

// webCertificate is one for 127.0.0.1, and the CA that has signed it, as PEM files.
func webCertificate(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	issue := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (der []byte, private *ecdsa.PrivateKey) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = private
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if der, err = x509.CreateCertificate(rand.Reader, template, parent, private.Public(), signer); err != nil {
			t.Fatal(err)
		}
		return der, private
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "web root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER, rootKey := issue(root, root, nil)
	leafDER, leafKey := issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "web"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root, rootKey)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	ca, cert, key = filepath.Join(dir, "web.ca.crt"), filepath.Join(dir, "web.crt"), filepath.Join(dir, "web.key")
	for path, block := range map[string]*pem.Block{
		ca: {Type: "CERTIFICATE", Bytes: rootDER}, cert: {Type: "CERTIFICATE", Bytes: leafDER}, key: {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return ca, cert, key
}
