package cli

import (
	"os"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/providers/aws"
)

var awsKind = kind{
	name:  "aws",
	short: "Read Cloud Map, ECS, target groups, Auto Scaling groups and EC2 of AWS accounts",
	long: `Read services of AWS accounts: namespaces of Cloud Map, tasks of ECS, target groups of
load balancers, Auto Scaling groups and EC2 instances by tag, of several accounts and
regions. A minimal configuration file:

  accounts:
    - regions: [us-east-1]
      cloud_map: [{namespace: internal}]

reads every service of the Cloud Map namespace "internal". All keys are in
providers/aws/README.md, the permissions that are needed in providers/aws/policy.json.

Credentials come from the SDK's own chain (environment, files, the instance's role),
from profile or credentials_files of the configuration, or by assuming its role. The
environment is the parent's only where its exec source lists the variables:

  - exec: {name: aws, command: [isthmus-source, aws, -c, aws.yaml], env: [AWS_PROFILE, HOME]}`,
	open: func(path string, o options) (discovery.Source, error) {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		c, err := aws.ParseConfig(path, data)
		if err != nil {
			return nil, err
		}
		return aws.New(aws.Options{Name: o.name, Config: c, Log: o.log, Registerer: o.registerer})
	},
}
