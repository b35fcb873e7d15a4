package release_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

func TestImageIsReadByOthersAndRunsAsNobody(t *testing.T) {
	b := release(t)
	skopeo, umoci := tools.Command(t, "skopeo"), tools.Command(t, "umoci")
	archive := b.file(t, "isthmus_"+version+"_image.tar")
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	run(t, skopeo, "copy", "--quiet", "--insecure-policy", "oci-archive:"+archive+":"+version, "oci:"+layout+":"+version)

	var seen struct {
		Config struct {
			User       string
			Entrypoint []string
			Labels     map[string]string
		}
		Architecture string
	}
	if err := json.Unmarshal([]byte(run(t, skopeo, "inspect", "--config", "oci-archive:"+archive+":"+version)), &seen); err != nil {
		t.Fatal(err)
	}
	if seen.Config.User != "65532:65532" || !slices.Equal(seen.Config.Entrypoint, []string{"/usr/bin/isthmus"}) || seen.Architecture != "amd64" || seen.Config.Labels["org.opencontainers.image.version"] != version {
		t.Errorf("the configuration is %+v", seen)
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: the image is unpacked with its users, which only root can")
	}
	bundle := filepath.Join(dir, "bundle")
	run(t, umoci, "unpack", "--image", layout+":"+version, bundle)
	root := filepath.Join(bundle, "rootfs")
	entries, err := os.ReadDir(filepath.Join(root, "usr", "bin"))
	if err != nil {
		t.Fatal(err)
	}
	var programs []string
	for _, e := range entries {
		programs = append(programs, e.Name())
	}
	if !slices.Equal(programs, []string{"isthmus", "isthmus-source"}) {
		t.Errorf("the image holds the programs %v", programs)
	}
	inside := func(args ...string) string {
		script := `mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && root=$1 && shift && exec chroot --userspec=65532:65532 "$root" "$@"`
		return run(t, tools.Command(t, "unshare"), append([]string{"--mount", "--net", "--propagation", "private", "sh", "-ec", script, "sh", root}, args...)...)
	}
	for _, program := range programs {
		if out := inside("/usr/bin/"+program, "version"); !strings.Contains(out, "v"+version) {
			t.Errorf("%s version in the image: %s", program, out)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "openssl", "crl2pkcs7", "-nocrl", "-certfile", filepath.Join(root, "etc/ssl/certs/ca-certificates.crt")).CombinedOutput(); err != nil {
		t.Errorf("the image's authorities: %v: %s", err, out)
	}
	for path, mode := range map[string]string{"tmp": "dtrwxrwxrwx", "var/lib/isthmus": "drwx------", "run/isthmus": "drwxr-xr-x"} {
		if info, err := os.Stat(filepath.Join(root, path)); err != nil || info.Mode().String() != mode {
			t.Errorf("%s: %v, %v; want %s", path, info.Mode(), err, mode)
		}
	}
	info, err := os.Stat(archive)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("figure: the image has %.1f MB", float64(info.Size())/1e6)
}

// run returns what a program prints, and fails the test where it fails.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}
