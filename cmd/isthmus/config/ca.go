package config

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/identity/ca"
)

// CA is the file of `isthmus ca serve`.
type CA struct {
	TrustDomain spiffeid.TrustDomain `yaml:"trust_domain"`
	// Dir keeps the roots and their keys.
	Dir string `yaml:"dir"`
	// Socket is where workloads reach the Workload API.
	Socket string `yaml:"socket"`
	// SVIDTTL and CATTL are the lives of SVIDs and roots.
	SVIDTTL time.Duration `yaml:"svid_ttl"`
	CATTL   time.Duration `yaml:"ca_ttl"`
	// BundleFile is where the own bundle is written for peers.
	BundleFile string        `yaml:"bundle_file"`
	Entries    []CAEntry     `yaml:"entries"`
	Federated  []CAFederated `yaml:"federated"`
	Log        Log           `yaml:"log"`
}

// CAEntry gives processes of a user an identity.
type CAEntry struct {
	ID   spiffeid.ID `yaml:"id"`
	UID  *uint32     `yaml:"uid"`
	Hint string      `yaml:"hint"`
}

// CAFederated is another trust domain's bundle.
type CAFederated struct {
	TrustDomain spiffeid.TrustDomain `yaml:"trust_domain"`
	BundleFile  string               `yaml:"bundle_file"`
}

// LoadCA reads and checks the file of an embedded CA.
func LoadCA(path string) (*CA, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	c := CA{Log: Default().Log}
	doc, err := strictyaml.Decode(path, data, &c)
	var problems strictyaml.Problems
	if err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	found := errors.Join(c.Config().Validate(), strictyaml.Within("log", c.Log.validate()))
	problems = append(problems, withoutRepeats(doc.Locate(found), problems)...)
	if len(problems) > 0 {
		problems.Sort()
		return nil, problems
	}
	return &c, nil
}

// Config is the file as the CA takes it.
func (c *CA) Config() ca.Config {
	out := ca.Config{
		TrustDomain: c.TrustDomain, Dir: c.Dir, Socket: c.Socket, SVIDTTL: c.SVIDTTL, CATTL: c.CATTL, BundleFile: c.BundleFile,
	}
	for _, e := range c.Entries {
		out.Entries = append(out.Entries, ca.Entry{ID: e.ID, UID: e.UID, Hint: e.Hint})
	}
	for _, f := range c.Federated {
		out.Federated = append(out.Federated, ca.Federated{TrustDomain: f.TrustDomain, BundleFile: f.BundleFile})
	}
	return out
}
