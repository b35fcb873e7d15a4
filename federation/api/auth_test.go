package api_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/oidc"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// issuer stands for package oidc, which is tested against real signatures there:
// a token is "SUBJECT:GROUP".
type issuer struct {
	fail atomic.Pointer[oidc.TokenError]
}

func (*issuer) Issuer() string { return "https://id.test" }

func (i *issuer) Verify(_ context.Context, token string) (*oidc.Claims, error) {
	if err := i.fail.Load(); err != nil {
		return nil, err
	}
	subject, group, ok := strings.Cut(token, ":")
	if !ok {
		return nil, &oidc.TokenError{Reason: oidc.Malformed}
	}
	return &oidc.Claims{Subject: subject, Roles: []string{group}, Expires: time.Now().Add(time.Hour)}, nil
}

func withRoles(i *issuer) func(*api.Options) {
	return func(o *api.Options) {
		o.Tokens = i
		o.Auth = api.AuthConfig{
			TokenRole: "operator",
			OIDC:      &oidc.Config{Issuer: "https://id.test", Audience: "isthmus"},
			Roles: []api.RoleConfig{
				{Role: "viewer", Claims: []string{"everybody"}, Subjects: []string{"vera"}},
				{Role: "operator", Claims: []string{"ops"}},
				{Role: "admin", Subjects: []string{"root"}, IDs: []policy.IDPattern{"spiffe://td.test/admin/*"}},
				{Role: "viewer", IDs: []policy.IDPattern{"spiffe://td.test/reader"}},
			},
			Rate: api.RateConfig{PerSecond: 1000, Burst: 1000},
		}
	}
}

