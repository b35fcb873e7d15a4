package arch_test

import (
	"go/ast"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// edge says what of this module the packages of one pattern may import. Where
// several patterns fit, the most precise holds. A package may always import its own
// path (its external tests do), and its tests may import what tests lists too.
type edge struct {
	from   string
	may    []string
	tests  []string
	reason string
}

var graph = []edge{
	{from: "internal/durable", reason: "the ground: how files are written knows nothing of what is in them"},
	{from: "internal/durable/crashtest", may: []string{"internal/durable"}, reason: "it crashes what is written, whatever that is"},
	{from: "internal/handover", reason: "the ground: how a process hands over what it holds open knows nothing of what that is"},
	{from: "internal/timerslack", reason: "the ground: how a process sleeps knows nothing of what it does"},
	{from: "internal/processors", reason: "the ground: how many processors a process has knows nothing of what it does"},
	{from: "discovery/catalog", reason: "the ground: values that every part speaks in rest on nothing"},
	{from: "discovery", may: []string{"discovery/catalog", "internal/durable"}, tests: []string{"discovery/..."}, reason: "the source contract knows values, not sources"},
	{from: "discovery/strictyaml", may: []string{"discovery/catalog"}, reason: "a leaf that every configuration is read by"},
	{from: "discovery/...", may: []string{"discovery", "discovery/catalog", "discovery/strictyaml"}, tests: []string{"discovery/..."}, reason: "a source reads one thing and publishes values by the contract; it knows no other source and no rule of federation"},
	{from: "discovery/consul/...", may: []string{"discovery", "discovery/catalog", "discovery/strictyaml", "discovery/consul/..."}, tests: []string{"discovery/..."}, reason: "what reads Consul and what writes to it reach an agent in one way; neither knows a rule of federation"},
	{from: "discovery/kubernetes/...", may: []string{"discovery", "discovery/catalog", "discovery/strictyaml", "discovery/kubernetes/..."}, tests: []string{"discovery/..."}, reason: "what reads a cluster and what writes to it reach an API server in one way; neither knows a rule of federation"},
	{from: "providers/aws/...", may: []string{"discovery", "discovery/catalog", "discovery/strictyaml", "providers/aws/..."}, tests: []string{"discovery/..."}, reason: "a provider is a source with a heavy SDK, in parts so that most of it compiles fast"},
	{from: "providers/metadata", may: []string{"discovery/catalog", "internal/durable"}, reason: "where a machine is, asked by plain HTTP: cmd/isthmus imports it, so it has no SDK"},
	{from: "providers/...", may: []string{"discovery", "discovery/catalog", "discovery/strictyaml"}, tests: []string{"discovery/...", "providers/..."}, reason: "a provider is a source with a heavy SDK, nothing more"},
	{from: "identity/...", may: []string{"identity/...", "internal/durable"}, reason: "identity decides who, never what or where"},
	{from: "federation/merge", may: []string{"discovery/catalog"}, reason: "merging is pure: catalogs in, one view out"},
	{from: "federation/policy", may: []string{"discovery/catalog"}, reason: "policy is values and pure evaluation"},
	{from: "federation/route", may: []string{"discovery/catalog", "federation/policy"}, reason: "a decision is a pure function of view, policy and evidence"},
	{from: "federation/...", may: []string{"discovery/...", "identity/...", "federation/...", "internal/durable"}, reason: "control plane and data plane meet in cmd only"},
	{from: "gateway/wire", reason: "the wire format rests on the standard library, so that it is fuzzed and read alone"},
	{from: "gateway/tunnel/...", may: []string{"gateway/wire", "gateway/tunnel/...", "identity/..."}, reason: "a link carries streams for an identity and knows no service"},
	{from: "gateway/...", may: []string{"discovery/catalog", "discovery/strictyaml", "identity/...", "federation/policy", "federation/route", "gateway/...", "internal/durable", "internal/handover"}, reason: "a gateway takes pure decisions from federation; the two meet in cmd only"},
	{from: "cmd/...", may: []string{"cmd/...", "gateway/...", "federation/...", "providers/...", "identity/...", "discovery/...", "internal/handover", "internal/timerslack", "internal/processors"}, reason: "commands wire the product; test code is no part of it"},
	{from: "e2e/...", may: []string{"..."}, reason: "scenarios see everything"},
}

// support is what any test may import: it finds the real parts that tests run
// against, and ends processes while they write.
var support = []string{"e2e/tools", "internal/durable/crashtest"}

// floors, from the ground. No import runs upward, whatever the graph says.
var floors = [][]string{
	{"internal/..."},
	{"discovery/...", "identity/..."},
	{"federation/...", "providers/..."},
	{"gateway/..."},
	{"cmd/..."},
	{"e2e/..."},
}

// only says where an import of others may appear in the product. Scenarios and
// tests may use anything: they are often the other side.
type only struct {
	imports string // this path and those below it
	except  string // but not this one
	in      []string
	reason  string
}

var confined = []only{
	{imports: "github.com/quic-go/quic-go", in: []string{"gateway/tunnel/..."}, reason: "one package knows the transport, so that a second lane or library changes one package"},
	{imports: "github.com/spiffe/go-spiffe/v2", except: "github.com/spiffe/go-spiffe/v2/spiffeid", in: []string{"identity/..."}, reason: "one package builds TLS configurations, so that no second one forgets a check"},
	{imports: "github.com/hashicorp/consul/api", in: []string{"discovery/consul/..."}, reason: "one package knows the rules of blocking queries"},
	{imports: "k8s.io", in: []string{"discovery/kubernetes/..."}, reason: "one folder knows how an API server is followed"},
	{imports: "github.com/aws/aws-sdk-go-v2/service/ec2", in: []string{"providers/aws/ec2"}, reason: "it takes minutes to compile, so one package waits for it"},
	{imports: "github.com/aws", in: []string{"providers/aws/..."}, reason: "a cloud's SDK stays in its provider"},
	{imports: "github.com/spf13/cobra", in: []string{"cmd/..."}, reason: "libraries have no command line"},
}

// pure lists packages that take time, randomness and data as arguments.
var pure = []string{
	"discovery/catalog", "federation/merge", "federation/policy", "federation/route", "federation/start",
	"gateway/wire", "gateway/tunnel/liveness",
}

// impureImports is what they may not import, and impureUses what they may not
// use of a package that has a pure part.
var (
	impureImports = []string{"os", "os/exec", "syscall", "log/slog", "crypto/rand", "math/rand"}
	impureUses    = map[string][]string{
		"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"},
		"net":  {"Dial", "DialTimeout", "Dialer", "Listen", "ListenPacket", "ListenConfig", "Resolver", "LookupHost", "LookupIP", "LookupAddr", "Interfaces"},
		"http": {"Client", "Transport", "RoundTripper", "Server", "Handler", "Get", "Post", "DefaultClient", "DefaultTransport"},
	}
)

