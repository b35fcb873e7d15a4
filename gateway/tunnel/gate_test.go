package tunnel

import (
	"context"
	"crypto/x509"
	"testing"
)

// More attempts than usual must prove their address first.
func TestGateDemandsProofUnderLoad(t *testing.T) {
	g := newGate(10, func() *x509.Certificate { return nil })
	demanded := 0
	for range 3 * retryRate {
		if g.demandProof(nil) {
			demanded++
		}
	}
	if demanded < 2*retryRate-10 || demanded > 2*retryRate {
		t.Errorf("%d of %d attempts had to prove their address", demanded, 3*retryRate)
	}
}

func TestGateBoundsHandshakes(t *testing.T) {
	g := newGate(10, func() *x509.Certificate { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	for i := range maxHandshakes {
		if _, err := g.admit(ctx, nil); err != nil {
			t.Fatalf("handshake %d: %v", i, err)
		}
	}
	if _, err := g.admit(ctx, nil); err == nil {
		t.Error("one more was let in")
	}
	if g.handshaking() != maxHandshakes {
		t.Errorf("%d in progress", g.handshaking())
	}
	cancel() // they all fail
	for g.handshaking() > 0 {
		select {
		case <-t.Context().Done():
			t.Fatalf("%d are still counted", g.handshaking())
		default:
		}
	}
	if _, err := g.admit(t.Context(), nil); err != nil {
		t.Errorf("after they ended: %v", err)
	}
}
