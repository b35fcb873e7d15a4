package kubeapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

const (
	// listTimeout bounds one request that is no watch: a page of a list, a write.
	listTimeout = time.Minute
	// qps and burst are the client's own brake on writes, far above what a change
	// needs; the server has a better one (priority and fairness).
	qps   = 50
	burst = 100
	// maxToken bounds the token file: a service account's token has about 1 KiB.
	maxToken = 64 << 10
)

// Connection says where an API server is and who asks it: by a kubeconfig file, or
// by server, token file and TLS.
type Connection struct {
	// Kubeconfig is a file as kubectl reads it, Context one of its contexts; empty
	// means its current one.
	Kubeconfig string `yaml:"kubeconfig,omitempty"`
	Context    string `yaml:"context,omitempty"`
	// Server is the API server's URL: https, or http on loopback.
	Server string `yaml:"server,omitempty"`
	// TokenFile holds the bearer token; it is read anew for every request.
	TokenFile string `yaml:"token_file,omitempty"`
	TLS       TLS    `yaml:"tls,omitempty"`
}

// TLS to the API server; without CAFile the system's roots count.
type TLS struct {
	CAFile     string `yaml:"ca_file,omitempty"`
	CertFile   string `yaml:"cert_file,omitempty"`
	KeyFile    string `yaml:"key_file,omitempty"`
	ServerName string `yaml:"server_name,omitempty"`
}

// Validate reports every problem; it opens no file.
func (c Connection) Validate() error {
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	switch {
	case c.Kubeconfig == "" && c.Server == "":
		fail("server", "", "is missing: either server, or a kubeconfig file")
	case c.Kubeconfig != "" && (c.Server != "" || c.TokenFile != "" || c.TLS != (TLS{})):
		fail("kubeconfig", c.Kubeconfig, "says server, token and certificates by itself: server, token_file and tls are for connections without it")
	case c.Kubeconfig == "" && c.Context != "":
		fail("context", c.Context, "is one of a kubeconfig file")
	}
	if c.Server != "" {
		if rule := serverRule(c.Server); rule != "" {
			fail("server", c.Server, rule)
		}
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		fail("tls", nil, "needs both cert_file and key_file, or neither")
	}
	if strings.HasPrefix(c.Server, "http:") && c.TLS != (TLS{}) {
		fail("tls", nil, "is for an https server")
	}
	return errors.Join(errs...)
}

// serverRule says what is wrong with a server's URL, or "". Over plain http a token
// would be read by anybody on the way.
func serverRule(server string) string {
	u, err := url.Parse(server)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		return "must be https://HOST[:PORT], or http://ADDRESS:PORT on loopback"
	case u.Scheme == "http":
		if a, err := netip.ParseAddr(u.Hostname()); err != nil || !a.Unmap().IsLoopback() {
			return "must be https: over http a token travels in clear text"
		}
	}
	return ""
}

// REST opens the files and returns a client's configuration; agent names the
// program in the server's logs. It makes no request.
func (c Connection) REST(agent string) (*rest.Config, error) {
	conf, err := c.base()
	if err != nil {
		return nil, err
	}
	conf.UserAgent, conf.QPS, conf.Burst = agent, qps, burst
	if conf.Proxy == nil {
		conf.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil } // not the environment's
	}
	if file := conf.BearerTokenFile; file != "" {
		conf.BearerToken, conf.BearerTokenFile = "", ""
		conf.Wrap(func(next http.RoundTripper) http.RoundTripper { return &tokens{file: file, next: next} })
	}
	return conf, nil
}

// Client is the client of what REST returned. It follows no redirect: the token goes
// with every request, and where an answer points to must not get it.
func Client(conf *rest.Config) (*http.Client, error) {
	shared, err := rest.HTTPClientFor(conf)
	if err != nil {
		return nil, err
	}
	own := *shared
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own, nil
}

func (c Connection) base() (*rest.Config, error) {
	if c.Kubeconfig == "" {
		return &rest.Config{
			Host: c.Server, BearerTokenFile: c.TokenFile,
			TLSClientConfig: rest.TLSClientConfig{
				CAFile: c.TLS.CAFile, CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile, ServerName: c.TLS.ServerName,
			},
		}, nil
	}
	file, err := clientcmd.LoadFromFile(c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig file: %w", err)
	}
	if err := clientcmd.ResolveLocalPaths(file); err != nil {
		return nil, fmt.Errorf("kubeconfig file %s: %w", c.Kubeconfig, err)
	}
	conf, err := clientcmd.NewNonInteractiveClientConfig(*file, c.Context, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig file %s: %w", c.Kubeconfig, err)
	}
	if rule := serverRule(conf.Host); rule != "" {
		return nil, fmt.Errorf("kubeconfig file %s: server %q: %s", c.Kubeconfig, conf.Host, rule)
	}
	return conf, nil
}

// tokens sets the token as it is in its file now: a projected token is replaced
// every hour, and an expired one must not outlive that by client-go's minute.
type tokens struct {
	file string
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *tokens) RoundTrip(req *http.Request) (*http.Response, error) {
	data, err := os.ReadFile(t.file)
	if err != nil {
		return nil, fmt.Errorf("read the token file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || len(token) > maxToken {
		return nil, fmt.Errorf("token file %s: has %d bytes, must be 1 to %d", t.file, len(token), maxToken)
	}
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+token)
	return t.next.RoundTrip(req)
}

// WrappedRoundTripper lets client-go find the transport below, to close it.
func (t *tokens) WrappedRoundTripper() http.RoundTripper { return t.next }
