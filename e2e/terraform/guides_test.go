package terraform_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

var (
	namedFile = regexp.MustCompile("(?s)`([a-z.]+)`:\n\n```hcl\n(.*?)```")
	commands  = regexp.MustCompile("(?s)```sh\n(.*?)```")
)

// guide reads a guide: its files, and its blocks of commands.
func guide(t *testing.T, name string) (files map[string]string, blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(checkout, "docs", "guides", name))
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for _, m := range namedFile.FindAllStringSubmatch(string(text), -1) {
		files[m[1]] = m[2]
	}
	for _, m := range commands.FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, m[1])
	}
	return files, blocks
}

// host is a machine that is reached by ssh: this one.
type host struct{ options string }

// sshd serves the shell of this user on loopback, with keys of its own.
func sshd(t *testing.T) host {
	t.Helper()
	server, keygen := tools.Command(t, "sshd"), tools.Command(t, "ssh-keygen")
	tools.Command(t, "ssh")
	dir := base(t)
	for _, name := range []string{"host", "user"} {
		if out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	at := stand.FreePort(t)
	public := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	write(t, filepath.Join(dir, "authorized"), "%s", public("user"))
	write(t, filepath.Join(dir, "known"), "[127.0.0.1]:%d %s", at.Port(), public("host"))
	if os.Geteuid() == 0 {
		// sshd refuses to start as root without the folder of its unprivileged child
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "config"), `ListenAddress %s
HostKey %s/host
AuthorizedKeysFile %s/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
`, at, dir, dir)
	p := stand.NewProcess(t, t.TempDir(), "sshd", server, "-D", "-e", "-f", filepath.Join(dir, "config"))
	p.Start()
	options := []string{"-F", "none", "-p", fmt.Sprint(at.Port()), "-i", filepath.Join(dir, "user"), "-o", "UserKnownHostsFile=" + filepath.Join(dir, "known"), "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"}
	stand.Eventually(t, patience, "sshd answers", func() error {
		return exec.Command("ssh", append(append([]string{"-o", "BatchMode=yes"}, options...), login(t), "true")...).Run()
	})
	var quoted []string
	for _, o := range options {
		quoted = append(quoted, fmt.Sprintf("%q", o))
	}
	return host{options: strings.Join(quoted, ", ")}
}

func login(t *testing.T) string {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return me.Username + "@127.0.0.1"
}

// The guide for a data centre behind NAT, over ssh: its files and commands, with this
// machine in the place of both hosts.
func TestGuideOnPremisesBehindNAT(t *testing.T) {
	t.Parallel()
	files, blocks := guide(t, "on-premises-nat.md")
	if len(files) != 1 || len(blocks) != 3 {
		t.Fatalf("the guide has %d files and %d blocks of commands", len(files), len(blocks))
	}
	open(t, ".") // ends here where there is no terraform
	h := sshd(t)
	dir, net, ledger := base(t), network(t, 21, 22), billing(t, "ledger of dc1")
	killed(t, dir)
	logs(t, dir)
	at := func(cluster string, n int) string {
		return fmt.Sprintf("ssh = { destination = %q, options = [%s] }\n  directory = %q\n  supervisor = \"process\"\n  bind = \"%s.%d\"", login(t), h.options, filepath.Join(dir, cluster), net, n)
	}
	text := strings.NewReplacer(
		"github.com/isthmus-mesh/isthmus//terraform/modules/", "../../modules/",
		`ssh      = { destination = "root@hub.example.org" }`, at("hub", 21),
		`ssh      = { destination = "root@dc1.corp.example.org" }`, at("dc1", 22),
		"hub.example.org:7443", net+".21:7443",
		"127.0.0.1:7080", net+".21:7080",
		"./isthmus", snapshot(t),
		"10.1.2.3:8080", ledger,
		`"/opt/isthmus/etc/files/catalog.yaml" } }`, fmt.Sprintf(`%q }, allow = ["127.0.0.0/8"] }`, filepath.Join(dir, "dc1", "etc", "files", "catalog.yaml")),
	).Replace(files["main.tf"])
	for _, left := range []string{"/opt/isthmus", "root@hub", "root@dc1", "github.com"} {
		if strings.Contains(text, left) {
			t.Fatalf("the guide's file is not wholly put on this machine: it has %q", left)
		}
	}
	root := filepath.Join(copied(t), "terraform", "examples", "guide")
	write(t, filepath.Join(root, "main.tf"), "%s", text)
	f := open(t, root)
	began := time.Now()
	for line := range strings.Lines(blocks[0]) {
		args := strings.Fields(line)
		if args[0] != "terraform" {
			t.Fatalf("the guide runs %q", line)
		}
		if args[1] == "apply" {
			args = append(args, "-auto-approve")
		}
		f.run(args[1:]...)
	}
	stand.Figure(t, "two hosts over ssh, applied and joined in %s", time.Since(began).Round(100*time.Millisecond))
	f.emptyPlan()

	run := func(block string, replace ...string) string {
		var out []byte
		stand.Eventually(t, patience, block, func() error {
			var err error
			out, err = exec.Command("/bin/sh", "-c", strings.NewReplacer(replace...).Replace(block)).CombinedOutput()
			if err == nil && !strings.Contains(string(out), "ledger of dc1") && !strings.Contains(string(out), "  up ") {
				err = fmt.Errorf("%s", out)
			}
			return err
		})
		return string(out)
	}
	run(blocks[2], "127.0.0.1:7080", net+".21:7080")
	if out := run(blocks[1], "/opt/isthmus", filepath.Join(dir, "dc1")); !strings.Contains(out, "hub") {
		t.Errorf("status in the data centre: %s", out)
	}
	f.destroy()
	for _, cluster := range []string{"hub", "dc1"} {
		if _, err := os.Stat(filepath.Join(dir, cluster)); !os.IsNotExist(err) {
			t.Errorf("the folder of %s is left: %v", cluster, err)
		}
	}
	if left := processes(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// The guide from AWS to Google Cloud: its variables are what the example takes, with
// the clouds' answers made up, and its commands are such.
func TestGuideAWSToGCP(t *testing.T) {
	t.Parallel()
	files, blocks := guide(t, "aws-to-gcp.md")
	for _, block := range blocks {
		if out, err := exec.Command("bash", "-n", "-c", block).CombinedOutput(); err != nil {
			t.Errorf("no commands: %v: %s\n%s", err, out, block)
		}
	}
	environment := googleSchema(t)
	f := open(t, filepath.Join(copied(t), "terraform", "examples", "aws-and-gcp"), environment...)
	path := filepath.Join(f.dir, "tests", "example.tftest.hcl")
	test, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(string(test), "\nvariables {\n")
	_, after, end := strings.Cut(after, "\n}\n")
	if !ok || !end {
		t.Fatal("the example's test has no variables to leave out")
	}
	write(t, path, "%s\n%s", before, after)
	write(t, filepath.Join(f.dir, "terraform.tfvars"), "%s", files["terraform.tfvars"])
	f.initOrSkip()
	passed(t, f)
}