// What each role may do, over one operation of each kind.
func TestRolesOfTokens(t *testing.T) {
	s := newStand(t, withRoles(&issuer{}))
	peer := `{"name":"north","id":"spiffe://north.test/isthmus/cluster/north"}`
	for _, c := range []struct {
		token                   string
		read, write, administer int
	}{
		{"alice:nobody", 403, 403, 403},
		{"alice:everybody", 200, 403, 403},
		{"vera:x", 200, 403, 403},
		{"bob:ops", 200, 200, 403},
		{"vera:ops", 200, 200, 403}, // the highest of several
		{"root:x", 200, 200, 200},
		{"Root:x", 403, 403, 403},
		{s.token, 200, 200, 403}, // token_role
	} {
		auth := "Authorization: Bearer " + c.token
		for _, q := range []struct {
			method, path, body string
			want               int
		}{
			{"GET", "/v1/exports", "", c.read},
			{"GET", "/v1/explain?service=web", "", c.read},
			{"POST", "/v1/exports?dry_run=true", exportJSON, c.write},
			{"POST", "/v1/peers?dry_run=true", peer, c.administer},
		} {
			got := s.ask(t, q.method, q.path, q.body, auth)
			if got.status != q.want {
				t.Errorf("%s: %s %s = %d, want %d: %s", c.token, q.method, q.path, got.status, q.want, got.body)
			}
			if q.want == 403 {
				if p := got.problem(t); !strings.HasSuffix(p.Type, string(api.CodeForbidden)) {
					t.Errorf("%s: %s", c.token, p.Type)
				}
			}
		}
		if c.read == 403 { // no role opens nothing, but what is open to all
			if got := s.ask(t, "GET", "/readyz", "", auth); got.status != 200 {
				t.Errorf("%s: /readyz = %d", c.token, got.status)
			}
		}
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	i := &issuer{}
	s := newStand(t, withRoles(i))
	got := s.ask(t, "GET", "/v1/version", "", "Authorization: Bearer junk")
	if p := got.problem(t); got.status != 401 || !strings.Contains(p.Detail, "malformed") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if h := got.header.Get("WWW-Authenticate"); !strings.Contains(h, `error="invalid_token"`) || !strings.Contains(h, `"malformed"`) {
		t.Errorf("WWW-Authenticate: %s", h)
	}
	i.fail.Store(&oidc.TokenError{Reason: oidc.NoKeys, Err: errors.New("secret detail")})
	got = s.ask(t, "GET", "/v1/version", "", "Authorization: Bearer a:ops")
	if p := got.problem(t); got.status != 503 || !strings.HasSuffix(p.Type, string(api.CodeIssuerUnavailable)) || got.header.Get("Retry-After") == "" || strings.Contains(got.body, "secret") {
		t.Errorf("%d %s", got.status, got.body)
	}
	// The token of the file needs no issuer.
	if got := s.ask(t, "GET", "/v1/version", ""); got.status != 200 {
		t.Errorf("the token file's token = %d", got.status)
	}
}

func TestSocketIsAdminByTheKernelsWord(t *testing.T) {
	s := newStand(t, withRoles(&issuer{}))
	if _, err := s.socketed.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	who := s.server.Who(api.Socket, &http.Request{RemoteAddr: "local:1234"})
	if who.Name != "local:1234" || who.Role != api.Admin || who.Way != api.Socket {
		t.Errorf("%+v", who)
	}
}

// Each principal has a bucket of its own; an empty one says when to come again.
func TestRateLimit(t *testing.T) {
	clock := &atomic.Int64{}
	s := newStand(t, withRoles(&issuer{}), func(o *api.Options) {
		o.Auth.Rate = api.RateConfig{PerSecond: 2, Burst: 3}
		o.Now = func() time.Time { return time.Unix(1_000_000+clock.Load(), 0) }
	})
	ask := func(who string) reply { return s.ask(t, "GET", "/v1/version", "", "Authorization: Bearer "+who+":ops") }
	for range 3 {
		if got := ask("alice"); got.status != 200 {
			t.Fatal(got)
		}
	}
	got := ask("alice")
	if p := got.problem(t); got.status != 429 || !strings.HasSuffix(p.Type, string(api.CodeRateLimited)) || got.header.Get("Retry-After") != "1" {
		t.Fatalf("the fourth request of a burst of 3: %d, Retry-After %q: %s", got.status, got.header.Get("Retry-After"), got.body)
	}
	if got := ask("bob"); got.status != 200 {
		t.Errorf("another principal pays for it: %d", got.status)
	}
	for range 30 { // the host's own have ten times as much
		if got := s.ask(t, "GET", "/v1/version", ""); got.status != 200 {
			t.Fatalf("the token file's token: %d", got.status)
		}
	}
	if got := s.ask(t, "GET", "/v1/version", ""); got.status != 429 {
		t.Errorf("and no more: %d", got.status)
	}
	clock.Add(1)
	for range 2 {
		if got := ask("alice"); got.status != 200 {
			t.Errorf("a second later: %d", got.status)
		}
	}
	if got := ask("alice"); got.status != 429 {
		t.Errorf("two a second, not more: %d", got.status)
	}
}

func TestPrincipalsThatAreTrackedAreBounded(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := api.NewLimiter(api.RateConfig{PerSecond: 1, Burst: 1}, func() time.Time { return now })
	for i := range 3 * api.MaxPrincipals {
		l.Take(fmt.Sprint("p", i))
	}
	if n := l.Tracked(); n != api.MaxPrincipals {
		t.Errorf("%d principals are tracked, at most %d may be", n, api.MaxPrincipals)
	}
	if l.Take("yet another") {
		t.Error("those above the bound share one bucket, which is empty")
	}
	now = now.Add(2 * time.Second)
	if !l.Take("yet another") || l.Tracked() != 1 {
		t.Errorf("full buckets are not dropped: %d are tracked", l.Tracked())
	}
}

// mtlsStand is a stand with a listener for SVIDs.
type mtlsStand struct {
	*stand
	ca      *identitytest.CA
	address string
	sources map[string]*identity.Source
}

func newMTLSStand(t *testing.T) *mtlsStand {
	t.Helper()
	m := &mtlsStand{ca: identitytest.NewCA("td.test"), sources: map[string]*identity.Source{}}
	own := m.source(t, "/isthmus/cluster/east")
	m.stand = newStand(t, withRoles(&issuer{}), func(o *api.Options) { o.Identity = own })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.address = l.Addr().String()
	t.Cleanup(serve(t, m.server, l, api.MTLS))
	return m
}

// source is the identity of one workload, as its Workload API gives it.
func (m *mtlsStand) source(t *testing.T, path string) *identity.Source {
	t.Helper()
	if s := m.sources[path]; s != nil {
		return s
	}
	id := m.ca.ID(path)
	agent := identitytest.NewWorkloadAPI(t, identitytest.Answer{
		SVIDs: []*x509svid.SVID{m.ca.SVID(id)}, Bundles: []*x509bundle.Bundle{m.ca.Bundle()},
	})
	s, err := identity.New(identity.Options{WorkloadAPI: agent.Address(), ID: id})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := s.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.sources[path] = s
	return s
}

// as asks over mTLS with the SVID of that path.
func (m *mtlsStand) as(t *testing.T, path, method, url, body string, header ...string) (reply, error) {
	t.Helper()
	config := m.source(t, path).ClientTLS([]string{"http/1.1"}, identity.AuthorizeIDs(m.ca.ID("/isthmus/cluster/east")))
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).DialContext(ctx, network, address)
	}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+m.address+url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Add(k, v)
	}
	resp, err := transport.RoundTrip(req) //nolint:bodyclose // readReply closes it
	if err != nil {
		return reply{}, err
	}
	return readReply(t, resp), nil
}

