package tunnel_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// forger is a stranger with a link, whose proofs a test makes as it likes.
type forger struct {
	*stranger
	qc      *quic.Conn
	control *quic.Stream
	link    wire.ID
	// challenge is the last that came.
	challenge wire.Challenge
}

// newForger links a stranger and takes the first challenge.
func newForger(t *testing.T, s *stranger, link byte) *forger {
	t.Helper()
	f := &forger{stranger: s, link: wire.ID{link}}
	qc, err := s.dial("isthmus/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	h := goodHello(link)
	h.Features = wire.FeatureReauth
	control, answer := hello(t, qc, h)
	if answer == nil || answer.Features&wire.FeatureReauth == 0 {
		t.Fatalf("answer %+v", answer)
	}
	f.qc, f.control = qc, control
	keepHeard(t, qc)
	f.hear()
	return f
}

// hear reads frames up to a challenge.
func (f *forger) hear() {
	f.t.Helper()
	frames := wire.NewFrameReader(f.control)
	for {
		typ, body, err := frames.Next()
		if err != nil {
			f.t.Fatal(err)
		}
		if typ != wire.FrameChallenge {
			continue
		}
		if f.challenge, err = wire.ParseChallenge(body); err != nil {
			f.t.Fatal(err)
		}
		return
	}
}

// binding of one of the forger's connections, as proofs by role have it.
func (f *forger) binding(qc *quic.Conn, role wire.Role) (b wire.Binding) {
	f.t.Helper()
	state := qc.ConnectionState().TLS
	secret, err := state.ExportKeyingMaterial(wire.ProofExporter, role.Context(), wire.BindingSize)
	if err != nil {
		f.t.Fatal(err)
	}
	copy(b[:], secret)
	return b
}

// transcript is the right one.
func (f *forger) transcript() wire.ProofTranscript {
	return wire.ProofTranscript{
		Prover: wire.Dialer, ProverID: f.source.ID().String(), VerifierID: f.to.Spec.GatewayID().String(),
		Link: f.link, Nonce: f.challenge.Nonce, Counter: f.challenge.Answers + 1,
		Bindings: []wire.Binding{f.binding(f.qc, wire.Dialer)},
	}
}

// prove signs with svid and sends the proof.
func (f *forger) prove(t wire.ProofTranscript, svid *x509svid.SVID, change func(*wire.Proof)) []byte {
	f.t.Helper()
	slices.SortFunc(t.Bindings, func(a, b wire.Binding) int { return bytes.Compare(a[:], b[:]) })
	proof, _, err := identity.NewStatic(svid).Prove(t.Append(nil))
	if err != nil {
		f.t.Fatal(err)
	}
	p := wire.Proof{Counter: t.Counter, Bindings: t.Bindings, Chain: proof.Chain, Signature: proof.Signature}
	if change != nil {
		change(&p)
	}
	frame, err := wire.AppendProof(nil, &p)
	if err != nil {
		f.t.Fatal(err)
	}
	f.send(frame)
	return frame
}

func (f *forger) send(frame []byte) {
	f.t.Helper()
	if _, err := f.control.Write(frame); err != nil {
		f.t.Fatal(err)
	}
}

// inLink is the acceptor's view of the only link.
func inLink(t *testing.T, a *tunneltest.Gateway) tunnel.LinkInfo {
	t.Helper()
	all := a.Links()
	if len(all) != 1 {
		t.Fatalf("links %+v", all)
	}
	return all[0]
}

func (f *forger) mint(ca *identitytest.CA, life time.Duration) *x509svid.SVID {
	return ca.Mint(identitytest.Leaf{URIs: []string{f.source.ID().String()}, NotAfter: time.Now().Add(life)})
}

// An authenticated peer, perhaps one whose old key was stolen, tries to prolong its
// link by anything but a proof.
func TestForgedProofsCloseTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, source := known(t, nil)
		defer m.Close()
		ca := m.CA(tunneltest.DefaultTrustDomain)
		s := newStranger(t, m, a, source)
		defer s.close()
		link := byte(0)
		for name, forge := range map[string]func(f *forger, svid *x509svid.SVID){
			"a proof of one's own, reflected": func(f *forger, svid *x509svid.SVID) {
				tr := f.transcript()
				tr.Prover, tr.Bindings = wire.Acceptor, []wire.Binding{f.binding(f.qc, wire.Acceptor)}
				f.prove(tr, svid, nil)
			},
			"the wrong role": func(f *forger, svid *x509svid.SVID) {
				tr := f.transcript()
				tr.Prover = wire.Acceptor
				f.prove(tr, svid, nil)
			},
			"a nonce of one's own": func(f *forger, svid *x509svid.SVID) {
				tr := f.transcript()
				tr.Nonce = wire.Nonce{1}
				f.prove(tr, svid, nil)
			},
			"a proof to another gateway": func(f *forger, svid *x509svid.SVID) {
				tr := f.transcript()
				tr.VerifierID = tunneltest.Spec{Cluster: "north", Gateway: "gw1"}.GatewayID().String()
				f.prove(tr, svid, nil)
			},
			"a proof on another link": func(f *forger, svid *x509svid.SVID) {
				tr := f.transcript()
				tr.Link = wire.ID{99}
				f.prove(tr, svid, nil)
			},
			"a connection of nobody": func(f *forger, svid *x509svid.SVID) {
				tr := f.transcript()
				tr.Bindings = []wire.Binding{{1}}
				f.prove(tr, svid, nil)
			},
			"a connection that was not signed": func(f *forger, svid *x509svid.SVID) {
				f.prove(f.transcript(), svid, func(p *wire.Proof) { p.Bindings = append([]wire.Binding{{}}, p.Bindings...) })
			},
			"a counter that skips": func(f *forger, svid *x509svid.SVID) {
				tr := f.transcript()
				tr.Counter++
				f.prove(tr, svid, nil)
			},
			"the certificate without its key": func(f *forger, svid *x509svid.SVID) {
				stolen := *f.mint(ca, time.Hour)
				stolen.Certificates = svid.Certificates
				f.prove(f.transcript(), &stolen, nil)
			},
			"another certificate of the same key": func(f *forger, svid *x509svid.SVID) {
				longer := ca.Mint(identitytest.Leaf{URIs: []string{f.source.ID().String()}, Key: svid.PrivateKey})
				f.prove(f.transcript(), svid, func(p *wire.Proof) { p.Chain = longer.Certificates[0].Raw })
			},
			"noise for a chain": func(f *forger, svid *x509svid.SVID) {
				f.prove(f.transcript(), svid, func(p *wire.Proof) { p.Chain = bytes.Repeat([]byte{0x30, 0x80}, 1000) })
			},
			"the same proof twice": func(f *forger, svid *x509svid.SVID) {
				f.send(f.prove(f.transcript(), svid, nil))
			},
			"the proof before, after its answer": func(f *forger, svid *x509svid.SVID) {
				frame := f.prove(f.transcript(), svid, nil)
				f.hear()
				f.send(frame)
			},
			"the nonce before": func(f *forger, svid *x509svid.SVID) {
				tr := f.transcript()
				f.prove(tr, svid, nil)
				f.hear()
				tr.Counter++
				f.prove(tr, svid, nil)
			},
			"an answer to no proof": func(f *forger, _ *x509svid.SVID) {
				b, err := wire.AppendChallenge(nil, &wire.Challenge{Nonce: wire.Nonce{1}, Answers: 1})
				if err != nil {
					t.Fatal(err)
				}
				f.send(b)
			},
		} {
			link++
			f := newForger(t, s, link)
			forge(f, f.mint(ca, time.Hour))
			time.Sleep(time.Second)
			if f.qc.Context().Err() == nil {
				t.Errorf("%s: the link is up", name)
				_ = f.qc.CloseWithError(0, "")
			} else {
				expectClose(t, name, f.qc, wire.Protocol)
			}
			a.Wait("link gone", func() bool { return len(a.Links()) == 0 })
		}
		// Who has not said that it can must not do it.
		qc, control := linked(t, s, 200)
		keepHeard(t, qc)
		b, err := wire.AppendChallenge(nil, &wire.Challenge{Nonce: wire.Nonce{1}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := control.Write(b); err != nil {
			t.Fatal(err)
		}
		<-qc.Context().Done()
		expectClose(t, "not negotiated", qc, wire.Protocol)
	})
}

