package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// FuzzParseCache feeds bodies under a correct digest: the digest keeps accidents
// out, not a program that writes a wrong file. (It is in this package because only
// here a body can be parsed without the header; identitytest would be a cycle.)
func FuzzParseCache(f *testing.F) {
	good, now := cachedState(f)
	body, err := good.marshalCache()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"svid":{"certificates":"AA==","key":"AA=="},"bundles":[{"trust_domain":"x","refresh_hint_seconds":-1}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		st, err := parseCache(body, spiffeid.ID{}, now)
		if err != nil {
			if !errors.Is(err, ErrCacheCorrupt) && !errors.Is(err, ErrCacheExpired) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if st.usable(now) != nil {
			t.Fatal("a cache without a usable svid was taken")
		}
		again, err := st.marshalCache()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseCache(again, spiffeid.ID{}, now); err != nil {
			t.Fatalf("round trip: %v", err)
		}
	})
}

// A byte that flips, whichever it is, costs nothing: the second copy serves, and
// the file is whole again. A file that was cut is refused, unless a whole copy is
// left of it.
func TestCacheAtEachByte(t *testing.T) {
	good, now := cachedState(t)
	body, err := good.marshalCache()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cache")
	if err := keep.Save(cachePoint, path, cacheKind, body); err != nil {
		t.Fatal(err)
	}
	sealed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const step = 7 // every byte costs a second, and the format's own test has them all
	for i := 0; i < len(sealed); i += step {
		changed := bytes.Clone(sealed)
		changed[i] ^= 0x20
		if err := os.WriteFile(path, changed, keep.Private); err != nil {
			t.Fatal(err)
		}
		data, damage, err := keep.Load(cachePoint, path, cacheKind, maxCacheBytes)
		if err != nil || !errors.Is(damage, ErrCacheCorrupt) {
			t.Fatalf("byte %d changed: damage %v, %v", i, damage, err)
		}
		if _, err := parseCache(data, spiffeid.ID{}, now); err != nil {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if healed, err := os.ReadFile(path); err != nil || !bytes.Equal(healed, sealed) {
			t.Fatalf("byte %d changed: the file stays damaged, %v", i, err)
		}
		if err := os.WriteFile(path, sealed[:i], keep.Private); err != nil {
			t.Fatal(err)
		}
		if _, _, err := keep.Load(cachePoint, path, cacheKind, maxCacheBytes); i != len(sealed)/2 && !errors.Is(err, ErrCacheCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestBackoffIsFullJitterWithinBounds(t *testing.T) {
	low := &fullJitter{random: func(int64) int64 { return 0 }}
	high := &fullJitter{random: func(n int64) int64 { return n - 1 }}
	ceiling := backoffBase
	for range 100 {
		if d := low.Next(); d != backoffFloor {
			t.Fatalf("got %s", d)
		}
		if d := high.Next(); d != backoffFloor+ceiling-1 {
			t.Fatalf("got %s, want %s", d, backoffFloor+ceiling-1)
		}
		ceiling = min(2*ceiling, backoffMax)
	}
	high.Reset()
	if d := high.Next(); d != backoffFloor+backoffBase-1 {
		t.Fatalf("got %s after reset", d)
	}
}

func TestLateness(t *testing.T) {
	st, start := cachedState(t) // an hour of life
	st.received = start
	const never = -1
	tests := []struct {
		after   time.Duration
		failing time.Duration // since when the source fails; never: it does not
		want    Standing
		next    time.Duration
	}{
		{0, never, StandingGood, time.Minute},
		{35*time.Minute + 30*time.Second, never, StandingGood, 30 * time.Second},
		{36 * time.Minute, never, StandingDegraded, time.Minute},
		{59 * time.Minute, never, StandingDegraded, 30 * time.Second},
		{time.Hour - 1500*time.Millisecond, never, StandingDegraded, time.Second},
		{time.Hour - 500*time.Millisecond, never, StandingDegraded, 500 * time.Millisecond},
		{time.Hour, never, StandingExpired, time.Minute},
		{100 * time.Hour, never, StandingExpired, time.Minute},
		// Half of what was left: of an hour, of 50 minutes.
		{29*time.Minute + 59*time.Second, 0, StandingGood, time.Second},
		{30 * time.Minute, 0, StandingDegraded, time.Minute},
		{34 * time.Minute, 10 * time.Minute, StandingGood, time.Minute},
		{35 * time.Minute, 10 * time.Minute, StandingDegraded, time.Minute},
		// A source that fails late does not put off the alarm.
		{36 * time.Minute, 35 * time.Minute, StandingDegraded, time.Minute},
		{time.Hour, 35 * time.Minute, StandingExpired, time.Minute},
		{time.Hour + time.Second, time.Hour + time.Second, StandingExpired, time.Minute},
	}
	for _, tt := range tests {
		var failing time.Time
		if tt.failing != never {
			failing = start.Add(tt.failing)
		}
		if got, next := st.lateness(start.Add(tt.after), failing); got != tt.want || next != tt.next {
			t.Errorf("after %s, failing since %s: %s, %s, want %s, %s", tt.after, tt.failing, got, next, tt.want, tt.next)
		}
	}
}

// While we do not know who we are, a peer may have named our own domain; once we
// know, what it said is dropped, in memory and from the cache file.
func TestAPeerNeverSpeaksForTheOwnDomain(t *testing.T) {
	st, now := cachedState(t)
	own := st.domain()
	early := (&state{}).clone()
	early.peers[own] = st.api[own]
	o := offer{origin: OriginWorkloadAPI, svids: []*x509svid.SVID{st.svid}, bundles: map[spiffeid.TrustDomain]Bundle{own: {TrustDomain: own, Authorities: st.api[own].authorities}}}
	next, err := early.accept(o, spiffeid.ID{}, now)
	if err != nil || next.peers[own] != nil || next.lookup(own).origin != OriginWorkloadAPI {
		t.Fatalf("got %+v, %v", next, err)
	}
	st.peers[own] = newTrustBundle(own, st.api[own].authorities, OriginPeer, 9, 0, now)
	sealed, err := st.marshalCache()
	if err != nil {
		t.Fatal(err)
	}
	restored, err := parseCache(sealed, spiffeid.ID{}, now)
	if err != nil || restored.peers[own] != nil {
		t.Fatalf("got %+v, %v", restored, err)
	}
}

// cachedState is a state as a Source would hold it, valid for an hour from the
// returned time.
func cachedState(tb testing.TB) (*state, time.Time) {
	tb.Helper()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	td := spiffeid.RequireTrustDomainFromString("a.test")
	mint := func(ca bool, uri *url.URL, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			tb.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), URIs: []*url.URL{uri}, NotBefore: now, NotAfter: now.Add(time.Hour),
			IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if ca {
			template.KeyUsage, parent, signer = x509.KeyUsageCertSign, template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		if err != nil {
			tb.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			tb.Fatal(err)
		}
		return cert, key
	}
	root, rootKey := mint(true, td.ID().URL(), nil, nil)
	id := spiffeid.RequireFromPath(td, "/gw")
	leaf, leafKey := mint(false, id.URL(), root, rootKey)
	st := (&state{}).clone()
	st.api[td] = newTrustBundle(td, []*x509.Certificate{root}, OriginWorkloadAPI, 1, time.Minute, now)
	st.withSVID(&x509svid.SVID{ID: id, Certificates: []*x509.Certificate{leaf}, PrivateKey: leafKey}, now)
	return st, now
}
