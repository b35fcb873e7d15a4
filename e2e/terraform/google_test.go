package terraform_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// googleVersion is the version whose schema the npm package has.
const googleVersion = "6.50.0"

var resourceType = regexp.MustCompile(`(?m)^resource "(google_\w+)"`)

// googleSchema is the environment in which terraform finds hashicorp/google: a
// provider that has its published schema and no cloud behind it.
func googleSchema(t *testing.T) []string {
	t.Helper()
	source := filepath.Join(checkout, "e2e", "tools", "terraform-google")
	pkg := fetched(t, source)

	mirror := t.TempDir()
	bin := filepath.Join(mirror, "registry.terraform.io", "hashicorp", "google", googleVersion, runtime.GOOS+"_"+runtime.GOARCH, "terraform-provider-google_v"+googleVersion)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".")
	build.Dir = source
	build.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the provider: %v\n%s", err, out)
	}

	var types []string
	files, err := filepath.Glob(filepath.Join(checkout, "terraform", "*", "*", "*.tf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range resourceType.FindAllStringSubmatch(string(text), -1) {
			types = append(types, m[1])
		}
	}
	slices.Sort(types)
	from := map[string]string{"hashicorp/google": mirror}
	if dir, ok := mirrorOf("hashicorp/aws"); ok {
		from["hashicorp/aws"] = dir
	}
	t.Logf("ran against: the schema of hashicorp/google %s as published for the CDK, no cloud", googleVersion)
	return []string{providers(t, from), "ISTHMUS_GOOGLE_PACKAGE=" + pkg, "ISTHMUS_GOOGLE_TYPES=" + strings.Join(slices.Compact(types), ",")}
}

// fetched is the npm package, which is kept in the user's cache by what pins it.
func fetched(t *testing.T, source string) string {
	t.Helper()
	npm := tools.External(t, "npm", "it fetches the published schema of hashicorp/google: https://nodejs.org")
	lock, err := os.ReadFile(filepath.Join(source, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	cache := os.Getenv("ISTHMUS_CACHE")
	if cache == "" {
		if cache, err = os.UserCacheDir(); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(cache, "isthmus", "npm", fmt.Sprintf("%x", sha256.Sum256(lock))[:16])
	pkg := filepath.Join(dir, "node_modules", "@cdktf", "provider-google")
	if _, err := os.Stat(filepath.Join(pkg, "package.json")); err == nil {
		return pkg
	}
	// Fetched beside and moved in one step: another run may do the same.
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".fetch-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc"} {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(work, name), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), npm, "ci", "--no-progress")
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("npm cannot fetch the schema of hashicorp/google: %v\n%s", err, out)
		}
		t.Skipf("npm cannot fetch the schema of hashicorp/google: %v\n%s", err, out)
	}
	if err := os.Rename(work, dir); err != nil {
		if _, other := os.Stat(pkg); other != nil {
			t.Fatal(err)
		}
	}
	return pkg
}

