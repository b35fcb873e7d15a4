package refusals_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/file"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// published runs a file as a source, and returns the addresses that it could publish
// beside a good one, and whether the source was believed at all.
func published(t *testing.T, document string) (addresses []string, good bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "catalog.yaml")
	if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := file.New(file.Options{Name: "poisoned", Config: file.Config{Path: path, Interval: 10 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	runner, err := discovery.NewRunner(discovery.RunnerOptions{Name: "poisoned", Kind: "file", Source: source, Publish: func(s *catalog.Snapshot) {
		mu.Lock()
		defer mu.Unlock()
		good, addresses = true, nil
		for svc := range s.All() {
			for _, e := range svc.Endpoints {
				addresses = append(addresses, e.Address.String())
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = runner.Run(ctx) })
	stand.Eventually(t, within, "the file is read", func() error {
		mu.Lock()
		defer mu.Unlock()
		if st := runner.Status(); !good && st.Err == "" {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	cancel()
	wg.Wait()
	return addresses, good
}

// TestAPoisonedCatalogPublishesNoSuchAddress: whoever writes a source's catalog must not
// make gateways connect to themselves, to their host or to its cloud's metadata.
func TestAPoisonedCatalogPublishesNoSuchAddress(t *testing.T) {
	const good = "192.0.2.1:80"
	document := func(name, port, address string) string {
		return fmt.Sprintf("services:\n  - name: %q\n    ports: [{name: %q, protocol: http}]\n    endpoints:\n      - {address: %q, port: %q}\n      - {address: %q, port: %q}\n", name, port, good, port, address, port)
	}
	if addresses, ok := published(t, document("web.default", "main", "192.0.2.2:80")); !ok || len(addresses) != 2 {
		t.Fatalf("good addresses: %v, %v", addresses, ok)
	}
	for name, address := range map[string]string{
		"metadata": "169.254.169.254:80", "metadata of tasks": "169.254.170.2:80", "metadata of pods": "169.254.170.23:80", "metadata over ipv6": "[fd00:ec2::254]:80",
		"google's over ipv6": "[fd20:ce::254]:80", "azure's": "168.63.129.16:80", "alibaba's": "100.100.100.200:80", "loopback": "127.0.0.1:80", "elsewhere in loopback": "127.8.9.10:80",
		"loopback over ipv6": "[::1]:80", "mapped loopback": "[::ffff:127.0.0.1]:80", "mapped metadata": "[::ffff:169.254.169.254]:80", "mapped": "[::ffff:192.0.2.9]:80",
		"nat64 metadata": "[64:ff9b::a9fe:a9fe]:80", "nat64 loopback": "[64:ff9b::7f00:1]:80", "unspecified": "0.0.0.0:80", "unspecified over ipv6": "[::]:80", "this network": "0.1.2.3:80",
		"link-local": "169.254.1.1:80", "link-local over ipv6": "[fe80::1]:80", "multicast": "224.0.0.1:80", "multicast over ipv6": "[ff02::1]:80", "broadcast": "255.255.255.255:80",
		"port 0": "192.0.2.9:0", "port too high": "192.0.2.9:65536", "no port": "192.0.2.9", "a name": "localhost:80", "an octal address": "0177.0.0.1:80", "a short address": "127.1:80", "a number": "2130706433:80",
		"a zone": "[fe80::1%eth0]:80", "a unix socket": "unix:///run/x.sock", "a url": "http://127.0.0.1:80/",
	} {
		refuse(t, "catalog, addresses", name, func(t *testing.T) {
			t.Parallel()
			addresses, _ := published(t, document("web.default", "main", address))
			for _, a := range addresses {
				if a != good {
					t.Errorf("%s is published", a)
				}
			}
		})
	}
	long := strings.Repeat("a", 64)
	for name, doc := range map[string]string{
		"a reserved service":        document("federation.beta", "main", good),
		"the own federation":        document("federation.alpha", "main", good),
		"a service in capitals":     document("WEB.default", "main", "192.0.2.2:80"),
		"a wildcard service":        document("*.default", "main", "192.0.2.2:80"),
		"a long service":            document(long+".default", "main", "192.0.2.2:80"),
		"a long namespace":          document("web."+long, "main", "192.0.2.2:80"),
		"a service with dots":       document("a.b.default", "main", "192.0.2.2:80"),
		"an idn service":            document("wéb.default", "main", "192.0.2.2:80"),
		"an empty service":          document("", "main", "192.0.2.2:80"),
		"a long port":               document("web.default", long, "192.0.2.2:80"),
		"a port in capitals":        document("web.default", "MAIN", "192.0.2.2:80"),
		"an unknown key":            document("web.default", "main", "192.0.2.2:80") + "admin: true\n",
		"a service twice":           document("web.default", "main", "192.0.2.2:80") + strings.TrimPrefix(document("web.default", "main", "192.0.2.2:80"), "services:\n"),
		"an endpoint twice":         document("web.default", "main", good),
		"no document":               "\x00\x01\x02",
		"a document that is a bomb": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nservices: [*c,*c,*c,*c]\n",
	} {
		refuse(t, "catalog, names", name, func(t *testing.T) {
			t.Parallel()
			if addresses, ok := published(t, doc); ok && len(addresses) > 0 {
				t.Errorf("%v are published", addresses)
			}
		})
	}
}
