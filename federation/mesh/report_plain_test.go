package mesh_test

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/mesh"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"pgregory.net/rapid"
)

func drawLink(t *rapid.T) route.LinkReport {
	texts := []string{"", "gw-1", "10.0.0.1:7443", "up"}
	spans, losses, least := []time.Duration{0, 17, 40 * time.Millisecond, math.MaxInt64}, []float64{0, 0.25, 1}, 0
	if rapid.IntRange(0, 3).Draw(t, "odd") == 0 { // what the quick way leaves
		texts, spans, losses, least = append(texts, "no route <to> it", "é", `"`), append(spans, -1), append(losses, 1e-9), -1
	}
	text, span := rapid.SampledFrom(texts), rapid.SampledFrom(spans)
	figure := rapid.SampledFrom([]uint64{0, 1, 1 << 40, math.MaxUint64})
	at := rapid.SampledFrom([]time.Time{{}, time.Date(2026, 5, 1, 2, 3, 4, 567, time.UTC), time.Date(2026, 5, 1, 0, 0, 0, 0, time.FixedZone("", 3600))})
	return route.LinkReport{
		Cluster: catalog.ClusterName(rapid.SampledFrom([]string{"gcp", "aws", "gcp", "aws", "no name"}).Draw(t, "cluster")), Gateway: text.Draw(t, "gateway"), Address: text.Draw(t, "address"),
		Dialed: rapid.Bool().Draw(t, "dialed"), State: text.Draw(t, "state"), Reason: text.Draw(t, "reason"), Since: at.Draw(t, "since"),
		Transport: text.Draw(t, "transport"), Connections: rapid.IntRange(least, 3).Draw(t, "connections"), Streams: rapid.IntRange(0, 3).Draw(t, "streams"),
		RTT: span.Draw(t, "rtt"), MinRTT: span.Draw(t, "min rtt"), Jitter: span.Draw(t, "jitter"),
		Loss:         rapid.SampledFrom(losses).Draw(t, "loss"),
		BandwidthOut: figure.Draw(t, "out"), BandwidthIn: figure.Draw(t, "in"), BytesSent: figure.Draw(t, "sent"), BytesReceived: figure.Draw(t, "received"),
		Expires: at.Draw(t, "expires"), PeerNotAfter: at.Draw(t, "not after"), PeerSerial: text.Draw(t, "serial"), PeerAuthority: text.Draw(t, "authority"),
	}
}

func drawReport(t *rapid.T) []byte {
	r := route.Report{Gateway: catalog.Gateway{Name: "gw-1", ID: "spiffe://a/b"}, Build: rapid.SampledFrom([]string{"", `,"links":[`, `\`, "b"}).Draw(t, "build")}
	for range rapid.IntRange(0, 3).Draw(t, "links") {
		r.Links = append(r.Links, drawLink(t))
	}
	if rapid.Bool().Draw(t, "has clusters") {
		r.Clusters = []route.ClusterReport{{Cluster: "b"}}
	}
	data, err := json.Marshal(&r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// checkReport holds what is read the quick way to what encoding/json reads.
func checkReport(t interface{ Fatalf(string, ...any) }, data []byte, before []route.LinkReport) {
	got, err := mesh.DecodeReport(data, before)
	want := new(route.Report)
	wantErr := json.Unmarshal(data, want)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%s: %v, want %v", data, err, wantErr)
	}
	if len(got.Links) == 0 && len(want.Links) == 0 {
		got.Links, want.Links = nil, nil
	}
	if err == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: is read as %+v, want %+v", data, got, want)
	}
}

// Reports are read as encoding/json reads them: as gateways write them, stirred, and
// after others that said something else.
func TestReportsAreReadAlike(t *testing.T) {
	quick := 0
	rapid.Check(t, func(t *rapid.T) {
		data := drawReport(t)
		var before []route.LinkReport
		for range rapid.IntRange(0, 3).Draw(t, "before") {
			before = append(before, drawLink(t))
		}
		for range rapid.IntRange(0, 2).Draw(t, "stirs") {
			at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
			switch rapid.IntRange(0, 2).Draw(t, "how") {
			case 0:
				data[at] = rapid.SampledFrom([]byte(`{}[]",:0-tlL `)).Draw(t, "byte")
			case 1:
				data = append(data[:at], data[at+1:]...)
			default:
				data = append(bytes.Clone(data[:at]), data[at/2:]...)
			}
		}
		if mesh.CutLinks(data) {
			quick++
		}
		checkReport(t, data, before)
	})
	if quick == 0 {
		t.Error("no report was read the quick way")
	}
}

func FuzzReport(f *testing.F) {
	for _, seed := range []string{
		`{"gateway":{"name":"a","id":"b"},"links":[{"cluster":"c","rtt_ns":1,"loss":0.5,"since":"2026-05-01T00:00:00Z"}],"version":7}`,
		`{"a":1,"links":[{"streams":1}]1}`, `{,"links":[{"streams":1}]}`, `{"version":7,"links":[{"streams":1}],"LINKS":null}`,
		`{"build":",\"links\":[","version":1}`, `{"gateway":{"x":1,"links":[{"streams":1}]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkReport(t, data, nil) })
}

// A report like the last one costs no text of any link: by allocations.
func TestAReportIsReadCheaply(t *testing.T) {
	r := route.Report{Gateway: catalog.Gateway{Name: "gw-1", ID: "spiffe://a/b"}}
	const links = 200
	for range links {
		r.Links = append(r.Links, route.LinkReport{Cluster: "peer", Gateway: "gw-1", Address: "10.0.0.1:7443", State: "up", Transport: "quic", Connections: 2, RTT: 17})
	}
	data, err := json.Marshal(&r)
	if err != nil {
		t.Fatal(err)
	}
	got := testing.AllocsPerRun(20, func() {
		if _, err := mesh.DecodeReport(data, r.Links); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("figure: %.0f allocations for a report of %d links", got, links)
	if most := 40.0; got > most {
		t.Errorf("%.0f allocations, want at most %.0f", got, most)
	}
}
