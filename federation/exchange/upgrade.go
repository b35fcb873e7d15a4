package exchange

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Upgrade is the protocol of streams that have a connection to themselves.
//
// A stream is asked for with an upgrade where the listener can: both ends then
// have the connection to themselves, the lines of the stream are all that is on
// it, and a telling costs a record of TLS and a system call at either end. The frames
// of HTTP/2, and the goroutines that pass them on, cost half as much again, several
// hundred times a second. Whoever does not know the upgrade answers as if it had
// not been asked for.
const Upgrade = "isthmus-exchange/1"

const (
	// AliveEvery is how often the listener of an upgraded stream shows that it lives,
	// as the pings of HTTP/2 do of others: with a line of its own after the first that
	// it hears once so much time has passed. It is empty, and only that it came counts.
	AliveEvery = 10 * time.Second
	// deaf ends a stream whose listener has missed three of them.
	deaf = 35 * time.Second
	// A listener says little: these are reads, of at most maxSaying bytes.
	sayingsPerSecond = 1
	sayingsBurst     = 10
	maxSaying        = 64
)

var (
	errDeaf     = fmt.Errorf("the listener has said nothing for %v", deaf)
	errTalks    = errors.New("the listener says more than that it lives")
	errUpgraded = errors.New("the answer to the upgrade is not a connection")
)

// asksUpgrade reports whether a request asks for one that can be had. Only
// HTTP/1.1 has them.
func asksUpgrade(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ProtoMinor == 1 && r.Header.Get("Upgrade") == Upgrade &&
		strings.EqualFold(r.Header.Get("Connection"), "upgrade")
}

// askUpgrade asks for one.
func askUpgrade(r *http.Request) {
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", Upgrade)
}

// upgraded is an exporter's end of an upgraded stream.
type upgraded struct{ conn net.Conn }

// upgrade takes a connection out of the server's hands, and answers on it; an
// error of ErrNotSupported means that it stays there.
func upgrade(w http.ResponseWriter) (*upgraded, error) {
	conn, rest, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	u := &upgraded{conn: conn}
	if n := rest.Reader.Buffered(); n > 0 {
		u.close()
		return nil, fmt.Errorf("%d bytes before the answer: %w", n, errTalks)
	}
	const answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + Upgrade +
		"\r\nContent-Type: " + streamType + "\r\nCache-Control: no-store\r\n\r\n"
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := io.WriteString(conn, answer); err != nil {
		u.close()
		return nil, err
	}
	return u, conn.SetWriteDeadline(time.Time{})
}

// listen hears that the listener lives, and ends with the connection, or returns
// why it does not count as alive.
func (u *upgraded) listen() error {
	room := newBucket(sayingsPerSecond, sayingsBurst)
	saying := make([]byte, maxSaying)
	for {
		now := time.Now()
		_ = u.conn.SetReadDeadline(now.Add(deaf))
		if _, err := u.conn.Read(saying); err != nil {
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
				return errDeaf
			}
			return err
		}
		if !room.take(now) {
			return errTalks
		}
	}
}

// Write, Flush and cut make it a stream's way out.
func (u *upgraded) Write(p []byte) (int, error) { return u.conn.Write(p) }

// Flush has nothing to do: what is written is sent.
func (u *upgraded) Flush() error { return nil }

// cut closes the connection under its TLS: a word of farewell could wait for a
// listener that does not read.
func (u *upgraded) cut() {
	if t, ok := u.conn.(*tls.Conn); ok {
		_ = t.NetConn().Close()
		return
	}
	_ = u.conn.Close()
}

func (u *upgraded) close() { _ = u.conn.Close() }

// runUpgraded is run on an upgraded connection, which it closes.
func (s *stream) runUpgraded(ctx context.Context, u *upgraded) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, u.cut)() // the server no longer ends what it gave away
	done := make(chan struct{})
	go func() {
		defer close(done)
		cancel(u.listen())
	}()
	err := s.run(ctx, true)
	u.close() // which ends the listening
	<-done
	return errors.Join(err, context.Cause(ctx))
}

// life is a listener's end of an upgraded stream.
type life struct {
	conn io.ReadWriteCloser
	said time.Time
}

// lives tells the exporter that this end lives, if it is time to.
func (l *life) lives(now time.Time) error {
	if l == nil || now.Sub(l.said) < AliveEvery {
		return nil
	}
	l.said = now
	_, err := l.conn.Write([]byte{'\n'})
	return err
}

// upgradedOf is the connection of an answer that is an upgrade; nil where it is
// not. It ends with ctx, which the client does not see to.
func upgradedOf(ctx context.Context, resp *http.Response, now time.Time) (*life, error) {
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, nil
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.Header.Get("Upgrade") != Upgrade {
		return nil, errUpgraded
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return &life{conn: conn, said: now}, nil
}
