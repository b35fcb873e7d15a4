package consulca

import "testing"

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"TrustDomain":"x.consul","Roots":[{"RootCert":"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"}]}`))
	f.Add([]byte(`{"CertPEM":"","PrivateKeyPEM":""}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if r, err := parseRoots(body); err == nil && (len(r.authorities) == 0 || r.domain.IsZero()) {
			t.Error("roots without a root or a domain")
		}
		if p, err := parseLeaf(body, "billing"); err == nil && (len(p.certs) == 0 || p.key == nil || p.id.IsZero()) {
			t.Error("a leaf without what makes one")
		}
	})
}
