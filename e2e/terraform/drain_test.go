package terraform_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

var drainScript = regexp.MustCompile(`printf %s '([^']+)' \| base64 -d >"\$root/usr/local/lib/isthmus/drain"`)

// An instance on AWS waits until its group ends it, then stops the gateway, then tells
// the group. Neither systemd nor a group is here: what would be said to them is kept.
func TestDrainOnAWS(t *testing.T) {
	t.Parallel()
	f := open(t, filepath.Join(copied(t), "terraform", "modules", "bootstrap"))
	f.init()
	var script string
	if err := json.Unmarshal(passed(t, f)["drains_for_a_group"].outputs["script"], &script); err != nil {
		t.Fatal(err)
	}
	m := drainScript.FindStringSubmatch(script)
	if m == nil {
		t.Fatal("the start script has no drain")
	}
	drain, err := base64.StdEncoding.DecodeString(m[1])
	if err != nil {
		t.Fatal(err)
	}

	asked := atomic.Int32{}
	values := metadata(t, map[string]string{"instance-id": "i-0123456789abcdef0", "placement/region": "us-east-1"})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/autoscaling/target-lifecycle-state") {
			http.Redirect(w, r, values.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		state := "InService"
		if asked.Add(1) > 1 {
			state = "Terminated"
		}
		fmt.Fprint(w, state)
	}))
	t.Cleanup(server.Close)

	dir := t.TempDir()
	for _, program := range []string{"systemctl", "aws"} {
		path := filepath.Join(dir, program)
		write(t, path, "#!/bin/sh\necho \"%s $*\" >>%s/said\n", program, dir)
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// curl follows the redirects of this test, which a metadata server has not.
	write(t, filepath.Join(dir, "curlrc"), "location\n")
	if err := os.Rename(filepath.Join(dir, "curlrc"), filepath.Join(dir, ".curlrc")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", string(drain))
	cmd.Env = append(bare(), "PATH="+dir+":"+os.Getenv("PATH"), "CURL_HOME="+dir, "ISTHMUS_METADATA="+server.URL)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	said, err := os.ReadFile(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"systemctl stop isthmus.service",
		"aws autoscaling complete-lifecycle-action --region us-east-1 --auto-scaling-group-name isthmus-x-gateway --lifecycle-hook-name drain --instance-id i-0123456789abcdef0 --lifecycle-action-result CONTINUE",
	}
	if got := strings.Split(strings.TrimSpace(string(said)), "\n"); !slices.Equal(got, want) {
		t.Errorf("said:\n%s", said)
	}
	if asked.Load() != 2 {
		t.Errorf("asked %d times for the state", asked.Load())
	}
}
