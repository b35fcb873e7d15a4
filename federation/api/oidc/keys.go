package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keysFresh is how long keys are used without asking again: a key that the
	// issuer withdraws is out after that.
	keysFresh = 15 * time.Minute
	// keysKept is how long they hold while the issuer cannot be asked.
	keysKept = 24 * time.Hour
	// minRefetch is the least between two questions, whatever tokens ask for: kid
	// is the sender's choice.
	minRefetch = 10 * time.Second
	// maxKeys bounds a key set: issuers have two or three.
	maxKeys = 64
)

// keySet holds the issuer's keys.
type keySet struct {
	issuer string
	client *client
	now    func() time.Time
	fetch  chan struct{} // a token: one fetch at a time

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // when keys were read; zero is never
	tried   time.Time // when the issuer was asked last
	err     error     // of the last try
}

func newKeySet(issuer string, c *client, now func() time.Time) *keySet {
	return &keySet{issuer: issuer, client: c, now: now, fetch: make(chan struct{}, 1)}
}

// find returns the key of that name for that algorithm. An empty kid means the
// only key that fits.
func (s *keySet) find(ctx context.Context, kid, alg string) (any, *TokenError) {
	keys, age, ok := s.usable()
	key, found := pick(keys, kid, alg)
	if ok && found && age < keysFresh {
		return key, nil
	}
	// With a key at hand nobody waits for somebody else's question.
	s.refresh(ctx, !ok || !found)
	keys, _, ok = s.usable()
	if !ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		return nil, &TokenError{Reason: NoKeys, Err: s.err}
	}
	if key, found = pick(keys, kid, alg); found {
		return key, nil
	}
	return nil, refuse(UnknownKey)
}

// usable are the keys that may be used at all, and how old they are.
func (s *keySet) usable() ([]jose.JSONWebKey, time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := s.now().Sub(s.fetched)
	return s.keys, age, !s.fetched.IsZero() && age < keysKept
}

// refresh asks the issuer, unless it was asked a moment ago. Whoever comes while
// a question is on its way may wait for the answer, not longer than ctx lasts.
func (s *keySet) refresh(ctx context.Context, wait bool) {
	select {
	case s.fetch <- struct{}{}:
	default:
		if !wait {
			return
		}
		select {
		case s.fetch <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
	defer func() { <-s.fetch }()
	s.mu.Lock()
	if now := s.now(); !s.tried.IsZero() && now.Sub(s.tried) < minRefetch {
		s.mu.Unlock()
		return
	}
	s.tried = s.now()
	s.mu.Unlock()
	// Whoever asked may go away; the answer serves all.
	run, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	keys, err := s.read(run)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = err; err == nil {
		s.keys, s.fetched = keys, s.now()
	}
}

// read discovers the key set and reads it.
func (s *keySet) read(ctx context.Context) ([]jose.JSONWebKey, error) {
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := s.client.get(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration", maxDiscovery, &doc); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	if doc.Issuer != s.issuer {
		return nil, fmt.Errorf("discovery: issuer %q is not the configured one", doc.Issuer)
	}
	if rule := keysURLRule(doc.JWKSURI, s.issuer); rule != "" {
		return nil, fmt.Errorf("discovery: jwks_uri %q %s", doc.JWKSURI, rule)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := s.client.get(ctx, doc.JWKSURI, maxJWKS, &set); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("key set: has %d keys, at most %d", len(set.Keys), maxKeys)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		// RFC 7517, section 5: keys of a kind that is not understood are left out.
		// So are private and symmetric ones: who publishes those has lost them. A
		// private RSA key is checked while it is read, which takes seconds where it is
		// large, so it is not read at all.
		if private(raw) {
			continue
		}
		if err := key.UnmarshalJSON(raw); err == nil && key.IsPublic() {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("key set: has no public key")
	}
	return keys, nil
}

// private reports whether a key holds what only its owner may: RFC 7518, sections
// 6.2.2, 6.3.2 and 6.4.1.
func private(raw json.RawMessage) bool {
	var secret struct {
		D json.RawMessage `json:"d"`
		K json.RawMessage `json:"k"`
	}
	return json.Unmarshal(raw, &secret) != nil || secret.D != nil || secret.K != nil
}

// pick returns the key of that name that fits. Two keys of one name are told
// apart by what they fit; where both do, neither is taken.
func pick(keys []jose.JSONWebKey, kid, alg string) (any, bool) {
	var found any
	for _, k := range keys {
		if kid != "" && k.KeyID != kid || !fits(k, alg) {
			continue
		}
		if found != nil {
			return nil, false
		}
		found = k.Key
	}
	return found, found != nil
}
