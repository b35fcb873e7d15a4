package terraform_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// machine is the example one-machine: three clusters with a state each.
type machine struct {
	dir, net string
	clusters map[string]*folder
	join     *folder
}

func (m *machine) gateway(n int) string      { return fmt.Sprintf("%s.%d:7080", m.net, n) }
func (m *machine) folder(name string) string { return filepath.Join(m.dir, name) }

func newMachine(t *testing.T) *machine {
	t.Helper()
	example := filepath.Join(copied(t), "terraform", "examples", "one-machine")
	m := &machine{dir: base(t), net: network(t, 11, 12, 13), clusters: map[string]*folder{}}
	killed(t, m.dir)
	logs(t, m.dir)
	backends, err := json.Marshal(map[string]string{"west": billing(t, "west"), "north": billing(t, "north")})
	if err != nil {
		t.Fatal(err)
	}
	root := open(t, example, "TF_VAR_directory="+m.dir, "TF_VAR_network="+m.net, "TF_VAR_billing="+string(backends), "TF_VAR_program="+snapshot(t))
	root.init()
	for _, name := range []string{"east", "north", "west"} {
		root.run("workspace", "new", name)
		m.clusters[name] = root.with("TF_WORKSPACE=" + name)
	}
	m.join = open(t, filepath.Join(example, "join"), "TF_VAR_directory="+m.dir)
	m.join.init()
	return m
}

// each runs something for all clusters at once.
func (m *machine) each(f func(c *folder)) {
	var all []func()
	for _, c := range m.clusters {
		all = append(all, func() { f(c) })
	}
	parallel(all...)
}

// The module host for real: three clusters come up, calls cross them, a change is
// applied, a wrong one is not, one cluster goes and then all, and nothing is left.
func TestThreeClustersOnOneMachine(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	east, north, west := m.clusters["east"], m.clusters["north"], m.clusters["west"]

	// The CAs first: a federation looks for a bundle that was not there only twice a
	// minute.
	began := time.Now()
	m.each(func(c *folder) { c.apply("-target=module.host.terraform_data.ca") })
	m.each(func(c *folder) { c.apply() })
	m.join.apply()
	stand.Figure(t, "three clusters applied and joined in %s", time.Since(began).Round(100*time.Millisecond))
	answeredBy(t, m.gateway(11), "west")
	m.joinedByInvitation(t)

	m.each((*folder).emptyPlan)
	m.join.emptyPlan()

	load := stand.StartLoad(t.Context(), 20, 10*time.Second, func(ctx context.Context) (string, error) { return call(ctx, m.gateway(11)) })
	stop := load.Stop
	defer func() { stop() }()

	// A variable that one process has: it is started anew, the others go on.
	before := map[string]string{}
	for _, role := range []string{"ca", "federation", "gateway"} {
		before[role] = pid(t, m.folder("north"), role)
	}
	north = north.with("TF_VAR_access_log=all")
	m.clusters["north"] = north
	north.apply()
	north.emptyPlan()
	for role, old := range before {
		if now := pid(t, m.folder("north"), role); (now != old) != (role == "gateway") {
			t.Errorf("the %s of north was process %s and is %s", role, old, now)
		}
	}

	// A value that the process would not start with: it goes on with the last one.
	old := pid(t, m.folder("east"), "gateway")
	east.with("TF_VAR_access_log=sometimes").refused([]string{"apply", "-auto-approve"}, "gateway.access_log", "must be all, errors or off")
	if now := pid(t, m.folder("east"), "gateway"); now != old {
		t.Errorf("the gateway of east was process %s and is %s: a refused change must not touch it", old, now)
	}
	east.apply()
	east.emptyPlan()
	answeredBy(t, m.gateway(11), "west")

	// A whole cluster goes.
	gone := time.Now()
	west.destroy()
	answeredBy(t, m.gateway(11), "north")
	m.nothingLeft(t, "west", 13)
	time.Sleep(2 * time.Second) // load on what is left
	results := load.Stop()
	stop = func() stand.Results { return results }
	after := results.Between(gone, time.Now())
	stand.Figure(t, "%d calls while west was destroyed, %.2f %% answered (%v), longest gap %s", len(after), 100*after.Success(), after.Who(), after.LongestGap().Round(time.Millisecond))
	if after.Success() < 0.95 || after.Who()["north"] == 0 {
		t.Errorf("calls while west was destroyed: %v answered\n%s", after.Who(), after.Errors())
	}

	m.join.destroy()
	parallel(north.destroy, east.destroy)
	m.nothingLeft(t, "north", 12)
	m.nothingLeft(t, "east", 11)
	if left, err := os.ReadDir(m.dir); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

// joinedByInvitation looks at the pair that a token has joined.
func (m *machine) joinedByInvitation(t *testing.T) {
	t.Helper()
	stand.Eventually(t, patience, "north and west are peers", func() error {
		out, err := exec.Command(filepath.Join(m.folder("north"), "bin", "isthmus"), "peer", "list", "--json", "--api", filepath.Join(m.folder("north"), "run", "api.sock")).Output()
		if err != nil {
			return err
		}
		var peers []struct{ Name, State, Origin string }
		if err := json.Unmarshal(out, &peers); err != nil {
			return err
		}
		for _, p := range peers {
			if p.Name == "west" && p.State == "ok" && p.Origin == "api" {
				return nil
			}
		}
		return fmt.Errorf("peers of north: %+v", peers)
	})
}

// nothingLeft looks for what a cluster may have left: folder, processes, listeners.
func (m *machine) nothingLeft(t *testing.T, name string, host int) {
	t.Helper()
	if _, err := os.Stat(m.folder(name)); !os.IsNotExist(err) {
		t.Errorf("the folder of %s is left: %v", name, err)
	}
	if pids := processes(t, m.folder(name)); len(pids) > 0 {
		t.Errorf("processes of %s are left: %v", name, pids)
	}
	for _, port := range []int{7080, 7443, 7480, 7481, 7482, 7483} {
		if address := fmt.Sprintf("%s.%d:%d", m.net, host, port); !unused(address) {
			t.Errorf("something listens at %s still", address)
		}
	}
}

// A folder that is somebody else's is left alone, and says so.
func TestHostLeavesForeignFoldersAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(base(t), "theirs")
	write(t, filepath.Join(dir, "letter"), "dear\n")
	root := filepath.Join(copied(t), "terraform", "examples", "foreign")
	write(t, filepath.Join(root, "main.tf"), `
module "host" {
  source     = "../../modules/host"
  cluster    = { name = "east" }
  identity   = { trust_domain = "east.example.org" }
  ca         = {}
  program    = { path = %q }
  directory  = %q
  supervisor = "process"
}
`, snapshot(t), dir)
	f := open(t, root)
	f.init()
	f.refused([]string{"apply", "-auto-approve"}, dir+" is there and is not of isthmus-east")
	f.destroy()
	if data, err := os.ReadFile(filepath.Join(dir, "letter")); err != nil || string(data) != "dear\n" {
		t.Errorf("the letter is %q, %v", data, err)
	}
}
