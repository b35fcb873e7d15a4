package attempt

import (
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// follow fills what the traffic policy makes of a call: the name of the subset that it
// asks for, and the hash of the first sticky key that it has. It returns the cookie
// that is to be set where the call has none yet.
func (c *Call) follow(t *policy.Traffic, random func() uint64) *http.Cookie {
	c.Subset, c.Hash = "", 0
	if t.Subsets != nil && t.Subsets.Header != "" {
		c.Subset = c.field(t.Subsets.Header)
	}
	for i := range t.Sticky {
		k := &t.Sticky[i]
		kind, value := "header", ""
		switch {
		case k.Header != "":
			value = c.field(k.Header)
		case k.Source == policy.SourceCaller:
			kind, value = policy.SourceCaller, c.Caller
		case k.Source == policy.SourceAddress:
			kind, value = policy.SourceAddress, c.Source
		case k.Cookie != nil && c.HTTP != nil:
			kind, value = "cookie", c.cookie(k.Cookie.Name)
			if value == "" && k.Cookie.TTLSeconds > 0 {
				made := newCookie(k.Cookie, random)
				c.Hash = route.HashKey(kind, made.Value)
				return made
			}
		}
		if value != "" {
			c.Hash = route.HashKey(kind, value)
			return nil
		}
	}
	return nil
}

// field is the value of a request's field; of several, all.
func (c *Call) field(name string) string {
	if c.HTTP == nil {
		return ""
	}
	switch values := c.HTTP.Header[textproto.CanonicalMIMEHeaderKey(name)]; len(values) {
	case 0:
		return ""
	case 1:
		return strings.TrimSpace(values[0])
	default:
		return strings.Join(values, ",")
	}
}

// cookie is the value of the first cookie of that name.
func (c *Call) cookie(name string) string {
	for _, line := range c.HTTP.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			n, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
			if ok && n == name {
				return strings.Trim(value, `"`)
			}
		}
	}
	return ""
}

// newCookie names a caller from now on. It says nothing of where its calls go, so that
// these may move.
func newCookie(k *policy.StickyCookie, random func() uint64) *http.Cookie {
	c := &http.Cookie{
		Name: k.Name, Value: strconv.FormatUint(random(), 36) + strconv.FormatUint(random(), 36),
		Path: k.Path, MaxAge: int(k.TTLSeconds), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	if c.Path == "" {
		c.Path = "/"
	}
	return c
}

// SetCookie adds the cookie to an answer by which the caller's next calls are kept
// together with this one, if there is to be one.
func (s *Sequence) SetCookie(answer http.Header) {
	if s.cookie != nil {
		answer.Add("Set-Cookie", s.cookie.String())
	}
}
