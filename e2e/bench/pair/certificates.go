package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// farName is what the far proxy's certificate is for.
const farName = "far.bench.example.org"

// writeCertificates writes an authority, and for near and far a certificate, a key and
// both in one file. Keys are of P-256, as SVIDs have them.
func writeCertificates(dir string) error {
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, "ca.pem"), "CERTIFICATE", der); err != nil {
		return err
	}
	for serial, name := range []string{"near", "far"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(int64(serial) + 2), Subject: pkix.Name{CommonName: name},
			DNSNames:  []string{name + ".bench.example.org"},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
		if err != nil {
			return err
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		if err := writePEM(path+".pem", "CERTIFICATE", der); err != nil {
			return err
		}
		if err := writePEM(path+".key", "PRIVATE KEY", private); err != nil {
			return err
		}
		if err := writePEM(path+".both.pem", "CERTIFICATE", der, private); err != nil {
			return err
		}
	}
	return nil
}

// writePEM writes one block, and a private key below it where there is one.
func writePEM(path, kind string, der []byte, private ...[]byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	for _, key := range private {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	}
	return os.WriteFile(path, text, 0o600)
}