// standalone lists packages that import nothing but the standard library and
// what is named.
var standalone = map[string][]string{
	"discovery/catalog": {"github.com/spiffe/go-spiffe/v2/spiffeid"},
	"gateway/wire":      nil,
}

// light lists commands and what must be nowhere below them.
var light = map[string][]string{
	"cmd/isthmus": {"github.com/aws/", "cloud.google.com/", "google.golang.org/api/", "k8s.io/"},
}

// pending lists what the design names and nobody has built yet. A name leaves
// this list with its package's first file.
var pending = []string{}

func TestImportsFollowTheGraph(t *testing.T) {
	for _, f := range goFiles(t) {
		e, ok := edgeOf(f.dir)
		if !ok {
			t.Errorf("%s: no rule says what %s may import; add one to graph", f.path, f.dir)
			continue
		}
		for _, imp := range f.ours() {
			allowed := imp == f.dir || withinAny(imp, e.may) || f.test && (slices.Contains(support, imp) || withinAny(imp, e.tests))
			if !allowed || !f.test && floor(imp) > floor(f.dir) {
				t.Errorf("%s imports %s: %s", f.path, imp, e.reason)
			}
		}
	}
}

// edgeOf returns the rule with the longest path; of "p" and "p/..." the former.
func edgeOf(dir string) (edge, bool) {
	var best edge
	length := -1
	for _, e := range graph {
		tree, whole := strings.CutSuffix(e.from, "/...")
		n := 2 * len(tree)
		if !whole {
			n++
		}
		if within(dir, e.from) && n > length {
			best, length = e, n
		}
	}
	return best, length >= 0
}

