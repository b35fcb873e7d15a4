package replicas_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// servers are the three of one Consul datacenter.
type servers struct {
	t    *testing.T
	all  []*stand.Process
	http []netip.AddrPort
}

func startConsul(t *testing.T, dir string) *servers {
	t.Helper()
	binary := tools.Require(t, "consul")
	s := &servers{t: t}
	var serf []netip.AddrPort
	for range 3 {
		serf = append(serf, lowPort(t))
	}
	for i := range 3 {
		address := lowPort(t)
		join := []string{}
		for j, a := range serf {
			if j != i {
				join = append(join, a.String())
			}
		}
		name := fmt.Sprintf("consul-%d", i+1)
		config := map[string]any{
			"server": true, "bootstrap_expect": 3, "node_name": name, "node_id": fmt.Sprintf("11111111-0000-0000-0000-00000000000%d", i+1),
			"data_dir": filepath.Join(dir, name), "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "advertise_addr": "127.0.0.1",
			"retry_join": join, "retry_interval": "500ms", "log_level": "warn", "disable_update_check": true,
			"leave_on_terminate": false, "skip_leave_on_interrupt": true, "session_ttl_min": "1s",
			"performance": map[string]any{"raft_multiplier": 1},
			"ports": map[string]any{
				"http": address.Port(), "server": lowPort(t).Port(), "serf_lan": serf[i].Port(),
				"dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1, "https": -1,
			},
		}
		path := filepath.Join(dir, name+".json")
		data, err := json.Marshal(config)
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		p := stand.NewProcess(t, filepath.Join(dir, "logs"), name, binary, "agent", "-config-file", path)
		s.all, s.http = append(s.all, p), append(s.http, address)
		p.Start()
	}
	stand.Eventually(t, within, "Consul has a leader that all know", func() error {
		for i := range s.all {
			if leader, err := s.ask(i, "/v1/status/leader"); err != nil || len(leader) < 5 {
				return fmt.Errorf("server %d: %q, %w", i, leader, err)
			}
			if _, err := s.ask(i, "/v1/kv/none?consistent&keys"); err != nil && !strings.Contains(err.Error(), "404") {
				return err
			}
		}
		return nil
	})
	return s
}

func (s *servers) ask(i int, path string) (string, error) {
	c := http.Client{Timeout: 2 * time.Second}
	resp, err := c.Get("http://" + s.http[i].String() + path)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return strings.TrimSpace(string(body)), err
}

// leader is the server that leads.
func (s *servers) leader() int {
	s.t.Helper()
	found := -1
	stand.Eventually(s.t, within, "Consul says who leads", func() error {
		for i := range s.all {
			self, err := s.ask(i, "/v1/agent/self")
			if err != nil {
				continue
			}
			var a struct {
				Stats struct{ Consul struct{ Leader string } }
			}
			if json.Unmarshal([]byte(self), &a) == nil && a.Stats.Consul.Leader == "true" {
				found = i
				return nil
			}
		}
		return fmt.Errorf("none of them")
	})
	return found
}

// lowPort is a free port below those that connections are given: servers that
// start late would else find theirs taken by one of many connections.
func lowPort(t testing.TB) netip.AddrPort {
	t.Helper()
	for range 1000 {
		address := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(20000+rand.IntN(12000)))
		ln, err := net.Listen("tcp", address.String())
		if err != nil {
			continue
		}
		_ = ln.Close()
		return address
	}
	t.Fatal("no free port")
	return netip.AddrPort{}
}

// kept is one key as Consul lists it.
type kept struct {
	Key   string
	Value []byte
	Flags uint64
}

// take removes everything below a prefix, and returns what no session holds.
func (s *servers) take(prefix string) (tree []kept) {
	s.t.Helper()
	text, err := s.ask(0, "/v1/kv/"+prefix+"?recurse&consistent")
	if err != nil {
		s.t.Fatal(err)
	}
	var all []kept
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		s.t.Fatal(err)
	}
	for _, k := range all {
		if !strings.Contains(k.Key, "/replicas/") { // that replicas make anew
			tree = append(tree, k)
		}
	}
	s.send(http.MethodDelete, prefix+"?recurse", nil)
	return tree
}

// put restores what take has taken, the store's mark last: without it nothing of
// it is believed.
func (s *servers) put(tree []kept) {
	s.t.Helper()
	for _, mark := range []bool{false, true} {
		for _, k := range tree {
			if strings.HasSuffix(k.Key, "/items/meta/store") == mark {
				s.send(http.MethodPut, fmt.Sprintf("%s?flags=%d", k.Key, k.Flags), k.Value)
			}
		}
	}
}

func (s *servers) send(method, path string, body []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.http[0].String()+"/v1/kv/"+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}
