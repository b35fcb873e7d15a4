package aws_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	sdtypes "github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/providers/aws"
	"github.com/isthmus-mesh/isthmus/providers/aws/account"
	"github.com/isthmus-mesh/isthmus/providers/aws/awstest"
	"github.com/isthmus-mesh/isthmus/providers/aws/cloudmap"
)

// elsewhere is the same world in another region, or with other credentials.
func (w *world) elsewhere(change func(*awssdk.Config)) *world {
	o := &world{t: w.t, name: w.name, region: w.region, proxy: w.proxy, admin: w.admin.Copy(), account: w.account, alias: w.alias}
	change(&o.admin)
	o.region = o.admin.Region
	return o
}

// A region that cannot be read keeps what was known of it, is told of, and holds up
// nobody; at the start it holds up all, since what it has is not known.
func TestARegionThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	far := w.elsewhere(func(c *awssdk.Config) { c.Region = "eu-west-1" })
	here, there := cloudMap(w), cloudMap(far)
	a := here.account
	a.Regions = []string{region, "eu-west-1"}
	here.set(discoverytest.Content{"web": {"10.0.0.1:80"}})
	there.set(discoverytest.Content{"web": {"10.1.0.1:80"}})
	registry := prometheus.NewRegistry()
	s, err := aws.New(aws.Options{Name: "aws", Config: w.config(a), Registerer: registry, CallTimeout: quickTimeout, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	down := awstest.On(awstest.Region("eu-west-1"), awstest.Throttled())
	w.proxy.Fail(down)
	r := start(t, s)
	r.until("the failure is told", func() bool { return r.trouble() != nil })
	if r.count() > 0 {
		t.Errorf("published %v before every region was read", discoverytest.ContentOf(r.last()))
	}
	w.proxy.Fail(nil)
	both := discoverytest.Content{"web": {"10.0.0.1:80", "10.1.0.1:80"}}
	r.await("both regions", func(s *catalog.Snapshot) bool { return discoverytest.ContentOf(s).String() == both.String() })

	w.proxy.Fail(down)
	r.until("the failure is told", func() bool { return r.trouble() != nil })
	if text := r.trouble().Error(); !strings.Contains(text, "test/eu-west-1/cloud-map") || strings.Contains(text, "test/us-east-1") {
		t.Errorf("the error names not what failed: %s", text)
	}
	here.set(discoverytest.Content{"web": {"10.0.0.2:80"}, "orders": {"10.0.0.5:82"}})
	r.await("the change here beside what was known there", func(s *catalog.Snapshot) bool {
		return discoverytest.ContentOf(s).String() == discoverytest.Content{"web": {"10.0.0.2:80", "10.1.0.1:80"}, "orders": {"10.0.0.5:82"}}.String()
	})
	// Nothing is said to be read anew while a part is not: the guard counts it.
	n := r.count()
	time.Sleep(time.Second)
	if r.count() != n {
		t.Errorf("published %d snapshots without a change while a region fails", r.count()-n)
	}
	before, _ := s.LastRead()
	w.proxy.Fail(nil)
	r.until("no trouble", func() bool { at, err := s.LastRead(); return err == nil && at.After(before) })
	r.until("the whole is told to be read anew", func() bool { return r.count() > n })

	for name, want := range map[string]int{"isthmus_aws_throttled_total": 1, "isthmus_aws_reads_total": 2, "isthmus_aws_age_seconds": 2} {
		if n, err := testutil.GatherAndCount(registry, name); err != nil || n != want {
			t.Errorf("%s has %d series, want %d: %v", name, n, want, err)
		}
	}
	if got := throttledUnits(t, registry); !slices.Equal(got, []string{"test/eu-west-1/cloud-map"}) {
		t.Errorf("failed for being throttled: %v", got)
	}
}

// throttledUnits are those that failed for that reason.
func throttledUnits(t *testing.T, registry *prometheus.Registry) (units []string) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "isthmus_aws_failures_total" && labels["reason"] == account.Throttled {
				units = append(units, labels["account"]+"/"+labels["region"]+"/"+labels["kind"])
			}
		}
	}
	return units
}

