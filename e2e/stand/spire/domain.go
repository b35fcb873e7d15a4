package spire

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

const (
	// startWithin is generous: alone on a machine the server takes a second.
	startWithin = 60 * time.Second
	// SyncInterval is how often the agent asks the server for what is new.
	SyncInterval = time.Second
)

// Options describes a Domain.
type Options struct {
	TrustDomain string
	// SVIDTTL is the life of its SVIDs. SPIRE adds ten seconds before and renews at
	// half of the whole.
	SVIDTTL time.Duration
	// Dir is a folder for configuration, keys, sockets and logs; its path must be
	// short, since sockets live in it.
	Dir string
	// Socket is where the agent serves the Workload API; empty: in Dir.
	Socket string
	// WebCert and WebKey are PEM files with which the server's bundle endpoint is
	// https_web; empty: https_spiffe.
	WebCert, WebKey string
}

// Domain is one trust domain's SPIRE.
type Domain struct {
	Options
	Server, Agent *stand.Process
	// Bundles is where the server serves its bundle.
	Bundles netip.AddrPort
	// Admin is the server's own socket, for its command line.
	Admin string

	t      testing.TB
	cli    string
	port   netip.AddrPort
	token  string // by which the agent joined
	follow []*Domain
	others Block // that it follows, which are no SPIRE
}

// New describes a domain; Start runs it.
func New(t testing.TB, o Options) *Domain {
	t.Helper()
	d := &Domain{
		Options: o, t: t, cli: tools.Require(t, "spire-server"),
		port: stand.FreePort(t), Bundles: stand.FreePort(t), Admin: filepath.Join(o.Dir, "server.sock"),
	}
	if d.Socket == "" {
		d.Socket = filepath.Join(o.Dir, "agent.sock")
	}
	logs := filepath.Join(o.Dir, "logs")
	d.Server = stand.NewProcess(t, logs, "spire-server-"+o.TrustDomain, d.cli, "run", "-config", d.path("server.conf"))
	d.Agent = stand.NewProcess(t, logs, "spire-agent-"+o.TrustDomain, tools.Require(t, "spire-agent"))
	return d
}

// Federate makes each of the domains follow the others' bundle endpoints. It is
// called before Start.
func Federate(domains ...*Domain) {
	for _, d := range domains {
		for _, o := range domains {
			if o != d {
				d.follow = append(d.follow, o)
			}
		}
	}
}

// Follow makes the server follow another's bundle endpoint; id is of its SVID, ""
// where it shows a certificate for its host name. It is called before Start.
func (d *Domain) Follow(trustDomain, url, id string) {
	profile := `"https_web" {}`
	if id != "" {
		profile = fmt.Sprintf(`"https_spiffe" { endpoint_spiffe_id = %q }`, id)
	}
	d.others = append(d.others, fmt.Sprintf("federates_with %q { bundle_endpoint_url = %q bundle_endpoint_profile %s }", trustDomain, url, profile))
}

// Start runs servers, exchanges bundles, and runs agents, which join by a token.
func Start(domains ...*Domain) {
	for _, d := range domains {
		d.StartServer()
	}
	for _, d := range domains {
		for _, o := range d.follow {
			d.SetBundle(o.TrustDomain, o.Bundle())
		}
		d.StartAgent()
	}
}

func (d *Domain) path(name string) string { return filepath.Join(d.Dir, name) }

// StartServer runs the server. Those that it follows are unreachable for it until it
// has their bundles.
func (d *Domain) StartServer() {
	d.t.Helper()
	profile := `"https_spiffe" {}`
	if d.WebCert != "" {
		profile = fmt.Sprintf(`"https_web" { serving_cert_file { cert_file_path = %q key_file_path = %q file_sync_interval = "1h" } }`, d.WebCert, d.WebKey)
	}
	federation := Block{fmt.Sprintf("bundle_endpoint { address = %q port = %d profile %s refresh_hint = \"10s\" }", d.Bundles.Addr(), d.Bundles.Port(), profile)}
	federation = append(federation, d.others...)
	for _, o := range d.follow {
		federation = append(federation, fmt.Sprintf("federates_with %q { bundle_endpoint_url = \"https://%s\" bundle_endpoint_profile \"https_spiffe\" { endpoint_spiffe_id = \"spiffe://%s/spire/server\" } }",
			o.TrustDomain, o.Bundles, o.TrustDomain))
	}
	d.write("server.conf", fmt.Sprintf(`
server {
  bind_address = %q
  bind_port = %d
  socket_path = %q
  trust_domain = %q
  data_dir = %q
  log_level = "INFO"
  ca_ttl = "24h"
  agent_ttl = "1h"
  default_x509_svid_ttl = "%ds"
  federation {
%s
  }
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = %q } }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "disk" { plugin_data { keys_path = %q } }
}
`, d.port.Addr(), d.port.Port(), d.Admin, d.TrustDomain, d.path("server"), int(d.SVIDTTL.Seconds()), federation, d.path("server.sqlite3"), d.path("server-keys.json")))
	d.Server.Start()
	stand.Eventually(d.t, startWithin, "spire server of "+d.TrustDomain, func() error {
		_, err := d.run("healthcheck")
		return err
	})
}