func floor(dir string) int {
	return slices.IndexFunc(floors, func(floor []string) bool { return withinAny(dir, floor) })
}

func TestGraphAllowsNothingUpward(t *testing.T) {
	for _, e := range graph {
		from := floor(strings.TrimSuffix(e.from, "/..."))
		if from < 0 {
			t.Errorf("%s is on no floor", e.from)
		}
		for _, to := range slices.Concat(e.may, e.tests) {
			if to != "..." && floor(strings.TrimSuffix(to, "/...")) > from {
				t.Errorf("the rule for %s allows %s, which lies above it", e.from, to)
			}
		}
	}
}

func TestDependenciesStayWhereTheyBelong(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || within(f.dir, "e2e/...") {
			continue
		}
		for _, imp := range f.imports {
			for _, c := range confined {
				if within(imp, c.imports+"/...") && imp != c.except && !withinAny(f.dir, c.in) {
					t.Errorf("%s imports %s: %s", f.path, imp, c.reason)
				}
			}
			if others, ok := standalone[f.dir]; ok && strings.Contains(imp, ".") && !slices.Contains(others, imp) {
				t.Errorf("%s imports %s: the package stands on the standard library and %v", f.path, imp, others)
			}
		}
	}
}

func TestDecisionsArePure(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || !slices.Contains(pure, f.dir) {
			continue
		}
		for _, imp := range f.imports {
			if slices.Contains(impureImports, imp) {
				t.Errorf("%s imports %s: decisions take time, randomness and data as arguments, so that they can be replayed", f.path, imp)
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && slices.Contains(impureUses[pkg.Name], sel.Sel.Name) {
				t.Errorf("%s uses %s.%s: the world is an argument, not a call", f.path, pkg.Name, sel.Sel.Name)
			}
			return true
		})
	}
}

func TestCommandsStayLight(t *testing.T) {
	for command, heavy := range light {
		out, err := goCommand(t, "list", "-deps", "./"+command)
		if err != nil {
			t.Errorf("dependencies of %s: %v", command, err)
			continue
		}
		for dep := range strings.Lines(out) {
			for _, prefix := range heavy {
				if strings.HasPrefix(dep, prefix) {
					t.Errorf("%s depends on %s: it builds in a minute and holds no cloud credentials; heavy SDKs belong to cmd/isthmus-source", command, strings.TrimSpace(dep))
				}
			}
		}
	}
}

func goCommand(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Stderr = root, t.Output()
	out, err := cmd.Output()
	return string(out), err
}

func TestRulesNamePackagesThatExist(t *testing.T) {
	named := slices.Concat(pure, pending)
	for _, e := range graph {
		named = append(named, e.from)
		named = append(named, e.may...)
	}
	for _, c := range confined {
		named = append(named, c.in...)
	}
	for command := range light {
		named = append(named, command)
	}
	slices.Sort(named)

	dirs := map[string]bool{}
	for _, f := range goFiles(t) {
		dirs[f.dir] = true
	}
	for _, name := range slices.Compact(named) {
		exists := false
		for dir := range dirs {
			exists = exists || within(dir, name)
		}
		switch waits := slices.Contains(pending, name); {
		case !exists && !waits:
			t.Errorf("a rule names %s, which does not exist: rename it there too", name)
		case exists && waits:
			t.Errorf("%s exists: take it off the pending list", name)
		}
	}
}

// The linter has the same graph for editors. It names its rules after the
// packages, so that a rule missing there is seen here.
func TestLinterKnowsTheGraph(t *testing.T) {
	config, err := os.ReadFile(filepath.Join(root, ".golangci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range graph {
		if e.from == "e2e/..." {
			continue // allowed everything
		}
		name := strings.Replace(e.from, "/...", "/*", 1) // its keys hold no dots
		if !strings.Contains(string(config), "\n        "+name+":\n") {
			t.Errorf(".golangci.yml has no depguard rule %q", name)
		}
	}
}
