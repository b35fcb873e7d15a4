package policy

import (
	"fmt"
	"net/textproto"
	"slices"
	"strings"
)

// The bounds of the conditions of one intention. They are compiled into every
// gateway of the cluster.
const (
	// MaxHTTPConditions bounds the alternatives of one intention.
	MaxHTTPConditions = 64
	// MaxMethods bounds the methods of one condition: HTTP has nine.
	MaxMethods = 16
	// MaxHeaderConditions bounds the fields that one condition looks at.
	MaxHeaderConditions = 8
	// MaxPathLen bounds a path that is written in a rule, as MaxCheckPathLen does.
	MaxPathLen = MaxCheckPathLen
	// MaxHeaderLen bounds a field's name and value in a rule.
	MaxHeaderLen = 1024
)

// HTTPCondition narrows an intention to some requests. All that is set must hold;
// one of an intention's conditions must. A gRPC call is a POST to
// "/package.Service/Method".
type HTTPCondition struct {
	// Methods are the methods, in capitals; none means any.
	Methods []string `json:"methods,omitempty" yaml:"methods,omitempty"`
	// Path is the whole path, decoded and without the query.
	Path string `json:"path,omitempty" yaml:"path,omitempty"`
	// PathPrefix is the start of the path; it ends in "/", so that it ends where a
	// segment does. Excludes Path.
	PathPrefix string `json:"path_prefix,omitempty" yaml:"path_prefix,omitempty"`
	// Headers are conditions on header fields; all must hold.
	Headers []HeaderCondition `json:"headers,omitempty" yaml:"headers,omitempty"`
}

// HeaderCondition is a condition on one header field: exactly one of Exact, Prefix
// and Present is set.
type HeaderCondition struct {
	// Name of the field, in any case.
	Name string `json:"name" yaml:"name"`
	// Exact is the value, Prefix its start.
	Exact  string `json:"exact,omitempty" yaml:"exact,omitempty"`
	Prefix string `json:"prefix,omitempty" yaml:"prefix,omitempty"`
	// Present asks only whether the field is there.
	Present bool `json:"present,omitempty" yaml:"present,omitempty"`
	// Invert asks for the opposite.
	Invert bool `json:"invert,omitempty" yaml:"invert,omitempty"`
}

// notForConditions are fields that a caller does not control, that gateways write
// or remove, or that belong to one connection: what the endpoint sees of them is
// not what was judged.
var notForConditions = [...]string{
	"Host", "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Content-Length",
	"Upgrade", "Proxy-Authenticate", "Proxy-Authorization", "Forwarded",
}

// writtenByGateways are the starts of the names of fields that gateways write.
var writtenByGateways = [...]string{"Isthmus-", "X-Forwarded-"}

func validateHTTP(p problems, conditions []HTTPCondition) {
	checkCount(p, "http", len(conditions), 0, MaxHTTPConditions)
	for i := range conditions {
		conditions[i].validate(p.at("http[%d]", i))
	}
}

func (c *HTTPCondition) validate(p problems) {
	if len(c.Methods) == 0 && c.Path == "" && c.PathPrefix == "" && len(c.Headers) == 0 {
		p.add("methods", "", "a condition needs a method, a path or a header: one that says nothing narrows nothing")
	}
	checkCount(p, "methods", len(c.Methods), 0, MaxMethods)
	for i, m := range c.Methods {
		field := fmt.Sprintf("methods[%d]", i)
		switch {
		case len(m) > MaxHeaderLen || !isToken(m) || m != strings.ToUpper(m):
			p.add(field, m, "must be a method in capitals, such as GET")
		case slices.Contains(c.Methods[:i], m):
			p.add(field, m, "is listed twice")
		}
	}
	if c.Path != "" && c.PathPrefix != "" {
		p.add("path_prefix", c.PathPrefix, "excludes path")
	}
	checkPath(p, "path", c.Path)
	checkPath(p, "path_prefix", c.PathPrefix)
	if c.PathPrefix != "" && !strings.HasSuffix(c.PathPrefix, "/") {
		p.add("path_prefix", c.PathPrefix, `must end in "/", so that it ends where a segment does`)
	}
	checkCount(p, "headers", len(c.Headers), 0, MaxHeaderConditions)
	for i := range c.Headers {
		c.Headers[i].validate(p.at("headers[%d]", i))
	}
}

// checkPath accepts what a request's canonical path may be.
func checkPath(p problems, field, path string) {
	if path == "" {
		return
	}
	if len(path) > MaxPathLen {
		p.add(field, path, "has %d bytes, at most %d", len(path), MaxPathLen)
		return
	}
	if rule := unfitForRule(path); rule != "" {
		p.add(field, path, "%s", rule)
	}
}

