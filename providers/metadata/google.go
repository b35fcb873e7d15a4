package metadata

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// flavor is the header by which Google's server and its clients know each other.
const flavor = "Metadata-Flavor"

var googleZone = regexp.MustCompile(`^[a-z]+(-[a-z0-9]+)+-[a-z]$`)

// askGoogle asks Google's server.
func askGoogle(ctx context.Context, c *client) (Found, error) {
	zone, err := c.google(ctx, "/computeMetadata/v1/instance/zone")
	if err != nil {
		return Found{}, err
	}
	id, err := c.google(ctx, "/computeMetadata/v1/instance/id")
	if err != nil {
		return Found{}, err
	}
	zone = zone[strings.LastIndexByte(zone, '/')+1:] // projects/NUMBER/zones/us-central1-a
	if !googleZone.MatchString(zone) {
		return Found{}, fmt.Errorf("zone %q is not Google's", zone)
	}
	cut := strings.LastIndexByte(zone, '-')
	return Found{Locality: catalog.Locality{Cloud: Google, Region: zone[:cut], Zone: zone}, Instance: id}, nil
}

func (c *client) google(ctx context.Context, path string) (string, error) {
	text, header, err := c.ask(ctx, http.MethodGet, path, map[string]string{flavor: "Google"})
	if err != nil {
		return "", err
	}
	if header.Get(flavor) != "Google" {
		return "", fmt.Errorf("%s: the answer has no %s: Google; it is of another server", path, flavor)
	}
	return text, nil
}
