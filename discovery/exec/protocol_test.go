package exec_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/discovery/exec"
)

func snapshotOf(t testing.TB, c discoverytest.Content) *catalog.Snapshot {
	t.Helper()
	s, err := catalog.NewSnapshot("cmd", c.Services())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What a Writer prints, a Decoder reads, over any history.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var out bytes.Buffer
		w := exec.NewWriter(&out)
		d := exec.NewDecoder(&out, "cmd")
		var last *catalog.Snapshot
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			c := discoverytest.Content{}
			for _, name := range []string{"a", "b", "c"} {
				if rapid.Bool().Draw(rt, "there") {
					c[name] = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3"}),
						func(s string) string { return s }).Draw(rt, "addresses")
				}
			}
			want := snapshotOf(t, c)
			if rapid.IntRange(0, 3).Draw(rt, "full") == 0 {
				w.Full()
			}
			if rapid.IntRange(0, 3).Draw(rt, "fail") == 0 {
				if err := w.Fail(errors.New("page 2: timeout")); err != nil {
					rt.Fatal(err)
				}
				if e, err := d.Next(); err != nil || e.Kind != exec.Failed || !strings.Contains(e.Err.Error(), "page 2") {
					rt.Fatalf("got %+v, %v", e, err)
				}
			}
			if err := w.Publish(want); err != nil {
				rt.Fatal(err)
			}
			e, err := d.Next()
			if err != nil {
				rt.Fatal(err)
			}
			if !e.Snapshot.Equal(want) || (e.Kind == exec.Unchanged) && !want.Equal(last) {
				rt.Fatalf("got %v, want %v", discoverytest.ContentOf(e.Snapshot), c)
			}
			for svc := range e.Snapshot.All() { // what is the same is shared
				if old := last.Get(svc.Name); old != nil && old.Equal(svc) && old != svc {
					rt.Fatalf("%s was copied", svc.Name)
				}
			}
			last = e.Snapshot
		}
		if out.Len() != 0 {
			rt.Fatalf("left over: %s", out.String())
		}
	})
}

// A service of more endpoints than fit in a line.
func TestLargeServicesAreSplit(t *testing.T) {
	s := &catalog.Service{Name: catalog.MustServiceName("big"), Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}}
	labels := map[string]string{}
	for i := range catalog.MaxLabels {
		labels[fmt.Sprintf("%0*d", catalog.MaxLabelKeyLen, i)] = strings.Repeat(`"`, catalog.MaxLabelValueLen) // escaped in JSON
	}
	for i := range 20_000 {
		e := catalog.Endpoint{
			ID: fmt.Sprint(i), Port: "http", Weight: 1, Health: catalog.Passing,
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80),
		}
		if i < 30 {
			e.Labels = labels
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	want, err := catalog.NewSnapshot("cmd", []*catalog.Service{s})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := exec.NewWriter(&out).Publish(want); err != nil {
		t.Fatal(err)
	}
	longest, lines := 0, 0
	for line := range bytes.Lines(out.Bytes()) {
		longest, lines = max(longest, len(line)), lines+1
	}
	if longest > exec.MaxLine || lines < 10 {
		t.Errorf("%d lines, the longest of %d bytes", lines, longest)
	}
	e, err := exec.NewDecoder(&out, "cmd").Next()
	if err != nil || !e.Snapshot.Equal(want) {
		t.Errorf("read back: %v", err)
	}
}

const (
	hello = `{"hello":{"version":1}}` + "\n"
	full  = `{"begin":{"full":true}}` + "\n"
	delta = `{"begin":{"full":false}}` + "\n"
	web   = `{"service":{"name":"web","ports":[{"name":"http","protocol":"http"}]}}` + "\n"
	more  = `{"endpoints":{"service":"web","endpoints":[{"id":"1","port":"http","address":"10.0.0.1:80","weight":1,"health":"passing"}]}}` + "\n"
	gone  = `{"remove":"web"}` + "\n"
)

func commit(services, endpoints int) string {
	return fmt.Sprintf(`{"commit":{"services":%d,"endpoints":%d}}`+"\n", services, endpoints)
}