func (h *HeaderCondition) validate(p problems) {
	name := textproto.CanonicalMIMEHeaderKey(h.Name)
	switch {
	case len(h.Name) > MaxHeaderLen || !isToken(h.Name):
		p.add("name", h.Name, "must be the name of a header field, at most %d bytes", MaxHeaderLen)
	case strings.IndexByte(h.Name, '_') >= 0:
		p.add("name", h.Name, `must be written with "-": "_" in a request's field counts as "-"`)
	case slices.Contains(notForConditions[:], name) || slices.ContainsFunc(writtenByGateways[:], func(s string) bool { return strings.HasPrefix(name, s) }):
		p.add("name", h.Name, "is a field of the connection or of the gateways, which no rule can judge")
	}
	set := 0
	for _, is := range []bool{h.Exact != "", h.Prefix != "", h.Present} {
		if is {
			set++
		}
	}
	if set != 1 {
		p.add("exact", h.Exact, "exactly one of exact, prefix and present must be set, %d are", set)
	}
	for field, value := range map[string]string{"exact": h.Exact, "prefix": h.Prefix} {
		if len(value) > MaxHeaderLen || strings.TrimSpace(value) != value || !everyByte(value, func(b byte) bool { return b >= ' ' && b != 0x7f || b == '\t' }) {
			p.add(field, value, "must be a field's value: no control bytes, no white space around, at most %d bytes", MaxHeaderLen)
		}
	}
}

// isToken is RFC 9110's token.
func isToken(s string) bool {
	return s != "" && everyByte(s, func(c byte) bool {
		return isAlphanumeric(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
	})
}

// match says whether the request meets the condition. An allow must be met to the
// letter. A deny is met by whatever the service could take for what it names: a
// method in another case, a path in another case or with a final "/", one of
// several values of a field.
func (c *HTTPCondition) match(r *HTTPRequest, allow bool) bool {
	return c.matchMethod(r.Method, allow) && c.matchPath(r.Path, allow) && c.matchHeaders(r, allow)
}

func (c *HTTPCondition) matchMethod(method string, allow bool) bool {
	if len(c.Methods) == 0 {
		return true
	}
	for _, m := range c.Methods {
		if m == method || !allow && equalFold(m, method) {
			return true
		}
	}
	return false
}

func (c *HTTPCondition) matchPath(path string, allow bool) bool {
	switch {
	case c.Path == "" && c.PathPrefix == "":
		return true
	case path == "":
		return !allow // CONNECT: there is none to be judged
	case allow && c.Path != "":
		return path == c.Path
	case allow:
		return strings.HasPrefix(path, c.PathPrefix)
	case c.Path != "":
		return equalFold(strings.TrimSuffix(path, "/"), strings.TrimSuffix(c.Path, "/"))
	}
	bare := c.PathPrefix[:len(c.PathPrefix)-1] // "/admin/" denies "/admin" too
	return len(path) >= len(bare) && equalFold(path[:len(bare)], bare) && (len(path) == len(bare) || path[len(bare)] == '/')
}

func (c *HTTPCondition) matchHeaders(r *HTTPRequest, allow bool) bool {
	for i := range c.Headers {
		if !c.Headers[i].match(r, allow) {
			return false
		}
	}
	return true
}

// match looks at all values of the field: of an allow each must do, of a deny one.
func (h *HeaderCondition) match(r *HTTPRequest, allow bool) bool {
	seen, all, one := false, true, false
	look := func(values []string) {
		for _, v := range values {
			seen = true
			switch {
			case h.holds(v) != h.Invert:
				one = true
			case !allow && h.holdsInList(v):
				one = true
			default:
				all = false
			}
		}
	}
	look(r.Header[h.Name])
	if r.underscores {
		for name, values := range r.Header {
			if strings.IndexByte(name, '_') >= 0 && sameField(name, h.Name) {
				look(values)
			}
		}
	}
	switch {
	case !seen:
		return h.Invert
	case h.Present:
		return !h.Invert
	case allow:
		return all
	default:
		return one
	}
}

func (h *HeaderCondition) holds(value string) bool {
	switch {
	case h.Present:
		return true
	case h.Exact != "":
		return value == h.Exact
	default:
		return strings.HasPrefix(value, h.Prefix)
	}
}

// holdsInList looks at the members of a value that is a list: to many a service
// "a, b" is two values.
func (h *HeaderCondition) holdsInList(value string) bool {
	if strings.IndexByte(value, ',') < 0 {
		return false
	}
	for member := range strings.SplitSeq(value, ",") {
		if h.holds(strings.Trim(member, " \t")) != h.Invert {
			return true
		}
	}
	return false
}

// sameField compares names as servers do that turn "-" into "_" for their
// applications.
func sameField(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := fold(a[i]), fold(b[i])
		if x == '_' {
			x = '-'
		}
		if y == '_' {
			y = '-'
		}
		if x != y {
			return false
		}
	}
	return true
}

// equalFold folds ASCII only.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

func fold(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// canonical is c with the names of its fields as requests have them, copied: it is
// compiled into an Authorizer.
func (c HTTPCondition) canonical() *HTTPCondition {
	c.Headers = slices.Clone(c.Headers)
	for i := range c.Headers {
		c.Headers[i].Name = textproto.CanonicalMIMEHeaderKey(c.Headers[i].Name)
	}
	return &c
}
