package agent_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/ca"
	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
)

// asHost speaks the protocol by hand, as a host whose agent is hostile.
func (s *site) asHost(host string) *http.Client {
	s.t.Helper()
	cfg := s.config(host, s.token(host, time.Minute))
	_, stop := s.join(cfg)
	stop()
	data, err := os.ReadFile(filepath.Join(cfg.Dir, "agent.state"))
	if err != nil {
		s.t.Fatal(err)
	}
	_, body, _ := bytes.Cut(data[:len(data)/2], []byte("\n")) // of the first copy
	var st struct{ Key, Certificate []byte }
	if err := json.Unmarshal(body, &st); err != nil {
		s.t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(st.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	return rawClient(hostapi.ALPNHost, tls.Certificate{Certificate: [][]byte{st.Certificate}, PrivateKey: key})
}

func rawClient(alpn string, certs ...tls.Certificate) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}, Certificates: certs}}).DialContext(ctx, network, addr)
	}}}
}

func (s *site) post(c *http.Client, path string, body []byte) (int, hostapi.Error) {
	s.t.Helper()
	resp, err := c.Post("https://"+s.cfg.Hosts.Address+path, "application/json", strings.NewReader(string(body)))
	if err != nil {
		return 0, hostapi.Error{Detail: err.Error()}
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(resp.Body)
	var e hostapi.Error
	_ = json.Unmarshal(answer, &e)
	return resp.StatusCode, e
}

func csr(t *testing.T, key any, uris ...string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: uris}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestHostileHostsGetNothing(t *testing.T) {
	s := newSite(t, ca.Entry{ID: id("/there"), Host: "web-1"}, ca.Entry{ID: id("/elsewhere"), Host: "web-2"}, ca.Entry{ID: id("/here")}).start()
	host := s.asHost("web-1")
	p256 := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	good := csr(t, p256)
	broken := append([]byte{}, good...)
	broken[len(broken)-1] ^= 1
	sign := func(id string, csr []byte) []byte {
		return must(json.Marshal(hostapi.Sign{Requests: []hostapi.SignRequest{{ID: id, CSR: csr}}}))
	}
	var many hostapi.Sign
	for range hostapi.MaxSign + 1 {
		many.Requests = append(many.Requests, hostapi.SignRequest{ID: id("/there").String(), CSR: good})
	}
	for name, c := range map[string]struct {
		path string
		body []byte
		want hostapi.Code
	}{
		"an entry":                   {"/v1/sign", sign(id("/there").String(), good), ""},
		"an entry of another host":   {"/v1/sign", sign(id("/elsewhere").String(), good), hostapi.CodeNotEntitled},
		"an entry of the ca's host":  {"/v1/sign", sign(id("/here").String(), good), hostapi.CodeNotEntitled},
		"the ca's own id":            {"/v1/sign", sign(id("/isthmus/ca").String(), good), hostapi.CodeNotEntitled},
		"its own id as an entry":     {"/v1/sign", sign(id("/isthmus/ca/host/web-1").String(), good), hostapi.CodeNotEntitled},
		"another host's id":          {"/v1/sign", sign(id("/isthmus/ca/host/web-2").String(), good), hostapi.CodeNotEntitled},
		"an id of another domain":    {"/v1/sign", sign("spiffe://other.test/there", good), hostapi.CodeNotEntitled},
		"no id":                      {"/v1/sign", sign("", good), hostapi.CodeNotEntitled},
		"an id in another case":      {"/v1/sign", sign("SPIFFE://hosts.test/there", good), hostapi.CodeNotEntitled},
		"names in the request":       {"/v1/sign", sign(id("/there").String(), csr(t, p256, "evil.test")), ""},
		"a broken signature":         {"/v1/sign", sign(id("/there").String(), broken), hostapi.CodeMalformed},
		"a key of another curve":     {"/v1/sign", sign(id("/there").String(), csr(t, p384)), hostapi.CodeMalformed},
		"a key of another kind":      {"/v1/sign", sign(id("/there").String(), csr(t, ed)), hostapi.CodeMalformed},
		"no csr":                     {"/v1/sign", sign(id("/there").String(), nil), hostapi.CodeMalformed},
		"a large csr":                {"/v1/sign", sign(id("/there").String(), make([]byte, hostapi.MaxCSR+1)), hostapi.CodeMalformed},
		"too many":                   {"/v1/sign", must(json.Marshal(many)), hostapi.CodeMalformed},
		"none":                       {"/v1/sign", []byte(`{"requests":[]}`), hostapi.CodeMalformed},
		"no json":                    {"/v1/sign", []byte("hello"), hostapi.CodeMalformed},
		"an unknown field":           {"/v1/sign", []byte(`{"requests":[],"ttl":1}`), hostapi.CodeMalformed},
		"two documents":              {"/v1/sign", append(sign(id("/there").String(), good), '{', '}'), hostapi.CodeMalformed},
		"oversize":                   {"/v1/sign", append([]byte(`{"requests":[`), make([]byte, hostapi.MaxRequest)...), hostapi.CodeMalformed},
		"join on the host's channel": {"/v1/join", must(json.Marshal(hostapi.Join{Host: "web-1", CSR: good})), hostapi.CodeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			code, e := s.post(host, c.path, c.body)
			if name == "oversize" && code == 0 {
				return // cut off while it was still talking: it may not hear why
			}
			if e.Code != c.want || (c.want == "") != (code == 200) {
				t.Errorf("got %d %+v, want %q", code, e, c.want)
			}
		})
	}
	t.Run("sign on the join channel", func(t *testing.T) {
		if code, e := s.post(rawClient(hostapi.ALPNJoin), "/v1/sign", sign(id("/there").String(), good)); e.Code != hostapi.CodeMalformed {
			t.Errorf("got %d %+v", code, e)
		}
	})
	t.Run("no svid on the host's channel", func(t *testing.T) {
		if code, e := s.post(rawClient(hostapi.ALPNHost), "/v1/sign", sign(id("/there").String(), good)); code != 0 {
			t.Errorf("got %d %+v", code, e)
		}
	})
	t.Run("a workload's svid on the host's channel", func(t *testing.T) {
		x, err := fetch(t, s.ca.Address())
		if err != nil {
			t.Fatal(err)
		}
		cert := tls.Certificate{Certificate: [][]byte{x.SVIDs[0].Certificates[0].Raw}, PrivateKey: x.SVIDs[0].PrivateKey}
		if code, e := s.post(rawClient(hostapi.ALPNHost, cert), "/v1/sign", sign(id("/there").String(), good)); code != 0 {
			t.Errorf("got %d %+v", code, e)
		}
	})
	t.Run("no protocol", func(t *testing.T) {
		c := rawClient("http/1.1")
		if code, _ := s.post(c, "/v1/join", nil); code != 0 {
			t.Errorf("got %d", code)
		}
	})
	t.Run("guesses are bounded", func(t *testing.T) {
		busy := 0
		for range 80 {
			if code, _ := s.post(rawClient(hostapi.ALPNJoin), "/v1/join", must(json.Marshal(hostapi.Join{Host: "web-1", Secret: make([]byte, 32), CSR: good}))); code == 429 {
				busy++
			}
		}
		if busy == 0 {
			t.Error("80 guesses in a row were all judged")
		}
	})
}
