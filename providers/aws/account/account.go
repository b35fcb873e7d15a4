package account

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	"golang.org/x/time/rate"
)

// The defaults of Options.
const (
	// DefaultRate is the calls a second to one region of an account: a fifth of
	// the lowest refill that AWS documents for the read calls used here (EC2's
	// non-mutating actions, 20 a second and more).
	DefaultRate = 10
	// DiscoverFactor is how many times that the calls of Cloud Map's data plane
	// may be, whose limit is 1,000 a second.
	DiscoverFactor = 10
	// DefaultCallTimeout bounds one attempt of a call.
	DefaultCallTimeout = 20 * time.Second
	// DefaultBackoff bounds the wait between attempts.
	DefaultBackoff = 5 * time.Second
	// attempts of a call, the first included; the next read asks again anyway.
	attempts = 3
	// retryTokens is the budget of retries that the clients of a region share: a
	// retry costs 5 and each success returns 1, so a region that fails is soon
	// asked once a call.
	retryTokens = 100
)

// Options of New.
type Options struct {
	Config Config
	// Rate, CallTimeout and Backoff: see the defaults.
	Rate                 float64
	CallTimeout, Backoff time.Duration
	// Observe is told of every attempt; nil is not told.
	Observe func(Call)
	// APIOptions are added to every client: tests watch calls by them.
	APIOptions []func(*middleware.Stack) error
}

// Call is one attempt of a call.
type Call struct {
	Region, Service, Operation string
	Err                        error
}

// Account is one account. It is safe for concurrent use.
type Account struct {
	opts    Options
	regions map[string]*region

	mu     sync.Mutex
	opened *opened
}

// region is what the clients of one region share for as long as the account lives.
type region struct {
	name              string
	control, discover *rate.Limiter
	retryer           aws.Retryer
}

// opened is the account with credentials.
type opened struct {
	cfg       aws.Config
	transport *http.Transport
}

// New makes no call and reads no file.
func New(o Options) *Account {
	o.Config = o.Config.WithDefaults()
	o.Rate = cmp.Or(o.Rate, DefaultRate)
	o.CallTimeout, o.Backoff = cmp.Or(o.CallTimeout, DefaultCallTimeout), cmp.Or(o.Backoff, DefaultBackoff)
	a := &Account{opts: o, regions: map[string]*region{}}
	for _, name := range o.Config.Regions {
		limit := func(factor float64) *rate.Limiter {
			return rate.NewLimiter(rate.Limit(o.Rate*factor), max(1, int(2*o.Rate*factor)))
		}
		a.regions[name] = &region{
			name: name, control: limit(1), discover: limit(DiscoverFactor),
			retryer: retry.NewStandard(func(s *retry.StandardOptions) {
				s.MaxAttempts, s.MaxBackoff = attempts, o.Backoff
				s.Backoff = retry.NewExponentialJitterBackoff(o.Backoff)
				s.RateLimiter = ratelimit.NewTokenRateLimit(retryTokens)
			}),
		}
	}
	return a
}

// Config returns the SDK's configuration for one of the account's regions. The
// first call reads the files of credentials; no network is touched.
func (a *Account) Config(ctx context.Context, regionName string) (aws.Config, error) {
	r := a.regions[regionName]
	if r == nil {
		return aws.Config{}, fmt.Errorf("account %s: has no region %s", a.opts.Config.Name, regionName)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.opened == nil {
		o, err := a.open(ctx)
		if err != nil {
			return aws.Config{}, &credentialsError{fmt.Errorf("account %s: %w", a.opts.Config.Name, err)}
		}
		a.opened = o
	}
	return a.regional(a.opened.cfg, r), nil
}

// Reopen forgets the credentials: the next Config reads the files anew. Called
// after credentials were refused.
func (a *Account) Reopen() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.opened != nil {
		a.opened.transport.CloseIdleConnections()
		a.opened = nil
	}
}

// Close ends what the account keeps open; it can be used again.
func (a *Account) Close() { a.Reopen() }

func (a *Account) open(ctx context.Context) (*opened, error) {
	c := a.opts.Config
	load := []func(*config.LoadOptions) error{
		config.WithRegion(c.Regions[0]),
		config.WithLogger(logging.Nop{}), // nobody is to read requests in a log
		config.WithHTTPClient(awshttp.NewBuildableClient()),
	}
	if c.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(c.Profile))
	}
	if len(c.ConfigFiles) > 0 {
		load = append(load, config.WithSharedConfigFiles(c.ConfigFiles))
	}
	if len(c.CredentialsFiles) > 0 {
		load = append(load, config.WithSharedCredentialsFiles(c.CredentialsFiles))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("load credentials: %w", err)
	}
	// The SDK's builder hands out copies of its transport only, whose idle
	// connections nobody could close; and its roots may be the environment's.
	transport := http.Transport{}
	o := &opened{transport: &transport}
	if b, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		o.transport = b.GetTransport()
	}
	o.transport.MaxIdleConnsPerHost = 16
	cfg.HTTPClient = &http.Client{Transport: o.transport, Timeout: a.opts.CallTimeout, CheckRedirect: noRedirect}
	if c.Endpoint != "" {
		cfg.BaseEndpoint = &c.Endpoint
	}
	if c.Role != nil {
		client := sts.NewFromConfig(a.regional(cfg, a.regions[c.Regions[0]]))
		cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(client, c.Role.ARN, func(r *stscreds.AssumeRoleOptions) {
			r.RoleSessionName = c.Role.Session
			if c.Role.ExternalID != "" {
				r.ExternalID = &c.Role.ExternalID
			}
		}))
	}
	o.cfg = cfg
	return o, nil
}

// noRedirect: a signed request goes where it was signed for.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (a *Account) regional(cfg aws.Config, r *region) aws.Config {
	cfg = cfg.Copy()
	cfg.Region = r.name
	cfg.Retryer = func() aws.Retryer { return r.retryer }
	cfg.APIOptions = append(cfg.APIOptions, a.guard(r))
	cfg.APIOptions = append(cfg.APIOptions, a.opts.APIOptions...)
	return cfg
}
