package identity

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// httpOnly is what bundle endpoints speak: one small answer needs no HTTP/2, and
// every client of HTTPS has HTTP/1.1.
var httpOnly = []string{"http/1.1"}

// EndpointServerTLS returns the configuration of a listener that everybody may
// read from: it shows the SVID and asks for no certificate. It is for what is
// public, a bundle endpoint of profile https_spiffe; [Source.ServerTLS] is for
// everything else.
func (s *Source) EndpointServerTLS() *tls.Config {
	cfg := endpointTLS()
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.ownCertificate() }
	cfg.Time = s.now
	return cfg
}

// EndpointClientTLS returns the configuration of a dialer that shows no
// certificate and goes on only with a server whose SVID verifies against the
// bundle that is held now for its trust domain, and which authorize admits. It
// is for bundle endpoints of profile https_spiffe: that works while the own SVID
// is missing or expired, since a new bundle may be what is needed to mend that.
// Refusals are [*PeerError]s, logged and counted.
func (s *Source) EndpointClientTLS(authorize Authorizer) *tls.Config {
	return verifiedEndpoint(func(td spiffeid.TrustDomain) *trustBundle { return s.state.Load().lookup(td) }, authorize, s)
}

// PinnedClientTLS is [Source.EndpointClientTLS] for a process that has nothing
// yet but one bundle: that of a join token. Refusals are typed, but neither
// logged nor counted here.
func PinnedClientTLS(bundle Bundle, authorize Authorizer) *tls.Config {
	s := newSource(Options{}, newMetrics())
	held := newTrustBundle(bundle.TrustDomain, bundle.Authorities, OriginStatic, bundle.Sequence, bundle.RefreshHint, s.now())
	return verifiedEndpoint(func(td spiffeid.TrustDomain) *trustBundle {
		if td != held.domain {
			return nil
		}
		return held
	}, authorize, s)
}

// verifiedEndpoint is the client of a server that is known by its SPIFFE ID.
func verifiedEndpoint(lookup func(spiffeid.TrustDomain) *trustBundle, authorize Authorizer, s *Source) *tls.Config {
	cfg := endpointTLS()
	// Host names are not checked, SPIFFE IDs are: below.
	cfg.InsecureSkipVerify = true
	cfg.Time = s.now
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if cs.DidResume {
			return s.refused(refuse(spiffeid.ID{}, ReasonResumed, nil))
		}
		id, err := verifyChain(cs.PeerCertificates, lookup, s.now())
		if err != nil {
			return s.refused(err)
		}
		if authorize == nil {
			return s.refused(refuse(id, ReasonUnauthorized, errNoAuthorizer))
		}
		if err := authorize(id); err != nil {
			return s.refused(refuse(id, ReasonUnauthorized, err))
		}
		return nil
	}
	return cfg
}

// WebServerTLS returns the configuration of a listener that everybody may read
// from and that is known by its host name: a bundle endpoint of profile
// https_web. certificate is asked at each handshake.
func WebServerTLS(certificate func() (*tls.Certificate, error)) *tls.Config {
	cfg := endpointTLS()
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate() }
	return cfg
}

// WebClientTLS returns the configuration of a dialer that knows its server by
// host name, checked by crypto/tls against roots; nil are the system's. It is
// for bundle endpoints of profile https_web and for nothing else: no SVID is
// shown, no SPIFFE ID is learnt.
func WebClientTLS(roots *x509.CertPool) *tls.Config {
	cfg := endpointTLS()
	cfg.RootCAs = roots
	return cfg
}

// endpointTLS is what the four have in common with [Source.ServerTLS].
func endpointTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13,
		NextProtos: httpOnly, SessionTicketsDisabled: true, ClientSessionCache: nil,
	}
}
