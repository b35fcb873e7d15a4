package aws_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/providers/aws"
	"github.com/isthmus-mesh/isthmus/providers/aws/account"
	"github.com/isthmus-mesh/isthmus/providers/aws/awstest"
)

const (
	// realVariable = 1 lets the tests that break nothing run against the account
	// of realProfile in realRegion; some kinds need realSubnet and realImage.
	realVariable = "ISTHMUS_AWS_REAL"
	realProfile  = "ISTHMUS_AWS_PROFILE"
	realRegion   = "ISTHMUS_AWS_REGION"
	realSubnet   = "ISTHMUS_AWS_SUBNET"
	realImage    = "ISTHMUS_AWS_IMAGE"

	region = "us-east-1"
)

var worlds atomic.Int64

// world is a part of AWS that one test has for itself.
type world struct {
	t *testing.T
	// name is unique; everything that the test makes has it in its own.
	name   string
	region string
	// proxy is before moto; nil against a real account.
	proxy *awstest.Proxy
	// admin makes things; it does not go through the proxy.
	admin awssdk.Config
	// account is how a source gets in.
	account account.Config

	mu sync.Mutex
	// alias are the addresses that contents speak of, by those that AWS gave.
	alias map[netip.Addr]netip.Addr
}

// newWorld is one of moto.
func newWorld(t *testing.T) *world {
	t.Helper()
	endpoint := moto(t)
	w := &world{t: t, name: fmt.Sprintf("t%d", worlds.Add(1)), region: region, alias: map[netip.Addr]netip.Addr{}}
	w.proxy = awstest.NewProxy(t, endpoint)
	w.admin = adminConfig(region, awstest.NewProxy(t, endpoint).URL) // one that breaks nothing
	w.account = account.Config{
		Name: "test", Regions: []string{region}, Endpoint: w.proxy.URL,
		ConfigFiles: []string{os.DevNull}, CredentialsFiles: []string{keysFile(t, "testing")},
	}
	return w
}

// realWorld is one of the account that the environment names.
func realWorld(t *testing.T) *world {
	t.Helper()
	if os.Getenv(realVariable) != "1" {
		t.Skipf("no real account: %s is not 1", realVariable)
	}
	w := &world{
		t: t, name: fmt.Sprintf("isthmus-test-%d-%d", time.Now().Unix(), worlds.Add(1)),
		region: os.Getenv(realRegion), alias: map[netip.Addr]netip.Addr{},
	}
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(w.region), config.WithSharedConfigProfile(os.Getenv(realProfile)))
	if err != nil {
		t.Fatal(err)
	}
	w.admin = cfg
	w.account = account.Config{Name: "test", Regions: []string{w.region}, Profile: os.Getenv(realProfile)}
	return w
}

// adminConfig is the SDK's configuration of who makes things.
func adminConfig(region, endpoint string) awssdk.Config {
	return awssdk.Config{
		Region: region, BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("testing", "testing", ""),
		APIOptions: []func(*middleware.Stack) error{func(s *middleware.Stack) error {
			return s.Initialize.Add(middleware.InitializeMiddlewareFunc("noPrefix", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
			}), middleware.Before)
		}},
		HTTPClient: adminClient,
	}
}

// keysFile is a file of credentials with one key.
func keysFile(t *testing.T, key string) string {
	t.Helper()
	path := t.TempDir() + "/credentials"
	if err := os.WriteFile(path, []byte("[default]\naws_access_key_id = "+key+"\naws_secret_access_key = secret-of-"+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// config reads what the account says, often.
func (w *world) config(a aws.Account) aws.Config {
	c := aws.Config{Interval: 200 * time.Millisecond, Revisions: 100 * time.Millisecond, Rate: 1000, Accounts: []aws.Account{a}}
	if w.proxy == nil {
		c.Interval, c.Revisions, c.Rate = 5*time.Second, 2*time.Second, 0
	}
	return c
}

// source is one of that configuration, whose addresses are the contents'.
func (w *world) source(c aws.Config) *translated {
	w.t.Helper()
	o := aws.Options{Name: "aws", Config: c, Log: quiet}
	if w.proxy != nil {
		o.CallTimeout, o.Backoff = 2*time.Second, 10*time.Millisecond
	}
	s, err := aws.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return &translated{s, w}
}

// call names the address that contents speak of.
func (w *world) call(given, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alias[netip.MustParseAddr(given)] = netip.MustParseAddrPort(name).Addr()
}

// translated publishes with the addresses that contents speak of, since AWS
// chooses those of instances and tasks itself.
type translated struct {
	*aws.Source
	w *world
}

func (s *translated) Run(ctx context.Context, publish discovery.Publish) error {
	return s.Source.Run(ctx, func(snap *catalog.Snapshot) {
		var services []*catalog.Service
		s.w.mu.Lock()
		for svc := range snap.All() {
			c := *svc
			c.Endpoints = nil
			for _, e := range svc.Endpoints {
				if a, ok := s.w.alias[e.Address.Addr()]; ok {
					e.Address = netip.AddrPortFrom(a, e.Address.Port())
				}
				c.Endpoints = append(c.Endpoints, e)
			}
			services = append(services, &c)
		}
		s.w.mu.Unlock()
		out, err := catalog.NewSnapshot(snap.Source(), services)
		if err != nil {
			s.w.t.Error(err)
			return
		}
		publish(out)
	})
}

// fixture is one kind in a world: what to read there, and how to fill it.
type fixture struct {
	account aws.Account
	set     func(discoverytest.Content)
}

// change fills the world while nobody can read it: AWS changes one thing after the
// other, and no content that a test speaks of is to be seen half.
func (w *world) change(f fixture, c discoverytest.Content) {
	if w.proxy == nil {
		f.set(c)
		return
	}
	w.proxy.Fail(awstest.Refused())
	f.set(c)
	w.proxy.Fail(nil)
}