// Other accounts are read by roles, each with its external id.
func TestAccountsByRole(t *testing.T) {
	t.Parallel()
	const role, external = "arn:aws:iam::222222222222:role/isthmus-read", "shared-word:7"
	w := newWorld(t)
	out, err := sts.NewFromConfig(w.admin).AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: awssdk.String(role), RoleSessionName: awssdk.String("admin")})
	if err != nil {
		t.Fatal(err)
	}
	other := w.elsewhere(func(c *awssdk.Config) {
		c.Credentials = credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken)
	})
	own, theirs := cloudMap(w), cloudMap(other)
	own.set(discoverytest.Content{"web": {"10.0.0.1:80"}})
	theirs.set(discoverytest.Content{"web": {"10.2.0.1:80"}, "orders": {"10.2.0.5:82"}})
	b := theirs.account
	b.Name, b.Role = "other", &account.Role{ARN: role, ExternalID: external}
	c := w.config(own.account)
	c.Accounts = append(c.Accounts, b)

	var mu sync.Mutex
	var asked []url.Values
	w.proxy.Fail(func(_ *awstest.Proxy, _ http.ResponseWriter, r *http.Request, call awstest.Call) bool {
		if call.Action == "AssumeRole" {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			form, _ := url.ParseQuery(string(body))
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, form)
		}
		return false
	})
	r := start(t, w.source(c))
	r.await("both accounts", func(s *catalog.Snapshot) bool {
		return discoverytest.ContentOf(s).String() == discoverytest.Content{"web": {"10.0.0.1:80", "10.2.0.1:80"}, "orders": {"10.2.0.5:82"}}.String()
	})
	for _, e := range r.last().Get(catalog.MustServiceName("web")).Endpoints {
		account, _, _ := strings.Cut(e.ID, "/")
		if want := map[string]string{"10.0.0.1:80": "test", "10.2.0.1:80": "other"}[e.Address.String()]; account != want {
			t.Errorf("endpoint %s has the id %s", e.Address, e.ID)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 1 || asked[0].Get("ExternalId") != external || asked[0].Get("RoleArn") != role || asked[0].Get("RoleSessionName") != "isthmus" {
		t.Errorf("assumed %v", asked)
	}
}

// Credentials that end are had anew from their file, and no secret is told.
func TestCredentialsAreReadAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := cloudMap(w)
	f.set(some)
	var text strings.Builder
	var mu sync.Mutex
	s, err := aws.New(aws.Options{
		Name: "aws", Config: w.config(f.account), CallTimeout: quickTimeout, Backoff: time.Millisecond,
		Log: slog.New(slog.NewTextHandler(locked{&mu, &text}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, s)
	r.await("the content", func(s *catalog.Snapshot) bool { return s.EndpointCount() == 3 })
	w.proxy.Fail(awstest.On(func(c awstest.Call) bool { return c.Key == "testing" }, awstest.Expired()))
	r.until("the failure is told", func() bool { return r.trouble() != nil })
	fresh, err := os.ReadFile(keysFile(t, "renewed"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.account.CredentialsFiles[0], fresh, 0o600); err != nil {
		t.Fatal(err)
	}
	r.until("no trouble", func() bool { return r.trouble() == nil })
	if s := r.last(); s.EndpointCount() != 3 {
		t.Errorf("%d endpoints", s.EndpointCount())
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(text.String(), "secret-of-") || !strings.Contains(text.String(), "reason=credentials") {
		t.Errorf("log: %s", text.String())
	}
}

type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// Health changes no revision: full reads find it. Old answers are not believed at
// first, and a service that starts over is believed in the end.
func TestCloudMapHealthAndRevisions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := cloudMap(w)
	f.set(discoverytest.Content{"web": {"10.0.0.1:80"}})
	f.account.CloudMap[0].Services = []string{"web"} // named: nothing is listed
	r := w.reader(cloudmap.Kind, f.account, quickTimeout)
	old := read(t, r)
	w.proxy.Remember()
	read(t, r)

	f.set(discoverytest.Content{"web": {"10.0.0.1:80", "10.0.0.2:80"}})
	fresh, err := r.Read(t.Context(), false)
	if err != nil || fresh.Endpoints() != 2 {
		t.Fatalf("a registration is not found by its revision: %v, %v", fresh, err)
	}
	discovered := w.proxy.Calls()["DiscoverInstances"]
	if again, err := r.Read(t.Context(), false); err != nil || again != fresh || w.proxy.Calls()["DiscoverInstances"] != discovered {
		t.Errorf("nothing changed, and it was read again: %v, %v", again, err)
	}

	w.proxy.Fail(awstest.Old())
	for range 2 {
		if c, err := r.Read(t.Context(), true); account.Reason(err) != account.Inconsistent {
			t.Errorf("an old answer was taken: %v, %v", c, err)
		}
	}
	if c, err := r.Read(t.Context(), true); err != nil || !same(c, old) {
		t.Errorf("the third in a row: %v, %v", c, err)
	}
	w.proxy.Fail(nil)
	if c := read(t, r); !same(c, fresh) {
		t.Errorf("then %v", c)
	}

	c := servicediscovery.NewFromConfig(w.admin)
	services := must(c.ListServices(t.Context(), &servicediscovery.ListServicesInput{}))(t)
	for _, s := range services.Services {
		// moto lists the services of every namespace; one of them has the instance.
		_, _ = c.UpdateInstanceCustomHealthStatus(t.Context(), &servicediscovery.UpdateInstanceCustomHealthStatusInput{
			ServiceId: s.Id, InstanceId: awssdk.String("i-0a000002-80"), Status: sdtypes.CustomHealthStatusUnhealthy,
		})
	}
	sick := read(t, r)
	for _, e := range sick.Services[catalog.MustServiceName("web")].Endpoints {
		want := map[string]catalog.Health{"10.0.0.1:80": catalog.Passing, "10.0.0.2:80": catalog.Critical}[e.Address.String()]
		if e.Health != want {
			t.Errorf("%s is %s, want %s", e.Address, e.Health, want)
		}
	}
}