func TestMTLSRolesByID(t *testing.T) {
	m := newMTLSStand(t)
	for _, c := range []struct {
		path, method, url, body string
		header                  []string
		status                  int
	}{
		{path: "/reader", method: "GET", url: "/v1/version", status: 200},
		{path: "/reader", method: "POST", url: "/v1/exports?dry_run=true", body: exportJSON, status: 403},
		{path: "/admin/ann", method: "POST", url: "/v1/peers?dry_run=true", body: `{"name":"north","id":"spiffe://north.test/isthmus/cluster/north"}`, status: 200},
		// A person behind a program: the token's role counts, not the program's.
		{path: "/reader", method: "POST", url: "/v1/exports?dry_run=true", body: exportJSON, header: []string{"Authorization: Bearer bob:ops"}, status: 200},
		{path: "/admin/ann", method: "POST", url: "/v1/exports?dry_run=true", body: exportJSON, header: []string{"Authorization: Bearer vera:x"}, status: 403},
		{path: "/admin/ann", method: "GET", url: "/v1/version", header: []string{"Authorization: Bearer junk"}, status: 401},
		// The token file's token is for the host itself.
		{path: "/admin/ann", method: "GET", url: "/v1/version", header: []string{"Authorization: Bearer " + m.token}, status: 401},
		{path: "/reader", method: "GET", url: "/healthz", status: 200},
	} {
		got, err := m.as(t, c.path, c.method, c.url, c.body, c.header...)
		if err != nil || got.status != c.status {
			t.Errorf("%s: %s %s %v = %d, want %d: %s %v", c.path, c.method, c.url, c.header, got.status, c.status, got.body, err)
		}
	}
}

// Who has no role is refused in the handshake; so is who has no certificate.
func TestMTLSAdmitsNobodyElse(t *testing.T) {
	m := newMTLSStand(t)
	for _, path := range []string{"/nobody", "/isthmus/cluster/east", "/isthmus/cluster/east/gateway/gw-1", "/admin", "/readers"} {
		if got, err := m.as(t, path, "GET", "/v1/version", ""); err == nil {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	conn, err := tls.Dial("tcp", m.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS13}) //nolint:gosec // the refusal is asserted
	if err == nil {
		_, _ = conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes without a certificate", n)
		}
		_ = conn.Close()
	}
	if resp, err := http.Get("http://" + m.address + "/healthz"); err == nil {
		if resp.StatusCode == 200 {
			t.Error("plain text is answered")
		}
		_ = resp.Body.Close()
	}
}

func TestAuthConfigNamesFieldValueAndRule(t *testing.T) {
	for field, c := range map[string]api.AuthConfig{
		"token_role":         {TokenRole: "root"},
		"rate.per_second":    {Rate: api.RateConfig{PerSecond: -1}},
		"rate.burst":         {Rate: api.RateConfig{Burst: -1}},
		"roles[0].role":      {Roles: []api.RoleConfig{{Role: "owner", IDs: []policy.IDPattern{"spiffe://td/a"}}}},
		"roles[0]":           {Roles: []api.RoleConfig{{Role: "admin"}}},
		"roles[0].ids[0]":    {Roles: []api.RoleConfig{{Role: "admin", IDs: []policy.IDPattern{"*"}}}},
		"roles[0].subjects":  {Roles: []api.RoleConfig{{Role: "admin", Subjects: []string{"a"}}}},
		"roles[0].claims":    {Roles: []api.RoleConfig{{Role: "admin", Claims: []string{"a"}}}},
		"roles":              {Roles: make([]api.RoleConfig, 300)},
		"oidc.issuer":        {OIDC: &oidc.Config{Audience: "a"}},
		"oidc.algorithms[0]": {OIDC: &oidc.Config{Issuer: "https://id.test", Audience: "a", Algorithms: []string{"HS256"}}},
		"roles[0].claims[0]": {OIDC: &oidc.Config{Issuer: "https://id.test", Audience: "a"}, Roles: []api.RoleConfig{{Role: "admin", Claims: []string{""}}}},
		"oidc.max_lifetime":  {OIDC: &oidc.Config{Issuer: "https://id.test", Audience: "a", MaxLifetime: time.Second}},
		"roles[1].subjects[0]": {OIDC: &oidc.Config{Issuer: "https://id.test", Audience: "a"}, Roles: []api.RoleConfig{
			{Role: "admin", Subjects: []string{"a"}}, {Role: "viewer", Subjects: []string{strings.Repeat("x", 300)}},
		}},
	} {
		fe, ok := errors.AsType[*catalog.FieldError](c.Validate())
		if !ok || fe.Field != field || fe.Rule == "" {
			t.Errorf("%s: %v", field, c.Validate())
		}
	}
	if err := (api.AuthConfig{}).Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}

// A watch does not outlive the certificate that opened it.
func TestWatchEndsWithItsCredential(t *testing.T) {
	t.Parallel()
	ahead := &atomic.Int64{}
	s := newStand(t, withRoles(&issuer{}), func(o *api.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.address+"/v1/services?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer vera:x")
	ahead.Store(int64(2 * time.Hour)) // the token's hour is over before the first heartbeat
	if got := s.do(t, req); got.status != 200 || !strings.Contains(got.body, "synced") {
		t.Errorf("%+v", got) // do returns, so the stream has ended
	}
}
