package metadata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
	"github.com/isthmus-mesh/isthmus/providers/metadata"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// imds runs Amazon's own mock of its metadata server, which insists on tokens.
func imds(t *testing.T) string {
	t.Helper()
	bin := tools.Require(t, "ec2-metadata-mock")
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		_ = ln.Close() // the mock takes a number only; another process may be faster
		ctx, cancel := context.WithCancel(context.Background())
		cmd := exec.CommandContext(ctx, bin, "--imdsv2", "-n", "127.0.0.1", "-p", port)
		cmd.Dir = t.TempDir()
		cmd.Env = []string{"HOME=" + cmd.Dir}
		if err := cmd.Start(); err != nil {
			cancel()
			t.Fatal(err)
		}
		stop := func() { cancel(); _ = cmd.Wait() } // it is killed
		url := "http://127.0.0.1:" + port
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			resp, err := client.Get(url + "/latest/meta-data/instance-id")
			if err != nil {
				continue
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("without a token the mock answers %s", resp.Status)
			}
			t.Cleanup(stop)
			return url
		}
		stop()
	}
	t.Fatal("the mock does not answer")
	return ""
}

func TestAWSTellsByIMDSv2(t *testing.T) {
	url := imds(t)
	for _, cloud := range []string{"", metadata.AWS} {
		f, err := metadata.Locate(t.Context(), metadata.Options{Endpoint: url, Cloud: cloud})
		if err != nil {
			t.Fatal(err)
		}
		if want := (catalog.Locality{Cloud: "aws", Region: "us-east-1", Zone: "use1-az4"}); f.Locality != want || !strings.HasPrefix(f.Instance, "i-") {
			t.Errorf("found %+v, want %s", f, want)
		}
	}
	if f, err := metadata.Locate(t.Context(), metadata.Options{Endpoint: url, Cloud: metadata.Google}); err == nil {
		t.Errorf("Amazon's server was taken for Google's: %+v", f)
	}
	t.Logf("figure: providers/metadata ran against ec2-metadata-mock v1.13.0 (IMDSv2), and for Google against a server of this test")
}

// google speaks as Google documents its server: a header that must be there, one
// that must not, and a header of its own on each answer.
func google(values map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		w.Header().Set("Server", "Metadata Server for VM")
		switch {
		case r.Header.Get("X-Forwarded-For") != "", r.Header.Get("Metadata-Flavor") != "Google":
			http.Error(w, "Forbidden", http.StatusForbidden)
			return
		case r.Method != http.MethodGet:
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		value, ok := values[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", fmt.Sprintf("%016x", len(value)*7919))
		w.Header().Set("Content-Type", "application/text")
		_, _ = w.Write([]byte(value))
	})
}

var inIowa = map[string]string{
	"/computeMetadata/v1/instance/zone": "projects/123456789/zones/us-central1-a",
	"/computeMetadata/v1/instance/id":   "4520031799277581759",
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestGoogleTells(t *testing.T) {
	url := serve(t, google(inIowa))
	for _, cloud := range []string{"", metadata.Google} {
		f, err := metadata.Locate(t.Context(), metadata.Options{Endpoint: url, Cloud: cloud})
		if err != nil {
			t.Fatal(err)
		}
		want := metadata.Found{Locality: catalog.Locality{Cloud: "gcp", Region: "us-central1", Zone: "us-central1-a"}, Instance: "4520031799277581759"}
		if f != want {
			t.Errorf("found %+v, want %+v", f, want)
		}
	}
	if f, err := metadata.Locate(t.Context(), metadata.Options{Endpoint: url, Cloud: metadata.AWS}); err == nil || errors.Is(err, metadata.ErrNone) {
		t.Errorf("Google's server was taken for Amazon's: %+v, %v", f, err)
	}
}

// Whatever a server says that is no place: it is refused, in bounded time.
func TestStrangeServers(t *testing.T) {
	text := func(s string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Metadata-Flavor", "Google")
			_, _ = w.Write([]byte(s))
		})
	}
	for name, h := range map[string]http.Handler{
		"portal":       http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>sign in</html>")) }),
		"empty":        text(""),
		"no zone":      text("zone"),
		"upper case":   text("US-CENTRAL1-A"),
		"control":      text("a-\x00b-c"),
		"long":         text(strings.Repeat("a-", 4000)),
		"redirect":     http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound),
		"not found":    http.NotFoundHandler(),
		"half of it":   google(map[string]string{"/computeMetadata/v1/instance/zone": "projects/1/zones/us-central1-a"}),
		"server error": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }),
		"hangs":        http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := metadata.Locate(t.Context(), metadata.Options{Endpoint: serve(t, h), Timeout: time.Second})
			if err == nil {
				t.Errorf("found %+v", f)
			}
		})
	}
}

// A server that is not up yet is waited for; one that never comes is an error that
// says so.
func TestAServerThatComesLate(t *testing.T) {
	var asked atomic.Int32
	good := google(inIowa)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) <= 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		good.ServeHTTP(w, r)
	}))
	if _, err := metadata.Locate(t.Context(), metadata.Options{Endpoint: url, Timeout: time.Minute}); err != nil {
		t.Error(err)
	}
	_, err := metadata.Locate(t.Context(), metadata.Options{Endpoint: "http://127.0.0.1:1", Timeout: 300 * time.Millisecond})
	if !errors.Is(err, metadata.ErrNone) || !strings.Contains(err.Error(), "http://127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
	if _, err := metadata.Locate(t.Context(), metadata.Options{Cloud: "onprem"}); err == nil || !strings.Contains(err.Error(), "onprem") {
		t.Errorf("got %v", err)
	}
}

func TestCheckEndpoint(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"http://169.254.169.254": true, "http://[fd00:ec2::254]/": true, "https://x": false, "x": false, "http://u@x": false, "http://x/y": false, "http://x?y": false,
	} {
		if err := metadata.CheckEndpoint(endpoint); (err == nil) != ok {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

// What is kept is whole after a crash at each step, and one flipped byte costs
// nothing.
func TestCrashOfWhatIsKept(t *testing.T) {
	of := func(state string) metadata.Found {
		return metadata.Found{Locality: catalog.Locality{Cloud: "aws", Region: "us-east-1", Zone: "use1-az4"}, Instance: state}
	}
	crashtest.Run(t, crashtest.Case{
		Point: "locality", Initial: true, Remade: true,
		Write: func(_ testing.TB, dir, state string) error {
			return metadata.Keep(filepath.Join(dir, "locality.json"), of(state))
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			f, err := metadata.Recall(filepath.Join(dir, "locality.json"))
			if errors.Is(err, os.ErrNotExist) {
				return "", "", nil
			}
			if err == nil && f != of(f.Instance) {
				err = fmt.Errorf("recalled %+v", f)
			}
			return f.Instance, "", err
		},
	})
}

func FuzzRecall(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "locality.json")
	if err := metadata.Keep(path, metadata.Found{Locality: catalog.Locality{Cloud: "aws", Region: "r", Zone: "z"}}); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if found, err := metadata.Recall(path); err == nil {
			if _, err := json.Marshal(found); err != nil || found.Locality.Validate() != nil {
				t.Errorf("recalled %+v", found)
			}
		}
	})
}
