package metadata

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// What AWS's own names look like: a server that says anything to everybody is not
// taken for it.
var (
	awsRegion   = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]+$`)
	awsZone     = regexp.MustCompile(`^[a-z0-9-]+-az[0-9]+$`)
	awsInstance = regexp.MustCompile(`^i-[0-9a-f]+$`)
)

// askAWS asks by IMDSv2.
func askAWS(ctx context.Context, c *client) (Found, error) {
	token, _, err := c.ask(ctx, http.MethodPut, "/latest/api/token", map[string]string{"X-aws-ec2-metadata-token-ttl-seconds": "60"})
	if err != nil {
		if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
			// The answer's hop limit is 1 by default, and a container's network is
			// one hop more.
			err = fmt.Errorf("%w (within a container, the instance's HttpPutResponseHopLimit must be 2)", err)
		}
		return Found{}, fmt.Errorf("token: %w", err)
	}
	f := Found{Locality: catalog.Locality{Cloud: AWS}}
	for path, into := range map[string]*string{
		"/latest/meta-data/placement/region":               &f.Locality.Region,
		"/latest/meta-data/placement/availability-zone-id": &f.Locality.Zone,
		"/latest/meta-data/instance-id":                    &f.Instance,
	} {
		if *into, _, err = c.ask(ctx, http.MethodGet, path, map[string]string{"X-aws-ec2-metadata-token": token}); err != nil {
			return Found{}, err
		}
	}
	if !awsRegion.MatchString(f.Locality.Region) || !awsZone.MatchString(f.Locality.Zone) || !awsInstance.MatchString(f.Instance) {
		return Found{}, fmt.Errorf("region %q, zone %q and instance %q are not AWS's", f.Locality.Region, f.Locality.Zone, f.Instance)
	}
	return f, nil
}
