package relay_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

func called(timeout string) *http.Request {
	return &http.Request{Header: http.Header{"Grpc-Timeout": {timeout}}}
}

func TestTimeout(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "100m": 100 * time.Millisecond, "5u": 5 * time.Microsecond,
		"7n": 7, "0S": 0, "99999999H": 24 * time.Hour, "99999999S": 24 * time.Hour,
	} {
		if got, ok := relay.Timeout(called(value)); !ok || got != want {
			t.Errorf("%q: %v, %v; want %v", value, got, ok, want)
		}
	}
	for _, value := range []string{"", "S", "1", "1s", "-1S", "+1S", "1.5S", " 1S", "1S ", "123456789S", "0x1S", "1_0S"} {
		if got, ok := relay.Timeout(called(value)); ok {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func FuzzTimeout(f *testing.F) {
	f.Add("100m")
	f.Add("99999999H")
	f.Fuzz(func(t *testing.T, value string) {
		if d, ok := relay.Timeout(called(value)); ok && (d < 0 || d > 24*time.Hour) {
			t.Fatalf("%q: %v", value, d)
		}
	})
}

func TestAnAnswerThatTheDeadlineBreaksEndsWithIt(t *testing.T) {
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		deadline time.Duration // from now
		ends     error
		want     error
		status   string
	}{
		"broken after the deadline": {-time.Second, broken, nil, "4"},
		"broken before it":          {time.Hour, broken, broken, ""},
		"whole after the deadline":  {-time.Second, io.EOF, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(tt.deadline))
			defer cancel()
			answer := &http.Response{Body: io.NopCloser(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(tt.ends)))}
			relay.EndInTime(ctx, answer)
			got, err := io.ReadAll(answer.Body)
			if string(got) != "half" || !errors.Is(err, tt.want) {
				t.Errorf("read %q, %v; want %v", got, err, tt.want)
			}
			if s := answer.Trailer.Get("Grpc-Status"); s != tt.status {
				t.Errorf("status %q, want %q", s, tt.status)
			}
		})
	}
}
