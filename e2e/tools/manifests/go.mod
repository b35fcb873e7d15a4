module github.com/isthmus-mesh/isthmus/e2e/tools/manifests

go 1.26

// Nothing of these is built: they hold the manifests (CustomResourceDefinitions) of
// kinds that the product reads and writes.
require (
	istio.io/api v1.29.0
	sigs.k8s.io/mcs-api v0.5.0
)
