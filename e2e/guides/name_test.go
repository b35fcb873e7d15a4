package guides_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// apart runs a block where /etc/resolv.conf is another file, for these commands only.
func apart(t *testing.T, resolver, text string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "bash", "-euo", "pipefail", "-c",
		`mount --bind "$0" /etc/resolv.conf; eval "$1"`, resolver, text)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}

// TestCallByName: dig, curl and redis-cli reach services of two clusters by their names.
func TestCallByName(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("port 53 and a resolv.conf of its own need root")
	}
	for _, program := range []string{"dig", "curl", "redis-cli"} {
		tools.Command(t, program)
	}
	g := guide.Read(t, "by-name.md", stand.Binary(t))
	s := stand.New(t,
		stand.Spec{Name: aws, Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "aws.example.org"},
		stand.Spec{Name: gcp, Cloud: "gcp", Region: "us-central1", Zone: "b", TrustDomain: "gcp.example.org"},
	)
	here, there := s.Clusters[0], s.Clusters[1]
	h := host(t, s, here)
	// Addresses of its own: other tests and the host's resolver may have those of the page.
	h.Replace = append(h.Replace, "127.0.0.1", "127.0.53.1", "127.77.0.0/16", "127.79.0.0/16")
	listen := here.Gateways[0].Section()["listen"].(stand.Object)
	listen["dns"] = g.Section("config", "gateway", h)["listen"].(stand.Object)["dns"]

	listen["proxy"] = g.Section("proxy", "gateway", h)["listen"].(stand.Object)["proxy"]
	near, kill := instance(t, "127.0.0.1:0", aws)
	far, _ := instance(t, "127.0.0.1:0", gcp)
	redis := stand.FreePort(t)
	server := stand.NewProcess(t, h.Logs, "redis", tools.Command(t, "redis-server"),
		"--bind", "127.0.0.1", "--port", strconv.Itoa(int(redis.Port())), "--save", "", "--appendonly", "no")
	server.Start()
	here.WriteCatalog(t, stand.Service{Name: "billing", Port: "http", Protocol: "http", Addresses: []string{near}})
	there.WriteCatalog(t,
		stand.Service{Name: "billing", Port: "http", Protocol: "http", Addresses: []string{far}},
		stand.Service{Name: "cache", Port: "redis", Protocol: "tcp", Addresses: []string{redis.String()}})
	s.Start()

	asks := func(block string) netip.Addr {
		var a netip.Addr
		stand.Eventually(t, within, block, func() (err error) {
			a, err = netip.ParseAddr(strings.TrimSpace(g.Run(block, h)))
			return err
		})
		if !netip.MustParsePrefix("127.79.0.0/16").Contains(a) {
			t.Errorf("%s: %s is not of the range", block, a)
		}
		return a
	}
	if asks("ask") == asks("pinned") {
		t.Error("one cluster has the address of all")
	}
	stand.Eventually(t, within, "the service of the other cluster", func() error {
		if out := g.Run("port", h); out != "0 1 6379 cache.default.mesh.\n" {
			return fmt.Errorf("%q", out)
		}
		return nil
	})
	if out := g.Run("whose", h); out != "billing.default.mesh.\n" {
		t.Errorf("%q", out)
	}
	resolver := h.Dir + "/resolv.conf"
	if err := os.WriteFile(resolver, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := apart(t, resolver, g.Text("resolver", h)); err != nil {
		t.Fatal(err)
	}
	uses := func(who string) {
		start := time.Now()
		stand.Eventually(t, within, "calls by name", func() error {
			out, err := apart(t, resolver, g.Text("use", h))
			if err == nil && out != who+"PONG\n" {
				err = fmt.Errorf("%q", out)
			}
			return err
		})
		stand.Figure(t, "by name, answered by %s after %v", who, time.Since(start).Round(time.Millisecond))
	}
	uses(aws)
	if out := g.Run("through", h); out != aws+aws {
		t.Errorf("through the proxy: %q", out)
	}
	was := asks("ask")
	kill()
	uses(gcp)
	if asks("ask") != was {
		t.Error("the address has moved with the service")
	}
}