// A good proof of a bad certificate prolongs nothing, and breaks nothing: the
// bundles may be behind.
func TestRefusedProofsLeaveTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, source := known(t, nil)
		defer m.Close()
		ca, forged, elsewhere := m.CA(tunneltest.DefaultTrustDomain), identitytest.NewCA(tunneltest.DefaultTrustDomain), identitytest.NewCA("elsewhere.test")
		s := newStranger(t, m, a, source)
		defer s.close()
		f := newForger(t, s, 1)
		first := inLink(t, a)
		id := source.ID()
		for name, svid := range map[string]*x509svid.SVID{
			"another authority":         forged.SVID(id),
			"an unknown domain":         elsewhere.SVID(elsewhere.ID(id.Path())),
			"another gateway":           ca.SVID(tunneltest.Spec{Cluster: "west", Gateway: "gw2"}.GatewayID()),
			"a certificate of tomorrow": ca.NotYetValid(id),
			"an authority":              ca.CAAsLeaf(id),
			"two ids":                   ca.TwoURIs(id, ca.ID("/web")),
		} {
			before := f.challenge
			f.prove(f.transcript(), svid, nil)
			f.hear()
			if f.challenge.Answers != before.Answers+1 || f.challenge.Verdict != wire.Revoked || f.challenge.Nonce == before.Nonce {
				t.Errorf("%s: answer %+v", name, f.challenge)
			}
			if l := inLink(t, a); l.State != tunnel.StateUp || l.PeerSerial != first.PeerSerial || !l.PeerNotAfter.Equal(first.PeerNotAfter) {
				t.Errorf("%s: link %+v", name, l)
			}
		}
		// It is asked again from time to time, with the nonce that it has.
		before, start := f.challenge, time.Now()
		f.hear()
		if f.challenge != before {
			t.Errorf("asked again: %+v, before %+v", f.challenge, before)
		}
		if d := time.Since(start); d < 4*time.Second || d > 7*time.Second {
			t.Errorf("asked again after %v", d)
		}
		// And what is good is taken. The new deadline holds, though it is earlier.
		good := f.mint(ca, time.Minute)
		f.prove(f.transcript(), good, nil)
		f.hear()
		if f.challenge.Verdict != wire.OK {
			t.Errorf("answer %+v", f.challenge)
		}
		end := good.Certificates[0].NotAfter
		if l := inLink(t, a); l.PeerSerial != good.Certificates[0].SerialNumber.Text(16) || !l.Expires.Equal(end) {
			t.Errorf("link %+v", l)
		}
		<-f.qc.Context().Done()
		expectClose(t, "at the end of what was proven last", f.qc, wire.Revoked)
		if late := time.Since(end); late < 0 || late > 2*delay {
			t.Errorf("closed %v after the end", late)
		}
	})
}

