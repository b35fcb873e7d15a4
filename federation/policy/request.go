package policy

import (
	"strings"
	"unicode/utf8"
)

// HTTPRequest is one request as conditions judge it. It is made by NewHTTPRequest
// from what is forwarded, so that the path that is judged is the path that the
// service gets.
type HTTPRequest struct {
	Method string
	// Path is decoded and without the query; "" of CONNECT, which has none, and
	// where it is ambiguous.
	Path string
	// Header has canonical names, as net/http makes them. It is not copied.
	Header map[string][]string

	ambiguous   string
	underscores bool
}

// Ambiguous says why two parsers could read the path differently; "" where they
// cannot.
func (r *HTTPRequest) Ambiguous() string { return r.ambiguous }

// NewHTTPRequest reads a request. escaped is the path as it is forwarded
// (url.URL.EscapedPath), without the query. The path is not repaired: what is
// ambiguous stays so, and is refused where a rule looks at paths.
func NewHTTPRequest(method, escaped string, header map[string][]string) HTTPRequest {
	r := HTTPRequest{Method: method, Header: header}
	for name := range header {
		if strings.IndexByte(name, '_') >= 0 {
			r.underscores = true
			break
		}
	}
	switch {
	case method == "CONNECT":
	case escaped == "":
		r.Path = "/" // what is sent for an absolute target without a path
	default:
		r.Path, r.ambiguous = canonicalPath(escaped)
	}
	return r
}

// The ways a path can be read in two ways.
const (
	pathRelative  = `does not begin with "/"`
	pathByte      = "has a byte that must be escaped"
	pathEscape    = "has an escape that is not two hexadecimal digits"
	pathNeedless  = "escapes a byte that needs no escape"
	pathSeparator = `escapes a separator ("/", "\", ";", "?", "#", "%") or a control byte`
	pathUTF8      = "is not UTF-8"
	pathEmpty     = "has an empty segment"
	pathDots      = `has a segment "." or ".."`
	pathParameter = `has a ";" or a "\", which some servers take for the end of a segment`
)

// canonicalPath decodes a path that has one reading only, or says why it has
// more. Without an escape it allocates nothing.
func canonicalPath(escaped string) (path, ambiguous string) {
	if escaped[0] != '/' {
		return "", pathRelative
	}
	if strings.IndexByte(escaped, '%') >= 0 {
		decoded, problem := unescape(escaped)
		if problem != "" {
			return "", problem
		}
		if !utf8.ValidString(decoded) {
			return "", pathUTF8 // overlong forms of "/" and "." among them
		}
		escaped, path = decoded, decoded
	} else if !everyByte(escaped, plainInPath) {
		return "", pathByte
	}
	if problem := segments(escaped); problem != "" {
		return "", problem
	}
	if path == "" {
		path = escaped
	}
	return path, ""
}

// plainInPath reports whether c stands unescaped in a path that net/url writes; "\"
// and ";" are judged with their segment.
func plainInPath(c byte) bool {
	return isAlphanumeric(c) || strings.IndexByte("-._~!$&'()*+,;=:@/[]\\", c) >= 0
}

// segments looks at a decoded path.
func segments(path string) string {
	rest := path[1:]
	for more := true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		switch {
		case segment == "" && more:
			return pathEmpty
		case segment == "." || segment == "..":
			return pathDots
		case strings.ContainsAny(segment, `;\`):
			return pathParameter
		}
	}
	return ""
}

func unescape(s string) (decoded, problem string) {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c != '%' && !plainInPath(c):
			return "", pathByte
		case c != '%':
			b.WriteByte(c)
			continue
		case i+2 >= len(s):
			return "", pathEscape
		}
		high, ok := hex(s[i+1])
		low, ok2 := hex(s[i+2])
		if !ok || !ok2 {
			return "", pathEscape
		}
		i += 2
		switch c = high<<4 | low; {
		case isAlphanumeric(c) || strings.IndexByte("-._~", c) >= 0:
			return "", pathNeedless
		case c < ' ' || c == 0x7f || strings.IndexByte(`/\;?#%`, c) >= 0:
			return "", pathSeparator
		}
		b.WriteByte(c)
	}
	return b.String(), ""
}

func hex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// unfitForRule says why no request's canonical path can be, or begin with, path;
// "" where one can. A rule is written decoded.
func unfitForRule(path string) string {
	switch {
	case path[0] != '/':
		return `must begin with "/"`
	case !utf8.ValidString(path):
		return "must be UTF-8"
	case !everyByte(path, func(c byte) bool { return c >= ' ' && c != 0x7f && c != '%' && c != '?' && c != '#' }):
		return `must be written decoded, without "%", "?", "#" and control bytes: conditions look at the decoded path without the query`
	}
	if problem := segments(path); problem != "" {
		return "must be a path that a request can have: it " + problem
	}
	return ""
}
