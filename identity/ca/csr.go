package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"

	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
)

// parseCSR reads a certificate request: signed by the key that it is for, a P-256
// key like every other here. Names in it mean nothing.
func parseCSR(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > hostapi.MaxCSR {
		return nil, hostapi.Refuse(hostapi.CodeMalformed, "csr has %d bytes, at most %d", len(der), hostapi.MaxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, hostapi.Refuse(hostapi.CodeMalformed, "csr: %v", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, hostapi.Refuse(hostapi.CodeMalformed, "csr: signature: %v", err)
	}
	if key, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return nil, hostapi.Refuse(hostapi.CodeMalformed, "csr: key must be ECDSA P-256")
	}
	return csr, nil
}
