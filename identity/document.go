package identity

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// What a bundle document may ask of its reader. A peer writes it, and before a
// join anybody: reading must cost milliseconds whatever it says. The JOSE library
// checks keys while it reads them, and a private RSA key of 600 KB took it 23 s.
const (
	// maxKeys bounds the entries of a document, JWT authorities included: each
	// costs a check that it is a point on its curve.
	maxKeys = 256
	// maxKeyBytes bounds one entry: a root with an RSA key of 8192 bits has 6 KiB.
	maxKeyBytes = 32 << 10
	// maxRefreshHint is far beyond what anybody waits; longer ones would overflow
	// a time.Duration.
	maxRefreshHint = 365 * 24 * time.Hour
)

// documentHead is what is read of a bundle document before its keys are.
type documentHead struct {
	Keys        keyList `json:"keys"`
	RefreshHint *int64  `json:"spiffe_refresh_hint"`
}

// readHead refuses a document whose keys would be costly to read, or private.
func readHead(document []byte) (documentHead, error) {
	var head documentHead
	err := json.Unmarshal(document, &head)
	switch {
	case errors.Is(err, ErrTooLarge):
		return head, err
	case err != nil:
		return head, fmt.Errorf("%w: %w", ErrMalformedBundle, err)
	}
	return head, nil
}

// refreshHint is how often to look again; zero when the document has no hint.
func (d documentHead) refreshHint() time.Duration {
	if d.RefreshHint == nil || *d.RefreshHint <= 0 {
		return 0
	}
	return time.Duration(min(*d.RefreshHint, int64(maxRefreshHint/time.Second))) * time.Second
}

// keyList is the number of keys in a document. It counts on where a document
// repeats the member, since all of them are read then.
type keyList int

// UnmarshalJSON implements json.Unmarshaler.
func (n *keyList) UnmarshalJSON(data []byte) error {
	var keys []json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return err
	}
	if *n += keyList(len(keys)); *n > maxKeys {
		return fmt.Errorf("%w: %d keys, at most %d", ErrTooLarge, *n, maxKeys)
	}
	for i, key := range keys {
		if len(key) > maxKeyBytes {
			return fmt.Errorf("%w: key %d has %d bytes, at most %d", ErrTooLarge, i, len(key), maxKeyBytes)
		}
		// RFC 7518, 6.2.2, 6.3.2 and 6.4.1: what only the owner may hold.
		var secret struct {
			D json.RawMessage `json:"d"`
			K json.RawMessage `json:"k"`
		}
		if err := json.Unmarshal(key, &secret); err != nil {
			return err
		}
		if secret.D != nil || secret.K != nil {
			return fmt.Errorf("key %d is a private one", i)
		}
	}
	return nil
}

// checkKey bounds what checking a signature of an authority costs. crypto/tls does
// so for certificates that a peer presents; a root comes another way and is as
// costly, since its key checks a signature in each handshake of its domain.
func checkKey(c *x509.Certificate) error {
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSABits {
		return fmt.Errorf("%w: RSA key of %d bits, at most %d", ErrTooLarge, k.N.BitLen(), maxRSABits)
	}
	return nil
}