// Whenever certificates change while a link comes up, in the middle of any of its
// handshakes, all of its connections end up with what is valid last.
func TestRotationWhileALinkComesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for phase := range 25 { // 8 ms apart: more than all handshakes take
			m, east, west, a, b := rotors(t, time.Hour, nil)
			connectQuietly(t, m, a, b)
			time.Sleep(time.Duration(phase) * 8 * time.Millisecond)
			east.life, west.life = 4*time.Hour, 3*time.Hour
			east.rotate()
			time.Sleep(time.Duration(phase%4) * 5 * time.Millisecond)
			west.rotate()
			a.WaitLink(b, tunnel.StateUp)
			b.WaitLink(a, tunnel.StateUp)
			a.Wait("all connections", func() bool { return ready(a, b) })
			time.Sleep(time.Second)
			for _, g := range []*tunneltest.Gateway{a, b} {
				for _, l := range g.Links() {
					if left := time.Until(l.Expires); left < 2*time.Hour {
						t.Errorf("phase %d: link of %s expires in %v: %+v", phase, g.Spec.Cluster, left, l)
					}
				}
			}
			m.Close()
		}
	})
}

// A connection that was dialed anew is proven with the others, or by its own
// handshake; one that stays behind ends alone.
func TestConnectionsOfALinkComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = time.Minute
		m, east, west, a, b := rotors(t, life, nil)
		defer m.Close()
		m.Connect()
		first := a.WaitLink(b, tunnel.StateUp)
		for turn := range 12 {
			time.Sleep(life / 4)
			number := []uint32{1, 8, 9}[turn%3]
			if n := a.CutConnections(number, true); n != 1 {
				t.Fatalf("%d connections %d were cut", n, number)
			}
			time.Sleep(time.Duration(turn) * 15 * time.Millisecond) // while it is dialed
			east.rotate()
			west.rotate()
		}
		time.Sleep(time.Second)
		a.Wait("all connections", func() bool { return ready(a, b) })
		if l := a.WaitLink(b, tunnel.StateUp); !l.Since.Equal(first.Since) || time.Until(l.Expires) < life-5*time.Second {
			t.Errorf("link %+v", l)
		}
	})
}

// On a bad path, with certificates and connections changing at any moment, a link
// is never replaced or ended, and always holds what was proven last.
func TestProofsOnABadPath(t *testing.T) {
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			const life = 20 * time.Second
			m, east, west, a, b := rotors(t, life, nil)
			defer m.Close()
			m.Connect()
			a.Wait("all connections", func() bool { return ready(a, b) })
			first, back := a.WaitLink(b, tunnel.StateUp), b.WaitLink(a, tunnel.StateUp)
			bad := tunneltest.Path{Delay: delay, Jitter: 3 * delay, Loss: 0.03}
			m.Network.SetPath(a.Addr.Addr(), b.Addr.Addr(), bad)
			m.Network.SetPath(b.Addr.Addr(), a.Addr.Addr(), bad)
			random := rand.New(rand.NewPCG(seed, 0))
			for range 60 {
				for _, r := range []*rotor{east, west} {
					// At half of its life at the latest, or the link is renewed.
					if random.IntN(2) == 0 || time.Until(r.source.NotAfter()) < life*3/4 {
						r.rotate()
					}
				}
				if random.IntN(4) == 0 {
					a.CutConnections([]uint32{1, 8, 9}[random.IntN(3)], random.IntN(2) == 0)
				}
				time.Sleep(time.Duration(random.IntN(int(life / 4))))
			}
			east.rotate()
			west.rotate()
			time.Sleep(5 * time.Second)
			for name, l := range map[string][2]tunnel.LinkInfo{
				"a": {first, a.WaitLink(b, tunnel.StateUp)}, "b": {back, b.WaitLink(a, tunnel.StateUp)},
			} {
				if !l[0].Since.Equal(l[1].Since) || time.Until(l[1].Expires) < life-7*time.Second {
					t.Errorf("seed %d: link of %s: %+v", seed, name, l[1])
				}
			}
		})
	}
}
