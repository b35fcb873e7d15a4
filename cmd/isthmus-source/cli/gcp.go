package cli

import (
	"os"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/providers/gcp"
)

var gcpKind = kind{
	name:  "gcp",
	short: "Read instances, instance groups, endpoint groups and Service Directory of Google Cloud projects",
	long: `Read services of Google Cloud projects: instances by label, managed instance groups,
network endpoint groups and Service Directory. A minimal configuration file:

  projects: [my-project]
  instances: {}

reads every instance that has the labels isthmus-service and isthmus-port. All keys, and
the permissions that are needed, are in providers/gcp/README.md.

Credentials are Application Default Credentials, or credentials_file of the configuration.`,
	open: func(path string, o options) (discovery.Source, error) {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		c, err := gcp.Parse(path, data)
		if err != nil {
			return nil, err
		}
		return gcp.New(gcp.Options{Name: o.name, Config: c, Log: o.log, Registerer: o.registerer})
	},
}
