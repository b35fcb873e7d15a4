package bundleendpoint

import (
	"net/url"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Profile says how the server of a bundle endpoint is authenticated.
type Profile string

// The profiles of the SPIFFE Federation specification, section 5.2.
const (
	// SPIFFE: by an SVID, against the bundle that is held for its trust domain.
	SPIFFE Profile = "https_spiffe"
	// Web: by a certificate for the URL's host name.
	Web Profile = "https_web"
)

// maxURL bounds the URL of an endpoint: it is sent, logged and listed.
const maxURL = 2048

// Endpoint is where a trust domain publishes its bundle.
type Endpoint struct {
	// URL is https://HOST[:PORT][/PATH], without user info and fragment.
	URL string
	// Profile is SPIFFE or Web.
	Profile Profile
	// SPIFFEID is the server's, for profile SPIFFE only. It may be of another trust
	// domain than the one that is published, whose bundle must then be held.
	SPIFFEID string
	// CAFile holds PEM certificates to check the server's against, for profile Web
	// only; empty are the system's. It is read at each fetch.
	CAFile string
}

// Problem is one thing wrong with an Endpoint or a ServerConfig: Field breaks
// Rule with Value. Fields are named as in the configuration file.
type Problem struct {
	Field, Value, Rule string
}

// Problems returns everything that is wrong with the endpoint; it opens nothing.
func (e Endpoint) Problems() []Problem {
	var out []Problem
	bad := func(field, value, rule string) { out = append(out, Problem{field, value, rule}) }
	if rule := urlRule(e.URL); rule != "" {
		bad("url", e.URL, rule)
	}
	switch e.Profile {
	case SPIFFE:
		if id, err := spiffeid.FromString(e.SPIFFEID); err != nil || id.Path() == "" {
			bad("spiffe_id", e.SPIFFEID, "must be the SPIFFE ID of the endpoint's server, with a path")
		}
		if e.CAFile != "" {
			bad("ca_file", e.CAFile, "is for https_web only: with https_spiffe the held bundle authenticates the server")
		}
	case Web:
		if e.SPIFFEID != "" {
			bad("spiffe_id", e.SPIFFEID, "is for https_spiffe only: with https_web the host name is what is checked")
		}
	default:
		bad("profile", string(e.Profile), "must be https_spiffe or https_web")
	}
	return out
}

// urlRule says what is wrong with an endpoint's URL, or "".
func urlRule(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil || len(raw) > maxURL:
		return "must be a URL of at most 2048 bytes"
	case u.Scheme != "https":
		return "must begin with https://"
	case u.User != nil:
		return "must have no user info: it would be sent and logged"
	case u.Opaque != "" || u.Hostname() == "":
		return "must name a host"
	case u.Fragment != "" || u.RawFragment != "":
		return "must have no fragment"
	}
	return ""
}
