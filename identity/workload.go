package identity

import (
	"crypto/tls"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// WorkloadServerTLS returns the configuration of a listener that workloads speak
// mTLS to: an application with an SVID of its own, or the sidecar of a service mesh.
// It is [Source.ServerTLS] but for one thing: which application protocol runs inside
// is the workload's matter. Those in alpn are offered, and nobody has to ask for one:
// sidecars that carry bytes negotiate none. What keeps a connection from being taken
// for one of Isthmus's own protocols is that its listener serves nothing else.
func (s *Source) WorkloadServerTLS(alpn []string, authorize Authorizer) *tls.Config {
	cfg := s.workloadTLS(slices.Clone(alpn), authorize)
	cfg.ClientAuth = tls.RequestClientCert // as in ServerTLS
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if !slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
			// crypto/tls is about to refuse it and would tell nobody here.
			_ = s.refused(refusef(spiffeid.ID{}, ReasonTLSVersion, "client offers %d versions, tls 1.3 is not among them", len(hello.SupportedVersions)))
		}
		return nil, nil
	}
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.ownCertificate() }
	return cfg
}

// WorkloadClientTLS returns the configuration for one connection to a workload that
// speaks mTLS: [Source.ClientTLS] without an application protocol.
//
// accepted is called, from within a Read, when the server shows that it has taken
// the certificate that it was shown. In TLS 1.3 the client's handshake ends before
// the server judges its certificate, so that a refusal comes as the answer to the
// first Read. The first message that a server sends after its judgement is a session
// ticket, and a server only sends one to a client that could keep it: the session
// cache here exists for that sign and keeps nothing, so that no session is ever
// resumed (a resumed one would be refused, as everywhere). Servers that send no
// tickets give no sign.
func (s *Source) WorkloadClientTLS(authorize Authorizer, accepted func()) *tls.Config {
	cfg := s.workloadTLS(nil, authorize)
	cfg.InsecureSkipVerify = true // as in ClientTLS: VerifyConnection does it
	cfg.SessionTicketsDisabled = false
	cfg.ClientSessionCache = forgetful(accepted)
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.ownCertificate() }
	return cfg
}

// forgetful is a session cache that keeps nothing, and tells that it was offered
// something.
type forgetful func()

// Get implements tls.ClientSessionCache.
func (forgetful) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

// Put implements tls.ClientSessionCache.
func (f forgetful) Put(_ string, session *tls.ClientSessionState) {
	if session != nil {
		f()
	}
}

// workloadTLS is baseTLS for protocols that are not ours.
func (s *Source) workloadTLS(alpn []string, authorize Authorizer) *tls.Config {
	cfg := s.baseTLS(alpn, authorize)
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := s.admitPeer(cs, authorize); err != nil {
			return s.refused(err)
		}
		return nil
	}
	return cfg
}
