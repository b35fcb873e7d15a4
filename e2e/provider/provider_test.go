package provider_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// everything has each kind of rule, and each field at least once.
const everything = `
resource "isthmus_peer" "west" {
  name      = "west"
  spiffe_id = "spiffe://west.test/isthmus/cluster/west"
  gateways  = ["127.0.0.1:1"]
  asserts   = ["spiffe://west.test/apps/*"]
  cloud     = "gcp"
  region    = "us-west1"
  bundle = {
    document = jsonencode({ keys = [], spiffe_sequence = 1 })
    endpoint = { url = "https://bundles.west.test/", profile = "https_web", ca_file = "/etc/ssl/west.pem" }
  }
  quota = { services = 100, updates_per_second = 5 }
}
resource "isthmus_export" "orders" {
  name          = "orders"
  services      = ["orders.shop"]
  to            = [isthmus_peer.west.name]
  subset_labels = ["version"]
}
resource "isthmus_import" "west" {
  name         = "from-west"
  from         = isthmus_peer.west.name
  services     = ["*.billing"]
  exclude      = ["secret.billing"]
  namespaces   = { billing = "money" }
  max_capacity = 1000
}
resource "isthmus_intention" "read" {
  name     = "read"
  services = ["orders.shop"]
  callers  = ["spiffe://west.test/apps/*", "spiffe://east.test/east/client"]
  action   = "allow"
  http = [
    { methods = ["GET"], path_prefix = "/v1/" },
    { path = "/", headers = [{ name = "X-Team", exact = "billing" }, { name = "X-Debug", present = true, invert = true }] },
  ]
}
resource "isthmus_traffic_policy" "orders" {
  name             = "orders"
  services         = ["orders.shop"]
  algorithm        = "least_request"
  clusters         = ["east", "west"]
  weights          = { east = 3, west = 0 }
  disable_failover = false
  panic_threshold  = 0
  retries          = 0
  health_check     = { type = "http", path = "/healthz", interval_ms = 2000 }
}
`

func TestEveryKindIsMadeReadChangedAndRemoved(t *testing.T) {
	w := federation(t)
	w.config(everything)
	w.apply()
	ctx := t.Context()
	imports, err := w.api.Imports().Get(ctx, "from-west")
	if err != nil || imports.MaxCapacity != 1000 || imports.Namespaces["billing"] != "money" || imports.Origin != resource.FromAPI {
		t.Errorf("the import is %+v, %v", imports, err)
	}
	traffic, err := w.api.TrafficPolicies().Get(ctx, "orders")
	if err != nil || traffic.Retries == nil || *traffic.Retries != 0 || traffic.PanicThreshold == nil || *traffic.PanicThreshold != 0 || traffic.Weights["west"] != 0 {
		t.Errorf("the traffic policy is %+v, %v: zeros that mean something are lost", traffic, err)
	}
	intention, err := w.api.Intentions().Get(ctx, "read")
	if err != nil || len(intention.HTTP) != 2 || !intention.HTTP[1].Headers[1].Invert {
		t.Errorf("the intention is %+v, %v", intention, err)
	}

	w.config(strings.Replace(everything, `"orders.shop"`, `"orders.shop", "carts.shop"`, 1))
	w.plan("isthmus_export.orders will be updated in-place", "1 to change, 0 to destroy")
	w.apply()
	w.config(strings.Replace(everything, `"from-west"`, `"taken"`, 1))
	w.plan("isthmus_import.west must be replaced")
	w.apply()

	if out, code := w.run("destroy", "-auto-approve", "-input=false", "-no-color"); code != 0 {
		t.Fatalf("destroy: %s", out)
	}
	exports, err := w.api.Exports().List(ctx)
	if err != nil || len(exports) != 0 {
		t.Errorf("left behind: %v, %v", exports, err)
	}
	peers, err := w.api.Peers().List(ctx)
	if err != nil || len(peers) != 0 {
		t.Errorf("left behind: %v, %v", peers, err)
	}
	said := 0
	for c, err := range w.api.History(client.HistoryFilter{Name: "orders"}).All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Reason == "terraform" {
			said++
		}
	}
	if said < 5 { // two made, one changed and changed back, two removed
		t.Errorf("the history has %d changes of orders with the reason terraform, want five and more", said)
	}
}

const export = `
resource "isthmus_export" "a" {
  name     = "a"
  services = ["a.default"]
  to       = ["*"]
}
`

func TestDriftIsSeenAndPutRight(t *testing.T) {
	w := federation(t)
	w.config(export)
	w.apply()
	ctx := t.Context()

	change := func(services ...policy.ServicePattern) {
		t.Helper()
		rule := resource.Export{Export: policy.Export{Name: "a", Services: services, To: []string{"*"}}}
		if _, err := w.api.Exports().Replace(ctx, "a", rule, "*", false); err != nil {
			t.Fatal(err)
		}
	}
	change("b.default")
	w.plan(`"b.default" -> "a.default"`)
	w.apply()

	if err := w.api.Exports().Delete(ctx, "a", "", false); err != nil {
		t.Fatal(err)
	}
	w.plan("isthmus_export.a will be created")
	w.apply()

	// What somebody changes between plan and apply is not overwritten.
	w.config(strings.Replace(export, "a.default", "c.default", 1))
	if out, code := w.run("plan", "-out=saved", "-input=false", "-no-color"); code != 0 {
		t.Fatal(out)
	}
	change("d.default")
	out, code := w.run("apply", "-input=false", "-no-color", "saved")
	if code == 0 {
		t.Fatalf("a plan that is out of date was applied: %s", out)
	}
	w.contains(out, "Somebody else has changed it since the plan: plan again.")
	if now, err := w.api.Exports().Get(ctx, "a"); err != nil || now.Services[0] != "d.default" {
		t.Errorf("the export is %+v, %v; want the other's change", now, err)
	}
	w.apply()
}

