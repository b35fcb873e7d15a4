package terraform_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// mirrors are where a machine without the registry keeps providers.
var mirrors = []string{
	"/opt/*", "/opt/*/*", "/usr/share/terraform/*", "/usr/local/share/terraform/*", "/usr/lib/terraform/*", "/var/lib/terraform/*",
	"$HOME/.terraform.d/*", "$HOME/.local/share/terraform/*", "$TF_PLUGIN_CACHE_DIR",
}

// mirrorOf returns a folder that holds a provider as registry host, namespace, name.
func mirrorOf(provider string) (string, bool) {
	for _, pattern := range mirrors {
		found, _ := filepath.Glob(filepath.Join(os.ExpandEnv(pattern), "*", provider)) // a bad pattern finds nothing
		if len(found) > 0 {
			return filepath.Dir(filepath.Dir(filepath.Dir(found[0]))), true
		}
	}
	return "", false
}

// providers writes a configuration of the command line by which the named providers
// come from folders, and all others from where terraform gets them.
func providers(t *testing.T, from map[string]string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("disable_checkpoint = true\nprovider_installation {\n")
	var names []string
	for name, dir := range from {
		fmt.Fprintf(&b, "  filesystem_mirror {\n    path    = %q\n    include = [%q]\n  }\n", dir, name)
		names = append(names, fmt.Sprintf("%q", name))
	}
	slices.Sort(names)
	fmt.Fprintf(&b, "  direct {\n    exclude = [%s]\n  }\n}\n", strings.Join(names, ", "))
	path := filepath.Join(t.TempDir(), "providers.tfrc")
	write(t, path, "%s", b.String())
	return "TF_CLI_CONFIG_FILE=" + path
}

// realAWS is the environment in which the real provider is found, or fetched where
// terraform can.
func realAWS(t *testing.T) string {
	t.Helper()
	if dir, ok := mirrorOf("hashicorp/aws"); ok {
		return providers(t, map[string]string{"hashicorp/aws": dir})
	}
	t.Log("no filesystem mirror with hashicorp/aws is here: terraform fetches it")
	return providers(t, nil)
}

// moto serves the AWS APIs that it imitates on loopback.
func moto(t *testing.T) string {
	t.Helper()
	bin := tools.External(t, "moto_server", "it serves imitated AWS APIs: pip install 'moto[server]'")
	a := stand.FreePort(t)
	p := stand.NewProcess(t, t.TempDir(), "moto", bin, "-H", a.Addr().String(), "-p", fmt.Sprint(a.Port()))
	p.Start()
	url := "http://" + a.String()
	stand.Eventually(t, patience, "moto answers", func() error {
		_, err := stand.Get(url + "/moto-api/")
		return err
	})
	return url
}

// account asks moto by the real AWS command line.
type account struct {
	t        *testing.T
	bin, url string
}

func (a *account) env() []string {
	return []string{"AWS_ENDPOINT_URL=" + a.url, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER="}
}

func (a *account) ask(into any, args ...string) {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), a.bin, append(args, "--output", "json")...)
	cmd.Env = append(bare(), a.env()...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		a.t.Fatalf("aws %s: %v: %s", strings.Join(args, " "), err, &stderr)
	}
}

// outputs reads those of a root.
func outputs(f *folder, into any) {
	f.t.Helper()
	if err := json.Unmarshal([]byte(f.run("output", "-json")), into); err != nil {
		f.t.Fatal(err)
	}
}

type awsOutputs struct {
	Addresses, Balanced struct{ Value gatewayOutputs }
	Federation          struct {
		Value struct {
			ID            string              `json:"id"`
			MeshAddresses []string            `json:"mesh_addresses"`
			CloudInit     map[string]string   `json:"cloud_init"`
			SecurityGroup struct{ ID string } `json:"security_group"`
		}
	}
}

type gatewayOutputs struct {
	Gateways        []string
	GatewayIDs      map[string]string `json:"gateway_ids"`
	SecurityGroupID string            `json:"security_group_id"`
	Group           string            `json:"autoscaling_group_name"`
	CloudInit       string            `json:"cloud_init"`
}

// All modules for AWS, by the real provider, against moto: what is made, that it
// stays as it is, what its instances do when they start, that it all goes.
func TestAWSModules(t *testing.T) {
	t.Parallel()
	environment := realAWS(t)
	cli := tools.External(t, "aws", "the AWS command line asks moto what was made: https://aws.amazon.com/cli")
	url := moto(t)
	program := snapshot(t)
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	install, err := json.Marshal(map[string]string{"url": published(t, program), "sha256": fmt.Sprintf("%x", sha256.Sum256(data))})
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(copied(t), "terraform", "roots", "aws")
	if err := os.CopyFS(root, os.DirFS(filepath.Join("testdata", "aws"))); err != nil {
		t.Fatal(err)
	}
	f := open(t, root, environment, "TF_VAR_endpoint="+url, "TF_VAR_install="+string(install))
	f.initOrSkip()
	t.Logf("ran against: %s, moto, the real AWS command line", strings.Join(strings.Fields(f.run("version")), " "))
	began := time.Now()
	f.apply() // it validates first
	stand.Figure(t, "modules for AWS applied in %s", time.Since(began).Round(time.Second))

	var out awsOutputs
	outputs(f, &out)
	in := func(t *testing.T) *account { return &account{t: t, bin: cli, url: url} }
	t.Run("what is open", func(t *testing.T) { in(t).opensOnlyThePort(t, &out) })
	t.Run("instances", func(t *testing.T) { in(t).hasInstances(t, &out) })
	t.Run("start of an instance with an address", func(t *testing.T) { in(t).bootsWithAddress(t, out.Addresses.Value) })
	t.Run("start of an instance of a zone", func(t *testing.T) { bootsInZone(t, out.Balanced.Value) })
	t.Run("start of a federation", func(t *testing.T) {
		for replica, userData := range out.Federation.Value.CloudInit {
			m := metadata(t, map[string]string{"placement/availability-zone-id": "use1-az6", "local-ipv4": "10.20.1.77", "instance-id": "i-0123456789abcdef0"})
			c := boots(t, cloudInit(t, userData), m.URL)
			if c.Federation.Advertise != "10.20.1.77:7483" || len(out.Federation.Value.MeshAddresses) != 2 || c.Cluster.Zone != "use1-az6" || c.Cluster.Cloud != "aws" {
				t.Errorf("replica %s: %+v", replica, c)
			}
		}
	})
	// What moto does not tell as it was made; Terraform reads it so, and would repeat it.
	f.changesNothingBut(map[string][]string{
		"module.balanced.aws_lb.gateway[0]":           {"subnet_mapping", "subnets"}, // Elastic IPs of a load balancer
		`module.federation.aws_instance.replica["a"]`: {"vpc_security_group_ids"},    // groups of an instance with an address
		`module.federation.aws_instance.replica["b"]`: {"vpc_security_group_ids"},
	})
	f.destroy()
	if state := f.run("state", "list"); strings.TrimSpace(state) != "" {
		t.Errorf("left in the state: %s", state)
	}
	var groups struct{ SecurityGroups []struct{ GroupName string } }
	in(t).ask(&groups, "ec2", "describe-security-groups", "--filters", "Name=group-name,Values=isthmus-*")
	if len(groups.SecurityGroups) > 0 {
		t.Errorf("left in the account: %+v", groups)
	}
}
