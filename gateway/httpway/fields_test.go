package httpway

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestGRPCTimeout(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "100m": 100 * time.Millisecond, "5u": 5 * time.Microsecond,
		"7n": 7, "0S": 0, "99999999H": maxTimeout, "99999999S": maxTimeout,
	} {
		if got, ok := grpcTimeout(value); !ok || got != want {
			t.Errorf("%q: %v, %v; want %v", value, got, ok, want)
		}
	}
	for _, value := range []string{"", "S", "1", "1s", "-1S", "+1S", "1.5S", " 1S", "1S ", "123456789S", "0x1S", "1_0S"} {
		if got, ok := grpcTimeout(value); ok {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func FuzzGRPCTimeout(f *testing.F) {
	f.Add("100m")
	f.Add("99999999H")
	f.Fuzz(func(t *testing.T, value string) {
		if d, ok := grpcTimeout(value); ok && (d < 0 || d > maxTimeout) {
			t.Fatalf("%q: %v", value, d)
		}
	})
}

func TestTraceParent(t *testing.T) {
	good := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	request := func(values ...string) *http.Request { return &http.Request{Header: http.Header{"Traceparent": values}} }
	if got := traceParent(request(good)); got != good {
		t.Errorf("%q", got)
	}
	for _, bad := range [][]string{nil, {""}, {good, good}, {good + "0"}, {strings.ToUpper(good)}, {strings.Replace(good, "-", "_", 1)}, {strings.Replace(good, "4", "\n", 1)}} {
		if got := traceParent(request(bad...)); got != "" {
			t.Errorf("%q: %q", bad, got)
		}
	}
}
