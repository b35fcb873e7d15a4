package identity

import (
	"crypto/tls"
	"errors"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ServerTLS returns the configuration of a listener that accepts the protocols
// in alpn from peers that authorize admits. SVID and bundles are read at each
// handshake, so that the configuration never needs to be rebuilt. It works for
// TLS over TCP and for QUIC, which clones it.
//
// An empty alpn or a nil authorize refuses every peer. Refusals reach the caller
// of Handshake as [*PeerError], except where crypto/tls itself ends the handshake
// first with the alert that the RFCs want (no common protocol, an older version
// of TLS); all are logged and counted.
func (s *Source) ServerTLS(alpn []string, authorize Authorizer) *tls.Config {
	alpn = slices.Clone(alpn)
	cfg := s.baseTLS(alpn, authorize)
	// A certificate is demanded in VerifyConnection and not by RequireAnyClientCert:
	// that one fails inside crypto/tls, where the refusal would be neither typed
	// nor counted. VerifyConnection runs in both cases.
	cfg.ClientAuth = tls.RequestClientCert
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return nil, s.inspectHello(hello, alpn)
	}
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.ownCertificate() }
	return cfg
}

// ClientTLS returns the configuration of a dialer that offers the protocols in
// alpn, presents the SVID and goes on only with servers that authorize admits.
// There is no host name in it: a server is known by its SPIFFE ID. Errors are as
// in [Source.ServerTLS].
func (s *Source) ClientTLS(alpn []string, authorize Authorizer) *tls.Config {
	cfg := s.baseTLS(slices.Clone(alpn), authorize)
	// Host names are not checked, SPIFFE IDs are: in VerifyConnection.
	cfg.InsecureSkipVerify = true
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.ownCertificate() }
	return cfg
}

var errNoAuthorizer = errors.New("no authorizer is set")

// baseTLS holds what both sides share.
func (s *Source) baseTLS(alpn []string, authorize Authorizer) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		MaxVersion: tls.VersionTLS13,
		NextProtos: alpn,
		// A ticket carries the peer's certificates past VerifyPeerCertificate and
		// past the life of the bundle; there is no ticket and no cache.
		SessionTicketsDisabled: true,
		ClientSessionCache:     nil,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if err := s.admit(cs, alpn, authorize); err != nil {
				return s.refused(err)
			}
			return nil
		},
		Time: s.now,
	}
}

// admit is the decision on one handshake.
func (s *Source) admit(cs tls.ConnectionState, alpn []string, authorize Authorizer) *PeerError {
	if cs.Version >= tls.VersionTLS13 && !slices.Contains(alpn, cs.NegotiatedProtocol) {
		return refusef(spiffeid.ID{}, ReasonALPN, "negotiated %q, want one of %q", cs.NegotiatedProtocol, alpn)
	}
	return s.admitPeer(cs, authorize)
}

// admitPeer is admit without the application protocol.
func (s *Source) admitPeer(cs tls.ConnectionState, authorize Authorizer) *PeerError {
	if cs.Version < tls.VersionTLS13 {
		return refusef(spiffeid.ID{}, ReasonTLSVersion, "negotiated %s", tls.VersionName(cs.Version))
	}
	if cs.DidResume {
		return refuse(spiffeid.ID{}, ReasonResumed, nil)
	}
	st, now := s.state.Load(), s.now()
	// Checked here too, and not only where the certificate is fetched: a server
	// that never asks for one must not make an expired client look authenticated.
	if err := st.usable(now); err != nil {
		return err
	}
	id, err := verifyChain(cs.PeerCertificates, st.lookup, now)
	if err != nil {
		return err
	}
	if authorize == nil {
		return refuse(id, ReasonUnauthorized, errNoAuthorizer)
	}
	if err := authorize(id); err != nil {
		return refuse(id, ReasonUnauthorized, err)
	}
	return nil
}

// ownCertificate returns the SVID to present, or a typed error when there is
// none that is valid now.
func (s *Source) ownCertificate() (*tls.Certificate, error) {
	st := s.state.Load()
	if err := st.usable(s.now()); err != nil {
		return nil, s.refused(err)
	}
	return st.cert, nil
}

// inspectHello counts and logs the refusals that crypto/tls is about to make by
// itself: it knows the right alert to send, but tells nobody on our side why. A
// client that offers no protocol at all is refused here, since what crypto/tls does
// with it differs between TCP (it passes) and QUIC (an untyped error).
func (s *Source) inspectHello(hello *tls.ClientHelloInfo, alpn []string) error {
	none := spiffeid.ID{}
	offered := func(p string) bool { return slices.Contains(hello.SupportedProtos, p) }
	switch {
	case !slices.Contains(hello.SupportedVersions, tls.VersionTLS13):
		_ = s.refused(refusef(none, ReasonTLSVersion, "client offers %d versions, tls 1.3 is not among them", len(hello.SupportedVersions)))
	case len(hello.SupportedProtos) == 0:
		return s.refused(refusef(none, ReasonALPN, "client offers no protocol, want one of %q", alpn))
	case len(alpn) > 0 && !slices.ContainsFunc(alpn, offered):
		_ = s.refused(refusef(none, ReasonALPN, "client offers %d protocols, want one of %q", len(hello.SupportedProtos), alpn))
	}
	return nil
}
