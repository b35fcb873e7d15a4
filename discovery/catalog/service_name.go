package catalog

import (
	"fmt"
	"strings"
)

// DefaultNamespace is the namespace of a service from a source without any.
const DefaultNamespace = "default"

// federationName is reserved: the federation service of cluster C
// is the service "federation.C". No source may publish a service of that name.
const federationName = "federation"

// ServiceName is a service's "name.namespace". The same name in two clusters is
// the same service once one exports it and the other imports it (sameness, as
// in MCS-API KEP-1645). It is comparable and can only hold valid names or none.
type ServiceName struct {
	name, namespace string
}

// NewServiceName checks both parts (DNS labels; namespace "" means "default").
func NewServiceName(name, namespace string) (ServiceName, error) {
	if namespace == "" {
		namespace = DefaultNamespace
	}
	if err := checkLabel(name); err != nil {
		return ServiceName{}, fmt.Errorf("service name %q: %w", name, err)
	}
	if err := checkLabel(namespace); err != nil {
		return ServiceName{}, fmt.Errorf("service namespace %q: %w", namespace, err)
	}
	return ServiceName{name: name, namespace: namespace}, nil
}

// ParseServiceName reads "name.namespace", or "name" in the default namespace.
func ParseServiceName(s string) (ServiceName, error) {
	name, namespace, found := strings.Cut(s, ".")
	if found && namespace == "" {
		return ServiceName{}, fmt.Errorf("service %q: has an empty namespace", s)
	}
	return NewServiceName(name, namespace)
}

// MustServiceName is ParseServiceName for constants and tests; it panics.
func MustServiceName(s string) ServiceName {
	n, err := ParseServiceName(s)
	if err != nil {
		panic(err)
	}
	return n
}

// FederationService is the reserved service of a cluster's federation.
func FederationService(c ClusterName) ServiceName {
	return ServiceName{name: federationName, namespace: string(c)}
}

// IsFederation reports whether n is any cluster's reserved federation service:
// "federation.X" is reserved for every namespace X.
func (n ServiceName) IsFederation() bool { return n.name == federationName }

// Name is the part before the dot.
func (n ServiceName) Name() string { return n.name }

// Namespace is the part after the dot.
func (n ServiceName) Namespace() string { return n.namespace }

// IsZero reports whether n names nothing.
func (n ServiceName) IsZero() bool { return n == ServiceName{} }

// String is "name.namespace", or "" for the zero value.
func (n ServiceName) String() string {
	if n.IsZero() {
		return ""
	}
	return n.name + "." + n.namespace
}

// Compare orders by namespace, then name.
func (n ServiceName) Compare(o ServiceName) int {
	// Every search of a catalog goes through here: each text is read once, and the
	// name only where it decides.
	if order := strings.Compare(n.namespace, o.namespace); order != 0 {
		return order
	}
	return strings.Compare(n.name, o.name)
}

// MarshalText is String; the zero value cannot be written.
func (n ServiceName) MarshalText() ([]byte, error) {
	if n.IsZero() {
		return nil, fmt.Errorf("service name: is empty")
	}
	return []byte(n.String()), nil
}

// UnmarshalText is ParseServiceName.
func (n *ServiceName) UnmarshalText(b []byte) error {
	v, err := ParseServiceName(string(b))
	if err != nil {
		return err
	}
	*n = v
	return nil
}
