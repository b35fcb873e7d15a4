package account

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// maxRegions bounds the regions of one account: AWS has below 40.
const maxRegions = 64

// Config is one account and how to get into it.
type Config struct {
	// Name of the account here, a DNS label: endpoint IDs, metrics and messages
	// have it. Default "default".
	Name string `yaml:"name"`
	// Regions to read, such as us-east-1.
	Regions []string `yaml:"regions"`
	// Profile of the SDK's configuration files; empty follows the SDK's chain.
	Profile string `yaml:"profile"`
	// ConfigFiles and CredentialsFiles are read in place of ~/.aws/config and
	// ~/.aws/credentials; anew after credentials were refused.
	ConfigFiles      []string `yaml:"config_files"`
	CredentialsFiles []string `yaml:"credentials_files"`
	// Role is assumed with these credentials.
	Role *Role `yaml:"role"`
	// Endpoint is used for every API in place of the region's own: an emulator, a
	// proxy.
	Endpoint string `yaml:"endpoint"`
}

// Role is a role that is assumed, mostly of another account.
type Role struct {
	ARN string `yaml:"arn"`
	// ExternalID is what the role's trust policy asks for; it is no secret.
	ExternalID string `yaml:"external_id"`
	// Session is the session's name in CloudTrail; default "isthmus".
	Session string `yaml:"session"`
}

const (
	defaultName    = "default"
	defaultSession = "isthmus"
)

// WithDefaults fills the empty fields.
func (c Config) WithDefaults() Config {
	if c.Name == "" {
		c.Name = defaultName
	}
	if c.Role != nil && c.Role.Session == "" {
		r := *c.Role
		r.Session = defaultSession
		c.Role = &r
	}
	return c
}

var (
	regionForm  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]+$`)
	roleForm    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}$`)
	sessionForm = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	// AWS takes 1,224 characters; regexp counts to 1,000.
	externalIDForm = regexp.MustCompile(`^[\w+=,.@:/-]{2,1000}$`)
)

// Validate reports every problem; it touches neither network nor files.
func (c Config) Validate() []error {
	c = c.WithDefaults()
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	if _, err := catalog.ParseClusterName(c.Name); err != nil { // the same rule: a DNS label
		fail("name", c.Name, "must be a DNS label")
	}
	switch n := len(c.Regions); {
	case n == 0:
		fail("regions", nil, "must name at least one region")
	case n > maxRegions:
		fail("regions", n, fmt.Sprintf("at most %d", maxRegions))
	}
	for i, r := range c.Regions {
		field := fmt.Sprintf("regions[%d]", i)
		if !regionForm.MatchString(r) {
			fail(field, r, "must be a region such as us-east-1")
		}
		if slices.Contains(c.Regions[:i], r) {
			fail(field, r, "is named twice")
		}
	}
	if r := c.Role; r != nil {
		if !roleForm.MatchString(r.ARN) {
			fail("role.arn", r.ARN, "must be a role's ARN, arn:aws:iam::123456789012:role/NAME")
		}
		if r.ExternalID != "" && !externalIDForm.MatchString(r.ExternalID) {
			fail("role.external_id", r.ExternalID, "has 2 to 1000 letters, digits and _+=,.@:/-")
		}
		if !sessionForm.MatchString(r.Session) {
			fail("role.session", r.Session, "has 2 to 64 letters, digits and _+=,.@-")
		}
	}
	for i, f := range c.ConfigFiles {
		if f == "" {
			fail(fmt.Sprintf("config_files[%d]", i), f, "is empty")
		}
	}
	for i, f := range c.CredentialsFiles {
		if f == "" {
			fail(fmt.Sprintf("credentials_files[%d]", i), f, "is empty")
		}
	}
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" {
			fail("endpoint", c.Endpoint, "must be http(s)://host:port without user or query")
		}
	}
	return errs
}
