package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus-source/cli"
	"github.com/isthmus-mesh/isthmus/providers/gcp/gcptest"
)

// The command reads the cloud, prints the protocol, and ends with its standard
// input.
func TestGCP(t *testing.T) {
	s := gcptest.New(t)
	s.Set(gcptest.World{"shop-prod": {Zones: []string{"us-central1-a"}, Instances: []gcptest.Instance{{
		Zone: "us-central1-a", Name: "vm", IP: "10.0.0.1", Labels: map[string]string{"isthmus-service": "web", "isthmus-port": "80"},
	}}}})
	path := filepath.Join(t.TempDir(), "gcp.yaml")
	text := fmt.Sprintf("projects: [shop-prod]\ncredentials_file: %s\ncompute_endpoint: %s\ninterval: 1s\ninstances: {}\n", s.CredentialsFile(), s.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := cli.Run(t.Context(), []string{"gcp", "--check", "-c", path}, strings.NewReader(""), &out, &errs); code != 0 || !strings.Contains(out.String(), "is valid") {
		t.Errorf("check: %d, %s%s", code, out.String(), errs.String())
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("projects: [X]\ninterval: soon\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	errs.Reset()
	if code := cli.Run(t.Context(), []string{"gcp", "--check", "-c", bad}, strings.NewReader(""), io.Discard, &errs); code == 0 ||
		!strings.Contains(errs.String(), "projects[0]") || !strings.Contains(errs.String(), "interval") || !strings.Contains(errs.String(), "at least one of") {
		t.Errorf("a bad file: %d, %s", code, errs.String())
	}

	in, end := io.Pipe()
	printed, w := io.Pipe()
	code := make(chan int, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		code <- cli.Run(ctx, []string{"gcp", "-c", path, "--name", "cloud"}, in, w, io.Discard)
		_ = w.Close()
	}()
	lines := bufio.NewScanner(printed)
	found := false
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"address":"10.0.0.1:80"`) {
			found = true
		}
		if strings.Contains(lines.Text(), `"commit"`) {
			_ = end.Close() // the parent is gone
			break
		}
	}
	_, _ = io.Copy(io.Discard, printed)
	if c := <-code; c != 0 || !found {
		t.Errorf("ended with %d, the endpoint was printed: %v", c, found)
	}
}
