package oidc

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

const (
	// leeway is how far the issuer's clock may be from ours.
	leeway = time.Minute
	// maxAudiences and maxRoleValues bound what one token lists: Entra ID gives up
	// on 200 groups.
	maxAudiences  = 16
	maxRoleValues = 256
)

// Claims are what a good token says.
type Claims struct {
	// Subject is unique among the issuer's.
	Subject string
	// Roles are the values of the role claim.
	Roles []string
	// Expires is when it ends, leeway not counted.
	Expires time.Time
}

// judge checks a verified payload.
func judge(c *Config, now time.Time, payload []byte) (*Claims, *TokenError) {
	var set map[string]json.RawMessage
	if err := decodeStrict(payload, &set); err != nil {
		return nil, refusef(Malformed, "payload %w", err)
	}
	var iss string
	if !text(set["iss"], &iss) || iss != c.Issuer {
		return nil, refuse(WrongIssuer)
	}
	aud, ok := texts(set["aud"], maxAudiences)
	if !ok || !slices.Contains(aud, c.Audience) {
		return nil, refuse(WrongAudience)
	}
	out := &Claims{}
	if !text(set["sub"], &out.Subject) || out.Subject == "" || len(out.Subject) > maxName || !printable(out.Subject) {
		return nil, refusef(BadClaims, "sub must be 1 to %d printable characters", maxName)
	}
	if err := out.times(c, now, set); err != nil {
		return nil, err
	}
	if raw, there := set[c.RoleClaim]; there {
		if out.Roles, ok = texts(raw, maxRoleValues); !ok {
			return nil, refusef(BadClaims, "%s must be a string or a list of at most %d strings", c.RoleClaim, maxRoleValues)
		}
	}
	return out, nil
}

// times checks exp and iat, which are required, and nbf.
func (c *Claims) times(cfg *Config, now time.Time, set map[string]json.RawMessage) *TokenError {
	exp, ok := date(set["exp"])
	if !ok {
		return refusef(BadClaims, "exp must be a number of seconds")
	}
	iat, ok := date(set["iat"])
	if !ok {
		return refusef(BadClaims, "iat must be a number of seconds")
	}
	nbf := iat
	if raw, there := set["nbf"]; there {
		if nbf, ok = date(raw); !ok {
			return refusef(BadClaims, "nbf must be a number of seconds")
		}
	}
	switch {
	case !now.Before(exp.Add(leeway)):
		return refuse(Expired)
	case now.Before(nbf.Add(-leeway)) || now.Before(iat.Add(-leeway)):
		return refuse(NotYet)
	case exp.Sub(iat) > cfg.MaxLifetime:
		return refusef(TooLong, "%v from iat to exp, at most %v", exp.Sub(iat), cfg.MaxLifetime)
	}
	c.Expires = exp
	return nil
}

// text reads a JSON string; null is none.
func text(raw json.RawMessage, into *string) bool {
	return len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, into) == nil
}

// texts reads a string or a list of at most limit strings.
func texts(raw json.RawMessage, limit int) ([]string, bool) {
	var one string
	if text(raw, &one) {
		return []string{one}, true
	}
	var parts []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &parts) != nil || len(parts) > limit {
		return nil, false
	}
	out := make([]string, len(parts))
	for i, p := range parts {
		if !text(p, &out[i]) {
			return nil, false
		}
	}
	return out, true
}

// date reads a NumericDate: seconds since 1970, perhaps with a fraction, of a
// size that a time can be made of.
func date(raw json.RawMessage) (time.Time, bool) {
	var n float64
	if len(raw) == 0 || raw[0] < '0' || raw[0] > '9' || json.Unmarshal(raw, &n) != nil || n >= 1<<40 {
		return time.Time{}, false
	}
	whole, part := math.Modf(n)
	return time.Unix(int64(whole), int64(part*1e9)).UTC(), true
}

// printable: a subject goes into logs and the audit log.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd })
}
