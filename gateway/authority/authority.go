package authority

import (
	"errors"
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const (
	// suffix is the zone of the mesh, as in the DNS names that workloads use.
	suffix = ".mesh"
	// maxLength is that of a DNS name (RFC 1035, 3.1.4) with its final dot and
	// ":65535".
	maxLength = 255 + 1 + len(":65535")
)

// The ways an authority can be wrong.
var (
	ErrTooLong   = errors.New("is longer than a dns name")
	ErrMalformed = errors.New("is no name of the mesh")
	ErrReserved  = errors.New("is reserved")
)

// Name is what an authority asks for.
type Name struct {
	Service catalog.ServiceName
	// Port is a port's name; "" is the service's only or default port.
	Port string
	// Cluster pins the request to one cluster; "" leaves the choice to routing.
	Cluster catalog.ClusterName
}

// String is the canonical form, which Parse reads back to the same Name.
func (n Name) String() string {
	var b strings.Builder
	if n.Port != "" {
		b.WriteString("_" + n.Port + ".")
	}
	b.WriteString(n.Service.String())
	if n.Cluster != "" {
		b.WriteString("." + string(n.Cluster))
	}
	b.WriteString(suffix)
	return b.String()
}

// Parse reads the authority of a request (Host or :authority). Errors wrap one of
// this package's and never repeat more than a bounded part of the input.
func Parse(s string) (Name, error) {
	if len(s) > maxLength {
		return Name{}, fmt.Errorf("authority of %d bytes %w", len(s), ErrTooLong)
	}
	host, ok := cutPort(s)
	if !ok {
		return Name{}, malformed(s)
	}
	host = strings.TrimSuffix(lower(host), ".")
	var n Name
	if strings.HasPrefix(host, "_") {
		n.Port, host, ok = strings.Cut(host[1:], ".")
		if !ok || !isLabel(n.Port) {
			return Name{}, malformed(s)
		}
	}
	labels := strings.Split(host, ".")
	switch {
	case len(labels) == 2:
	case len(labels) == 3 && labels[1] == "service" && labels[2] == "consul":
		// As Consul's DNS calls what a federation has registered there, whose name
		// in a URL becomes the authority. Only the default namespace has such names.
		labels[1] = catalog.DefaultNamespace
	case kubernetes(labels):
		// As Kubernetes calls what stands for an import there.
	case len(labels) == 3 && labels[2] == suffix[1:]:
	case len(labels) == 4 && labels[3] == suffix[1:]:
		cluster, err := catalog.ParseClusterName(labels[2])
		if err != nil {
			return Name{}, malformed(s)
		}
		n.Cluster = cluster
	default:
		return Name{}, malformed(s)
	}
	if labels[1] == "" { // NewServiceName would take the default namespace
		return Name{}, malformed(s)
	}
	service, err := catalog.NewServiceName(labels[0], labels[1])
	if err != nil {
		return Name{}, malformed(s)
	}
	if service.IsFederation() {
		return Name{}, fmt.Errorf("authority %q %w", s, ErrReserved)
	}
	n.Service = service
	return n, nil
}

// kubernetes tells whether the labels after name and namespace are those that
// Kubernetes' DNS adds to a service: its search path makes the short ones.
func kubernetes(labels []string) bool {
	if len(labels) < 3 || labels[2] != "svc" {
		return false
	}
	switch strings.Join(labels[3:], ".") {
	case "", "cluster.local", "clusterset.local":
		return true
	}
	return false
}

func malformed(s string) error { return fmt.Errorf("authority %q %w", s, ErrMalformed) }

// cutPort removes ":digits" from the end.
func cutPort(s string) (host string, ok bool) {
	host, port, found := strings.Cut(s, ":")
	if !found {
		return host, true
	}
	if port == "" || len(port) > 5 {
		return "", false
	}
	n := 0
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return "", false
		}
		n = n*10 + int(port[i]-'0')
	}
	return host, n <= 65535
}

// lower folds ASCII only: other letters that fold to ASCII (the Kelvin sign)
// must not become a name.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// isLabel applies the rule of cluster names, which is that of port names too: a
// DNS label.
func isLabel(s string) bool {
	_, err := catalog.ParseClusterName(s)
	return err == nil
}