// The lock file pins by digest, whichever registry serves.
func TestSchemaPackageIsPinnedWithoutAHost(t *testing.T) {
	t.Parallel()
	lock, err := os.ReadFile(filepath.Join(checkout, "e2e", "tools", "terraform-google", "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(lock), "://") || !strings.Contains(string(lock), `"integrity": "sha512-`) {
		t.Errorf("package-lock.json names a host, or has no digest:\n%s", lock)
	}
}

// installs has a module's tests install the program of this tree.
func installs(t *testing.T, f *folder) {
	t.Helper()
	program := snapshot(t)
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(f.dir, "tests", "*.tftest.hcl"))
	if err != nil || len(files) != 1 {
		t.Fatalf("tests: %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer("https://example.org/isthmus", published(t, program), strings.Repeat("0", 64), fmt.Sprintf("%x", sha256.Sum256(data))).Replace(string(text))
	write(t, files[0], "%s", changed)
}

// machineOf is the metadata server of a machine.
func machineOf(t *testing.T, name string) string {
	t.Helper()
	return metadata(t, map[string]string{
		"instance/zone": "projects/123456789012/zones/us-central1-a", "instance/name": name, "instance/network-interfaces/0/ip": "10.30.0.77",
	}).URL
}

// text reads an output.
func (r finished) text(t *testing.T, name string) string {
	t.Helper()
	var s string
	if err := json.Unmarshal(r.outputs[name], &s); err != nil {
		t.Fatalf("output %s: %v", name, err)
	}
	return s
}

func startsGateways(t *testing.T, runs map[string]finished) {
	t.Helper()
	script := runs["addresses"].text(t, "script")
	for _, name := range []string{"gw1", "gw2"} {
		c := boots(t, script, machineOf(t, "isthmus-gcp-us-central1-gateway-"+name))
		if c.Gateway.Name != name || c.Gateway.Advertise[0] != "198.51.100.7:7443" || c.Gateway.Listen.Control != "10.30.0.77:7482" ||
			c.Gateway.Federation[0] != "10.30.0.5:7483" || c.Cluster.Zone != "us-central1-a" || c.Gateway.Listen.Admin != "127.0.0.1:7481" {
			t.Errorf("the machine of %s became %+v", name, c)
		}
	}
	c := boots(t, runs["load_balancer"].text(t, "script"), machineOf(t, "isthmus-gcp-us-central1-gateway-gw3"))
	if c.Gateway.Name != "gw3" || c.Gateway.Listen.Admin != "10.30.0.77:7481" {
		t.Errorf("the machine behind the load balancer became %+v", c)
	}
	if said, err := bootsIn(t, t.TempDir(), script, machineOf(t, "stranger")); err == nil || !strings.Contains(said, "no gateway is meant for stranger") {
		t.Errorf("a machine of another name: %v\n%s", err, said)
	}
}

func startsFederation(t *testing.T, run finished) {
	t.Helper()
	var scripts map[string]string
	if err := json.Unmarshal(run.outputs["scripts"], &scripts); err != nil {
		t.Fatal(err)
	}
	c := boots(t, scripts["fed1"], machineOf(t, "isthmus-gcp-us-central1-federation-fed1"))
	if c.Federation.Listen != "10.30.0.77:7483" || c.Federation.Advertise != c.Federation.Listen || c.Cluster.Cloud != "gcp" {
		t.Errorf("the machine became %+v", c)
	}
}

// The modules for Google Cloud: their own tests, what their machines do when they
// start, and that what the schema does not know is refused.
func TestGoogleModules(t *testing.T) {
	t.Parallel()
	environment := googleSchema(t)
	for _, module := range []string{"gateway-gcp", "federation-gcp"} {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			f := open(t, filepath.Join(copied(t), "terraform", "modules", module), environment...)
			installs(t, f)
			f.init()
			f.run("validate")
			runs := passed(t, f)
			if module == "gateway-gcp" {
				startsGateways(t, runs)
			} else {
				startsFederation(t, runs["one"])
			}
		})
	}
	t.Run("mutations", func(t *testing.T) {
		t.Parallel()
		for name, m := range map[string]struct{ from, to, says string }{
			"unknown argument":  {"allow_stopping_for_update", "allow_stopping_for_updates", "Unsupported argument"},
			"unknown block":     {"attached_disk {", "attached_disks {", "Unsupported block type"},
			"wrong type":        {"size     = var.data_gib", "size     = [var.data_gib]", "Incorrect attribute value type"},
			"missing argument":  {"  machine_type              = var.machine_type\n", "", "Missing required argument"},
			"unknown attribute": {"google_service_account.federation.email", "google_service_account.federation.mail", "Unsupported attribute"},
			"unknown resource":  {`"google_compute_disk"`, `"google_compute_disc"`, "Invalid resource type"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := open(t, filepath.Join(copied(t), "terraform", "modules", "federation-gcp"), environment...)
				path := filepath.Join(f.dir, "main.tf")
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(text), m.from) {
					t.Fatalf("nothing to change: %q is not there", m.from)
				}
				write(t, path, "%s", strings.ReplaceAll(string(text), m.from, m.to))
				f.init()
				f.refused([]string{"validate"}, m.says)
			})
		}
	})
}
