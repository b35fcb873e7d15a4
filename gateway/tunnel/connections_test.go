package tunnel_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
)

// A connection that dies alone costs what was on it; the link lives, serves on
// the others and dials it again.
func TestLinkOutlivesOneOfItsConnections(t *testing.T) {
	for name, number := range map[string]uint32{"raw": 1, "http": 8, "the other http": 9} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
				defer m.Close()
				time.Sleep(time.Second)
				before := a.WaitLink(b, tunnel.StateUp)
				var open []*tunnel.Stream
				for range 10 {
					open = append(open, openIdle(t, a))
				}
				if a.CutConnections(number, true) != 1 {
					t.Fatal("nothing was cut")
				}
				alive := 0
				for _, s := range open {
					_, err := s.Write([]byte("y"))
					if err == nil {
						_, err = io.ReadFull(s, make([]byte, 1))
					}
					if e, ok := errors.AsType[*tunnel.LinkError](err); ok && e.Delivered {
						continue
					}
					if err != nil {
						t.Error(err)
					}
					alive++
				}
				if want := map[bool]int{true: 5, false: 10}[number == 1]; alive != want {
					t.Errorf("%d of 10 streams are alive, want %d", alive, want)
				}
				for range 20 { // no gap for new ones
					_ = openIdle(t, a).Close()
					resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodPost, "http://x/", strings.NewReader("x")))
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				a.Wait("the connection again", func() bool { return a.WaitLink(b, tunnel.StateUp).Connections == 4 })
				if l := a.WaitLink(b, tunnel.StateUp); !l.Since.Equal(before.Since) {
					t.Errorf("the link was replaced: %+v", l)
				}
				for _, s := range open {
					_ = s.Close()
				}
			})
		})
	}
}

func TestLinkEndsWithItsControlConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		before := a.WaitLink(b, tunnel.StateUp)
		var open []*tunnel.Stream
		for range 10 {
			open = append(open, openIdle(t, a))
		}
		if b.CutConnections(0, false) != 1 {
			t.Fatal("nothing was cut")
		}
		for _, s := range open {
			_, err := s.Read(make([]byte, 1))
			if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || !e.Delivered {
				t.Errorf("read: %v", err)
			}
			_ = s.Close()
		}
		a.Wait("a new link", func() bool { return a.WaitLink(b, tunnel.StateUp).Since.After(before.Since) })
	})
}

// The links of both directions are independent; losing one moves its streams to
// the other.
func TestLinkOfThePeerServesWhileOursIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		a.CutConnections(0, true)
		a.Wait("link down", func() bool { return len(a.Links()) == 2 && a.Links()[0].State != tunnel.StateUp })
		s := openIdle(t, a) // at once, on the link that b dialed
		_ = s.Close()
		a.WaitLink(b, tunnel.StateUp)
	})
}
