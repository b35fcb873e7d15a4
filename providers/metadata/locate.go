package metadata

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const (
	// DefaultEndpoint is where both clouds' servers listen.
	DefaultEndpoint = "http://169.254.169.254"
	// DefaultTimeout bounds all attempts together: a start waits for it.
	DefaultTimeout = 5 * time.Second
	// attemptTimeout bounds one request, again the wait before it is made anew:
	// these servers are slow while a machine boots, and limit their rate.
	attemptTimeout = 2 * time.Second
	again          = 250 * time.Millisecond
	// maxAnswer bounds an answer; true ones have some dozens of bytes.
	maxAnswer = 4 << 10
)

// ErrNone says that no metadata server answered.
var ErrNone = errors.New("no metadata server answers")

// Found is what a metadata server said.
type Found struct {
	Locality catalog.Locality `json:"locality"`
	// Instance is the machine's id in its cloud.
	Instance string `json:"instance"`
}

// Options of Locate.
type Options struct {
	// Cloud asks only that one (aws, gcp); empty asks both.
	Cloud string
	// Endpoint and Timeout; empty means the defaults.
	Endpoint string
	Timeout  time.Duration
}

// The clouds that have a metadata server that is understood here.
const (
	AWS    = "aws"
	Google = "gcp"
)

// CheckEndpoint reports an endpoint that cannot be asked.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" {
		return fmt.Errorf("must be http://host:port")
	}
	return nil
}

// Locate asks. The error wraps ErrNone where nobody answered; any other says that
// somebody did, and what was wrong with it.
func Locate(ctx context.Context, o Options) (Found, error) {
	if o.Endpoint == "" {
		o.Endpoint = DefaultEndpoint
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	askers := map[string]func(context.Context, *client) (Found, error){AWS: askAWS, Google: askGoogle}
	if o.Cloud != "" {
		ask, known := askers[o.Cloud]
		if !known {
			return Found{}, fmt.Errorf("cloud %q: has no metadata server that is known here (%s, %s)", o.Cloud, AWS, Google)
		}
		askers = map[string]func(context.Context, *client) (Found, error){o.Cloud: ask}
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	type answer struct {
		cloud string
		found Found
		err   error
	}
	answers := make(chan answer, len(askers))
	for cloud, ask := range askers {
		go func() {
			found, err := persist(ctx, newClient(o.Endpoint), ask)
			answers <- answer{cloud, found, err}
		}()
	}
	var errs []error
	var result *Found
	for range askers { // all are waited for, so that none is left running
		a := <-answers
		switch {
		case a.err == nil && result == nil:
			result = &a.found
			cancel()
		case a.err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", a.cloud, a.err))
		}
	}
	if result == nil {
		return Found{}, fmt.Errorf("at %s: %w", o.Endpoint, errors.Join(errs...))
	}
	return *result, nil
}

// persist asks until there is an answer, or an error that stays, or ctx ends.
func persist(ctx context.Context, c *client, ask func(context.Context, *client) (Found, error)) (Found, error) {
	defer c.close()
	timer := time.NewTimer(again)
	defer timer.Stop()
	for {
		found, err := ask(ctx, c)
		if err == nil {
			err = found.check()
		}
		if err == nil || !errors.Is(err, ErrNone) {
			return found, err
		}
		timer.Reset(again)
		select {
		case <-ctx.Done():
			return Found{}, err
		case <-timer.C:
		}
	}
}

// check holds what came from outside against the catalog's rules.
func (f Found) check() error {
	if f.Locality.Cloud == "" || f.Locality.Region == "" || f.Locality.Zone == "" {
		return fmt.Errorf("locality %q is not complete", f.Locality)
	}
	return f.Locality.Validate()
}