func TestDecoderFollowsAChild(t *testing.T) {
	d := exec.NewDecoder(strings.NewReader(hello+"\n"+full+web+more+commit(1, 1)+delta+gone+commit(0, 0)+
		`{"unchanged":{}}`+"\r\n"+full+web+`{"error":{"message":"no"}}`+"\n"+delta+web+commit(1, 0)), "cmd")
	for i, want := range []struct {
		kind      exec.EventKind
		services  int
		endpoints int
	}{{exec.Committed, 1, 1}, {exec.Committed, 0, 0}, {exec.Unchanged, 0, 0}, {exec.Failed, 0, 0}, {exec.Committed, 1, 0}} {
		e, err := d.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != want.kind || e.Snapshot.Len() != want.services || e.Snapshot.EndpointCount() != want.endpoints {
			t.Errorf("event %d: got %+v", i, e)
		}
		if e.Snapshot != nil && e.Snapshot.Source() != "cmd" {
			t.Errorf("event %d: the source is %q", i, e.Snapshot.Source())
		}
	}
	if _, err := d.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestDecoderRefuses(t *testing.T) {
	empty := hello + full + commit(0, 0)
	for name, c := range map[string]struct {
		in   string
		line int
	}{
		"no hello":                    {full, 1},
		"a second hello":              {hello + hello, 2},
		"another version":             {`{"hello":{"version":2}}` + "\n", 1},
		"no JSON":                     {hello + "oops\n", 2},
		"an array":                    {hello + "[]\n", 2},
		"an unknown key":              {hello + `{"begin":{"full":true},"x":1}` + "\n", 2},
		"an unknown field":            {hello + full + `{"service":{"name":"a","prots":[]}}` + "\n", 3},
		"two keys":                    {hello + `{"begin":{"full":true},"unchanged":{}}` + "\n", 2},
		"no key":                      {hello + "{}\n", 2},
		"null":                        {hello + full + `{"service":null}` + "\n", 3},
		"two objects in a line":       {hello + `{"begin":{"full":true}}{"begin":{"full":true}}` + "\n", 2},
		"a first list that is a part": {hello + delta, 2},
		"a begin in a list":           {hello + full + full, 3},
		"a service outside":           {empty + web, 4},
		"a commit outside":            {hello + commit(0, 0), 2},
		"unchanged before a commit":   {hello + `{"unchanged":{}}` + "\n", 2},
		"unchanged in a list":         {empty + full + `{"unchanged":{}}` + "\n", 5},
		"a service twice":             {hello + full + web + web, 4},
		"removed and put":             {empty + delta + gone + web, 6},
		"removed twice":               {empty + delta + gone + gone, 6},
		"a removal in a full list":    {hello + full + gone, 3},
		"endpoints of nothing":        {hello + full + more, 3},
		"an invalid service":          {hello + full + `{"service":{"name":"a"}}` + "\n" + commit(1, 0), 4},
		"a reserved service":          {hello + full + strings.Replace(web, "web", "federation.x", 1) + commit(1, 0), 4},
		"a lost service":              {hello + full + web + commit(2, 0), 4},
		"a lost endpoint":             {hello + full + web + commit(1, 1), 4},
		"the parent's word":           {hello + `{"reread":{}}` + "\n", 2},
		"an endless line":             {hello + strings.Repeat("x", exec.MaxLine+1), 2},
	} {
		t.Run(name, func(t *testing.T) {
			d := exec.NewDecoder(strings.NewReader(c.in), "cmd")
			e, err := d.Next()
			if err == nil {
				e, err = d.Next() // the commit of empty
			}
			var p *exec.ProtocolError
			if !errors.As(err, &p) || p.Line != c.line {
				t.Errorf("want a protocol error in line %d, got %+v, %v", c.line, e, err)
			}
		})
	}
}

// Cut after each byte: nothing but whole commits is ever seen.
func TestDecoderOfACutStream(t *testing.T) {
	whole := hello + full + web + more + commit(1, 1) + delta + gone + commit(0, 0)
	first := strings.Index(whole, delta)
	for i := range len(whole) {
		d := exec.NewDecoder(strings.NewReader(whole[:i]), "cmd")
		commits := 0
		var err error
		for {
			var e exec.Event
			if e, err = d.Next(); err != nil {
				break
			}
			commits++
			if e.Snapshot.Len() != 1 {
				t.Fatalf("cut at %d: %+v", i, e)
			}
		}
		if want := map[bool]int{true: 1, false: 0}[i >= first]; commits != want {
			t.Fatalf("cut at %d: %d commits, want %d", i, commits, want)
		}
		clean := i == 0 || i == len(hello) || i == first
		if errors.Is(err, io.ErrUnexpectedEOF) == clean {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestErrorMessagesAreBounded(t *testing.T) {
	d := exec.NewDecoder(strings.NewReader(hello+`{"error":{"message":"`+strings.Repeat("x", 100_000)+`"}}`+"\n"), "cmd")
	if e, err := d.Next(); err != nil || len(e.Err.Error()) > 5000 {
		t.Errorf("%d bytes, %v", len(e.Err.Error()), err)
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte(hello + full + web + more + commit(1, 1) + delta + gone + commit(0, 0) + `{"unchanged":{}}`))
	f.Add([]byte(hello + full + `{"error":{"message":"x"}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := exec.NewDecoder(bytes.NewReader(data), "cmd")
		for {
			e, err := d.Next()
			if err != nil {
				return
			}
			if (e.Kind == exec.Failed) != (e.Err != nil) || (e.Kind == exec.Failed) == (e.Snapshot != nil) {
				t.Fatalf("%+v", e)
			}
			for svc := range e.Snapshot.All() {
				if err := svc.Validate(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
