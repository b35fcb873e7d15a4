package provider

// describe is what an attribute of a resource means; path is that of its field.
func describe(resource, path string) string {
	if text, ok := descriptions[resource+"."+path]; ok {
		return text
	}
	return descriptions[path]
}

// descriptions of attributes, by their fields' paths; those of one resource begin with
// its name.
var descriptions = map[string]string{
	"name":     "Name, a DNS label. A change makes a new one.",
	"services": "Services: exact names (SERVICE.NAMESPACE), all of a namespace (*.NAMESPACE), or all (*).",

	"peer.name":                      "The peer's cluster name, a DNS label. A change makes a new one.",
	"peer.id":                        "SPIFFE ID of the peer's federation; its gateways' are that and /gateway/NAME.",
	"peer.gateways":                  "Bootstrap addresses (host:port), used until the peer has told its own. None: the peer dials.",
	"peer.bundle":                    "Where the bundle of the peer's trust domain comes from; not needed where it is the own one.",
	"peer.bundle.file":               "Path of a SPIFFE bundle document on the federation's host, read again when it changes.",
	"peer.bundle.document":           "A SPIFFE bundle document, JSON as text. Excludes file.",
	"peer.bundle.endpoint":           "The trust domain's bundle endpoint, which is asked for every later bundle.",
	"peer.bundle.endpoint.url":       "URL, beginning with https://.",
	"peer.bundle.endpoint.profile":   "https_spiffe or https_web.",
	"peer.bundle.endpoint.spiffe_id": "The server's SPIFFE ID, with https_spiffe.",
	"peer.bundle.endpoint.ca_file":   "PEM file of authorities of the server, with https_web; default the system's.",
	"peer.asserts":                   "Patterns of SPIFFE IDs that the peer's gateways may speak for; none, and no intention can allow its callers.",
	"peer.cloud":                     "The peer's cloud.",
	"peer.region":                    "The peer's region.",
	"peer.quota":                     "Bounds of what the peer may make this cluster hold and do.",
	"peer.quota.services":            "Services that it may offer; default 10000.",
	"peer.quota.rows":                "Rows of their summaries; default 50000.",
	"peer.quota.endpoints":           "Endpoints that the rows may count; default 1000000.",
	"peer.quota.bytes":               "Bytes of all that is held of it; default 16777216.",
	"peer.quota.updates_per_second":  "How often it may change what it says; default 10.",

	"export.to":            "Peers by name; * is every peer.",
	"export.subset_labels": "Labels of endpoints whose values split what is told into subsets; at most 4.",

	"import.from":         "The peer.",
	"import.services":     "Services by the peer's names: exact, all of a namespace (*.NAMESPACE), or all (*).",
	"import.exclude":      "Services to leave out of these.",
	"import.as":           "Name here of one exactly named service.",
	"import.namespaces":   "The peer's namespaces, and what they are called here.",
	"import.max_capacity": "Most capacity of a row that is believed of the peer.",

	"intention.callers":              "SPIFFE IDs, prefixes (spiffe://DOMAIN/PATH/*) or trust domains (spiffe://DOMAIN/*).",
	"intention.action":               "allow or deny.",
	"intention.http":                 "Narrows the rule to requests that meet one of these.",
	"intention.http.methods":         "Methods in capitals; none is any.",
	"intention.http.path":            "The whole path, decoded and without the query.",
	"intention.http.path_prefix":     "Start of the path, ending in /. Excludes path.",
	"intention.http.headers":         "Conditions on header fields, all of which must hold.",
	"intention.http.headers.name":    "Name of the field.",
	"intention.http.headers.exact":   "Its value.",
	"intention.http.headers.prefix":  "Start of its value.",
	"intention.http.headers.present": "Asks only whether it is there.",
	"intention.http.headers.invert":  "Asks for the opposite.",

	"traffic_policy.algorithm":                "Inside a tier: p2c (default), round_robin, random, weighted or least_request.",
	"traffic_policy.clusters":                 "Clusters in the order of use, instead of by locality; others are not used.",
	"traffic_policy.weights":                  "Shares of clusters inside a tier; 0 takes one out.",
	"traffic_policy.pin":                      "Everything goes to this cluster, without failover.",
	"traffic_policy.disable_failover":         "Calls stay in the first tier.",
	"traffic_policy.panic_threshold":          "Percentage of healthy endpoints of a tier below which health is ignored; default 50, 0 is never.",
	"traffic_policy.fail_closed":              "Refuse instead of panicking.",
	"traffic_policy.retries":                  "Most extra attempts of a request; default 2.",
	"traffic_policy.health_check":             "How the own cluster's endpoints are checked; default a TCP connection.",
	"traffic_policy.health_check.type":        "tcp, http, grpc or none.",
	"traffic_policy.health_check.path":        "Path of an HTTP check, or the service of a gRPC check.",
	"traffic_policy.health_check.interval_ms": "Milliseconds between checks; default 1000.",
	"traffic_policy.health_check.timeout_ms":  "Milliseconds until a check has failed; default 500.",
	"traffic_policy.health_check.fall":        "Failures in a row before it is down; default 3.",
	"traffic_policy.health_check.rise":        "Successes in a row before it is up; default 2.",
}
