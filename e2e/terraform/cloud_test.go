package terraform_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// metadata is what an instance's metadata server says, by path.
func metadata(t *testing.T, values map[string]string) *httptest.Server {
	t.Helper()
	const token = "a-token"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/latest/api/token":
			if r.Method != http.MethodPut || r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "" {
				http.Error(w, "not as IMDSv2 asks for it", http.StatusBadRequest)
				return
			}
			fmt.Fprint(w, token)
			return
		case strings.HasPrefix(r.URL.Path, "/latest/") && r.Header.Get("X-aws-ec2-metadata-token") != token:
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		case strings.HasPrefix(r.URL.Path, "/computeMetadata/") && r.Header.Get("Metadata-Flavor") != "Google":
			http.Error(w, "no flavor", http.StatusForbidden)
			return
		}
		value, ok := values[strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/latest/meta-data/"), "/computeMetadata/v1/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, value)
	}))
	t.Cleanup(s.Close)
	return s
}

// snapshot is a copy of the program: the one of the tree may be built anew by another
// test.
func snapshot(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(stand.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "isthmus")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// published serves a program as a release would be.
func published(t *testing.T, program string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, program) }))
	t.Cleanup(s.Close)
	return s.URL + "/isthmus"
}

// written is the part of a configuration file that boots differ in.
type written struct {
	Cluster    struct{ Name, Cloud, Region, Zone string }
	Federation struct{ Listen, Advertise string }
	Gateway    struct {
		Name       string
		Advertise  []string
		Federation []string
		Listen     struct{ Link, Control, Admin string }
	}
}

// boots runs an instance's start script for real, in a folder in the place of /, and
// returns the configuration that it left, which the product has found valid.
func boots(t *testing.T, script, metadata string, env ...string) written {
	t.Helper()
	root := t.TempDir()
	out, err := bootsIn(t, root, script, metadata, env...)
	if err != nil {
		t.Fatalf("the start script: %v\n%s", err, out)
	}
	path := filepath.Join(root, "etc", "isthmus", "isthmus.yaml")
	if out, err := exec.Command(filepath.Join(root, "usr", "bin", "isthmus"), "validate", "-c", path).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "@") {
		t.Errorf("something was not filled in:\n%s", data)
	}
	if _, err := os.Readlink(filepath.Join(root, "etc/systemd/system/multi-user.target.wants/isthmus.service")); err != nil {
		t.Errorf("the unit is not enabled: %v\n%s", err, out)
	}
	var c written
	if err := yaml.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	// It can run again, as it does at each boot on Google Cloud.
	if out, err := bootsIn(t, root, script, metadata, env...); err != nil {
		t.Errorf("the start script, once more: %v\n%s", err, out)
	}
	return c
}

func bootsIn(t *testing.T, root, script, metadata string, env ...string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "boot")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", path)
	cmd.Env = append(bare(), append([]string{"ISTHMUS_ROOT=" + root, "ISTHMUS_METADATA=" + metadata}, env...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// cloudInit takes the start script out of user data.
func cloudInit(t *testing.T, userData string) string {
	t.Helper()
	if !strings.HasPrefix(userData, "#cloud-config\n") {
		t.Fatalf("no user data for cloud-init: %.40q", userData)
	}
	var data struct {
		WriteFiles []struct{ Path, Permissions, Content string } `yaml:"write_files"`
		Runcmd     [][]string
	}
	if err := yaml.Unmarshal([]byte(userData), &data); err != nil {
		t.Fatal(err)
	}
	if len(data.WriteFiles) != 1 || len(data.Runcmd) != 1 || data.Runcmd[0][0] != data.WriteFiles[0].Path {
		t.Fatalf("cloud-init does not run the one file that it writes: %+v", data)
	}
	return data.WriteFiles[0].Content
}