func TestImportTakesWhatIsThere(t *testing.T) {
	w := federation(t)
	if _, err := w.api.Exports().Create(t.Context(), resource.Export{Export: policy.Export{Name: "a", Services: []policy.ServicePattern{"a.default"}, To: []string{"*"}}}, false); err != nil {
		t.Fatal(err)
	}
	w.config(export)
	w.refused("Cannot create the export a", "terraform import isthmus_export.RESOURCE a")
	if out, code := w.run("import", "-input=false", "-no-color", "isthmus_export.a", "a"); code != 0 {
		t.Fatalf("import: %s", out)
	}
	w.nothing()
	if out, code := w.run("import", "-input=false", "-no-color", "isthmus_export.a", "none"); code == 0 {
		t.Errorf("an export that is not there was imported: %s", out)
	}
}

func TestBadInputNamesFieldValueAndRule(t *testing.T) {
	w := federation(t)
	w.config(strings.Replace(export, `"a.default"`, `"A_b"`, 1))
	w.plan("the federation would refuse it as things stand", "services[0]", "A_b")
	w.refused("Cannot create the export a", "services[0]", "A_b")
	w.config(strings.Replace(export, "to ", "two ", 1))
	w.refused(`An argument named "two" is not expected here`)

	w.config(export)
	w.write("wrong", "wrong\n")
	w.env = append(w.env, "ISTHMUS_TOKEN_FILE="+filepath.Join(w.dir, "wrong"))
	w.refused("401 Unauthorized")
	w.env = append(w.env, "ISTHMUS_TOKEN_FILE=")
	w.refused("token_file: is needed")
	w.env = append(w.env, "ISTHMUS_TOKEN_FILE="+filepath.Join(w.dir, "none"))
	w.refused("token_file:", "no such file")
	w.env = append(w.env, "ISTHMUS_API=http://192.0.2.1:7480", "ISTHMUS_TOKEN_FILE="+filepath.Join(w.dir, "wrong"))
	w.refused("must be a loopback address")
}

func TestPlanWarnsOfCallersThatWouldBeTurnedAway(t *testing.T) {
	w := federation(t)
	call := func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.http+"/v1/list", nil)
		if err != nil {
			return err
		}
		req.Host = "orders.shop.mesh"
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	}
	stand.Eventually(t, time.Minute, "a call is answered", call)
	caller := w.cluster.Caller()
	w.config(fmt.Sprintf("resource \"isthmus_intention\" \"none\" {\n  name = \"none\"\n  services = [\"orders.shop\"]\n  callers = [%q]\n  action = \"deny\"\n}\n", caller))
	stand.Eventually(t, time.Minute, "the plan names the caller", func() error {
		if err := call(); err != nil {
			return err
		}
		out, code := w.run("plan", "-input=false", "-no-color")
		if code != 0 || !strings.Contains(out, "callers would be turned away") || !strings.Contains(out, caller+" calls orders.shop") {
			return fmt.Errorf("exit %d: %s", code, out)
		}
		return nil
	})
}

func TestDataSourcesShowWhatTheFederationKnows(t *testing.T) {
	w := federation(t)
	w.config(`
data "isthmus_services" "shop" { namespace = "shop" }
data "isthmus_services" "none" { namespace = "none" }
data "isthmus_clusters" "all" {}
data "isthmus_explain" "orders" { service = "orders.shop" }
output "services" { value = [for s in data.isthmus_services.shop.services : "${s.name} ${s.ports[0].protocol} ${s.endpoints}"] }
output "none" { value = length(data.isthmus_services.none.services) }
output "clusters" { value = [for c in data.isthmus_clusters.all.clusters : "${c.name} ${c.own} ${c.state}"] }
output "goes" { value = "${data.isthmus_explain.orders.status} to ${data.isthmus_explain.orders.cluster}" }
output "mode" { value = jsondecode(data.isthmus_explain.orders.ledger).mode }
`)
	stand.Eventually(t, time.Minute, "the gateway has reported", func() error {
		out, code := w.run("apply", "-auto-approve", "-input=false", "-no-color")
		if code != 0 {
			return fmt.Errorf("apply: %s", out)
		}
		for _, want := range []string{`"orders.shop http 1"`, "none = 0", `"east true ok"`, `goes = "ok to east"`} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("the output has no %q:\n%s", want, out)
			}
		}
		return nil
	})
	w.config(`data "isthmus_explain" "x" { service = "No Name" }`)
	w.refused("No service has this name")
	if _, err := os.Stat(filepath.Join(w.dir, "terraform.tfstate")); err != nil {
		t.Error(err)
	}
}