// Block is lines of a configuration file.
type Block []string

// String indents them.
func (b Block) String() string { return "    " + strings.Join(b, "\n    ") }

// StartAgent runs the agent, which joins by a token at its first start.
func (d *Domain) StartAgent() {
	d.t.Helper()
	d.write("bundle.pem", string(d.CLI("bundle", "show", "-format", "pem")))
	d.write("agent.conf", fmt.Sprintf(`
agent {
  data_dir = %q
  log_level = "INFO"
  server_address = %q
  server_port = %d
  socket_path = %q
  trust_bundle_path = %q
  trust_domain = %q
  experimental { sync_interval = %q }
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "disk" { plugin_data { directory = %q } }
  WorkloadAttestor "unix" { plugin_data {} }
}
`, d.path("agent"), d.port.Addr(), d.port.Port(), d.Socket, d.path("bundle.pem"), d.TrustDomain, SyncInterval, d.path("agent")))
	if err := os.MkdirAll(d.path("agent"), 0o700); err != nil {
		d.t.Fatal(err)
	}
	if d.token == "" {
		out := string(d.CLI("token", "generate", "-spiffeID", d.node()))
		_, d.token, _ = strings.Cut(strings.TrimSpace(out), "Token: ")
	}
	d.Agent.Args = []string{"run", "-config", d.path("agent.conf"), "-joinToken", d.token}
	d.Agent.Start()
	d.AwaitAgent()
}

// AwaitAgent waits until the agent serves. It knows the server from its disk, so
// that a restart needs no new token.
func (d *Domain) AwaitAgent() {
	d.t.Helper()
	stand.Eventually(d.t, startWithin, "spire agent of "+d.TrustDomain, func() error {
		out, err := exec.CommandContext(d.t.Context(), d.Agent.Path, "healthcheck", "-socketPath", d.Socket).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// node is the alias of every agent, the parent of the entries.
func (d *Domain) node() string { return "spiffe://" + d.TrustDomain + "/node" }

// Entry gives the processes of a user an SVID.
type Entry struct {
	ID  string
	UID int
	// Federates are the trust domains whose bundles come with it.
	Federates []string
}

// Register adds entries.
func (d *Domain) Register(entries ...Entry) {
	d.t.Helper()
	var list []any
	for _, e := range entries {
		federates := []string{}
		for _, td := range e.Federates {
			federates = append(federates, "spiffe://"+td)
		}
		list = append(list, stand.Object{
			"parent_id": d.node(), "spiffe_id": e.ID, "federates_with": federates,
			"selectors":     []any{stand.Object{"type": "unix", "value": fmt.Sprintf("uid:%d", e.UID)}},
			"x509_svid_ttl": int(d.SVIDTTL.Seconds()),
		})
	}
	data, err := json.Marshal(stand.Object{"entries": list})
	if err != nil {
		d.t.Fatal(err)
	}
	d.write("entries.json", string(data))
	d.CLI("entry", "create", "-data", d.path("entries.json"))
}

// Bundle is the domain's bundle document.
func (d *Domain) Bundle() []byte {
	d.t.Helper()
	return d.CLI("bundle", "show", "-format", "spiffe")
}

// SetBundle gives the server another domain's bundle document.
func (d *Domain) SetBundle(trustDomain string, document []byte) {
	d.t.Helper()
	d.write(trustDomain+".json", string(document))
	d.CLI("bundle", "set", "-id", "spiffe://"+trustDomain, "-format", "spiffe", "-path", d.path(trustDomain+".json"))
}

// CLI runs a command of spire-server against the running server.
func (d *Domain) CLI(args ...string) []byte {
	d.t.Helper()
	out, err := d.run(args...)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// Try runs a command that may fail.
func (d *Domain) Try(args ...string) ([]byte, error) { return d.run(args...) }

func (d *Domain) run(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), startWithin)
	defer cancel()
	words := 1 // "healthcheck"; the others are two: "bundle show"
	if len(args) > 1 {
		words = 2
	}
	for words < len(args) && !strings.HasPrefix(args[words], "-") {
		words++ // "localauthority x509 prepare"
	}
	args = append(append(append([]string{}, args[:words]...), "-socketPath", d.Admin), args[words:]...)
	cmd := exec.CommandContext(ctx, d.cli, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("spire-server %s: %w: %s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return out, nil
}

func (d *Domain) write(name, text string) {
	d.t.Helper()
	err := os.MkdirAll(d.Dir, 0o700)
	if err == nil {
		err = os.WriteFile(d.path(name), []byte(text), 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}
