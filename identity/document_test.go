package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// Documents that made ParseBundle work for seconds, or could: 600 KB of a private
// RSA key took 23 s. Their refusal must come before the work; what it costs is
// printed, and only a gross miss fails.
func TestCostlyBundlesAreRefusedCheaply(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	good := oneKey(t, ca)
	number := func(bytes int) string {
		n := new(big.Int).Lsh(big.NewInt(1), uint(8*bytes-1))
		return base64.RawURLEncoding.EncodeToString(n.SetBit(n, 0, 1).Bytes())
	}
	rsaKey := func(bytes int, more string) string {
		return fmt.Sprintf(`{"kty":"RSA","use":"jwt-svid","kid":"x","n":%q,"e":"AQAB"%s}`, number(bytes), more)
	}
	primes := func(bytes int) string {
		return fmt.Sprintf(`,"p":%q,"q":"AQAB","d":"AQAB"`, number(bytes))
	}
	point := func(i int) string {
		return fmt.Sprintf(`{"kty":"EC","crv":"P-256","use":"jwt-svid","kid":"%d","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}`, i)
	}
	points := func(n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = point(i)
		}
		return strings.Join(all, ",")
	}
	tests := []struct {
		name string
		doc  string
		want error
	}{
		{"private RSA key of 600 KB", set(rsaKey(220_000, primes(220_000)), good), identity.ErrTooLarge},
		{"private RSA key", set(rsaKey(8_000, primes(8_000)), good), identity.ErrMalformedBundle},
		{"private EC key", set(strings.Replace(point(1), "{", `{"d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE",`, 1), good), identity.ErrMalformedBundle},
		{"symmetric key", set(`{"kty":"oct","k":"AAAA","use":"jwt-svid","kid":"x"}`, good), identity.ErrMalformedBundle},
		{"public RSA key of 700 KB", set(rsaKey(700_000, ""), good), identity.ErrTooLarge},
		{"6000 keys", set(points(6000), good), identity.ErrTooLarge},
		{"6000 keys, in members of 200", "{" + strings.Repeat(`"keys":[`+points(200)+`],`, 30) + `"x":0}`, identity.ErrTooLarge},
		{"as many keys as may be", set(points(255), good), nil},
		{"an authority with an RSA key of 16384 bits", string(identitytest.BundleJSON(ca.TrustDomain(), 1, rsaRoot(t, 16384))), identity.ErrTooLarge},
		{"an authority with an RSA key of 8192 bits", string(identitytest.BundleJSON(ca.TrustDomain(), 1, rsaRoot(t, 8192))), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.doc) > identity.MaxBundleBytes {
				t.Fatalf("the document has %d bytes", len(tt.doc))
			}
			began := time.Now()
			_, err := identity.ParseBundle(ca.TrustDomain(), []byte(tt.doc))
			took := time.Since(began)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			t.Logf("%d bytes in %v", len(tt.doc), took)
			if took > 3*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// A hint in seconds overflowed a time.Duration and came out as any number.
func TestRefreshHintDoesNotOverflow(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	const year = 365 * 24 * time.Hour
	for hint, want := range map[string]time.Duration{
		"-1": 0, "0": 0, "300": 5 * time.Minute, "31536000": year, "31536001": year,
		"9223372037": year, "18446744073709": year, "9223372036854775807": year, "-9223372036854775808": 0,
	} {
		doc := strings.TrimSuffix(set(oneKey(t, ca)), "}") + `,"spiffe_refresh_hint":` + hint + "}"
		if b, err := identity.ParseBundle(ca.TrustDomain(), []byte(doc)); err != nil || b.RefreshHint != want {
			t.Errorf("%s: got %v, %v, want %v", hint, b.RefreshHint, err, want)
		}
	}
}

func set(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// oneKey is the entry of a document's only key.
func oneKey(t *testing.T, ca *identitytest.CA) string {
	t.Helper()
	var doc struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(ca.BundleJSON(1), &doc); err != nil {
		t.Fatal(err)
	}
	return string(doc.Keys[0])
}

// rsaRoot has a modulus of that many bits, of which nobody knows the factors: it
// is signed by another key, as nobody checks that of a root.
func rsaRoot(t *testing.T, bits int) *x509.Certificate {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "large"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
