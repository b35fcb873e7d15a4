package provider

import (
	"github.com/hashicorp/terraform-plugin-framework/resource"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// kind is one kind of rule as a resource; T is the rule's type.
type kind[T any] struct {
	name string // isthmus_NAME
	path string // /v1/PATH
	// spec says that the API shows a rule below "spec", beside what is known of it.
	spec        bool
	description string
	// renamed are attributes that have another name than their field, by its path.
	renamed map[string]string
}

// kinds are the resources of the provider.
func kinds() []func() resource.Resource {
	return []func() resource.Resource{
		of(kind[policy.Peer]{
			name: "peer", path: "peers", spec: true, renamed: map[string]string{"id": "spiffe_id"},
			description: "Another cluster that this one exchanges services with. Its removal cuts its links at once.",
		}),
		of(kind[policy.Export]{
			name: "export", path: "exports",
			description: "What this cluster offers, and to whom. Nothing is offered without one.",
		}),
		of(kind[policy.Import]{
			name: "import", path: "imports",
			description: "What this cluster takes, from which peer, and under which name. Nothing is taken without one.",
		}),
		of(kind[policy.Intention]{
			name: "intention", path: "intentions",
			description: "Who may call services of this cluster. A deny wins over any allow; callers of other clusters need an allow.",
		}),
		of(kind[policy.Traffic]{
			name: "traffic_policy", path: "traffic-policies",
			description: "How calls of this cluster to services are balanced and fail over.",
		}),
	}
}

func of[T any](k kind[T]) func() resource.Resource {
	return func() resource.Resource { return &rule[T]{kind: k} }
}
