package pricebook_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/price"
	"github.com/isthmus-mesh/isthmus/federation/pricebook"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

const book = `prices:
  - {cloud: aws, direction: egress, per_gb: 0.09, valid_from: 2026-01-01}
  - {cloud: aws, direction: egress, peer: aws, per_gb: 0.02, valid_from: 2026-01-01}
  - {cloud: aws, region: us-east-1, direction: egress, peer: aws/us-east-2, per_gb: 0.01, valid_from: 2026-01-01}
  - {cloud: aws, direction: inter_zone, per_gb: 0.02, valid_from: 2026-01-01}
  - {cloud: gcp, direction: egress, per_gb: 0.12, valid_from: 2026-01-01}
  - {cloud: gcp, direction: egress, peer: aws, per_gb: 0.085, valid_from: 2026-01-01}
  - {cloud: gcp, direction: egress, peer: aws, per_gb: 0.08, valid_from: 2027-01-01}
  - {cloud: gcp, region: us-central1, direction: egress, per_gb: 0.2, valid_from: 2026-01-01}
  - {cloud: gcp, direction: ingress, peer: aws/us-east-1, per_gb: 0.005, valid_from: 2026-06-01}
`

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func place(t *testing.T, s string) catalog.Locality {
	t.Helper()
	l, err := catalog.ParseLocality(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func read(t *testing.T, text string) *price.Book {
	t.Helper()
	b, err := pricebook.Read("prices.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheMostSpecificPriceWins(t *testing.T) {
	b := read(t, book)
	for _, c := range []struct {
		own, other string
		at         time.Time
		same       bool
		out, in    float64
		known      bool
	}{
		{own: "aws/us-east-1", other: "aws/us-east-2", out: 0.01, in: 0.02, known: true}, // the pair; back: the cloud
		{own: "aws/us-west-2", other: "aws/us-east-2", out: 0.02, in: 0.02, known: true},
		// Egress of aws to anywhere and what gcp takes of that region; back gcp to aws: a
		// price that names the peer goes before one that names the own region.
		{own: "aws/us-east-1", other: "gcp/us-central1", out: 0.095, in: 0.085, known: true},
		{own: "aws/us-west-2", other: "gcp/us-central1", out: 0.09, in: 0.085, known: true},
		{own: "aws/us-west-2", other: "gcp/us-central1", at: now.AddDate(1, 0, 0), out: 0.09, in: 0.08, known: true},
		{own: "gcp/us-central1", other: "onprem/hall", out: 0.2},                         // back: nobody says
		{own: "aws/us-east-1", other: "aws/us-east-1", out: 0.02, in: 0.02, known: true}, // zones
		{own: "aws/us-east-1", other: "aws/us-east-1", same: true, known: true},
		{own: "gcp/us-east1", other: "gcp/us-east1"}, // gcp lists none
		{own: "aws/us-east-1", other: ""},
		{own: "aws/us-east-1", other: "gcp/us-central1", at: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)},
		{own: "aws/us-east-1", other: "gcp/us-central1", at: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), out: 0.09, in: 0.085, known: true},
	} {
		at := c.at
		if at.IsZero() {
			at = now
		}
		tariff := b.Tariff(place(t, c.own), []price.Site{{Cluster: "other", Locality: place(t, c.other)}}, at)
		got := tariff.Toward("other", c.same, at)
		if math.Abs(got.Out-c.out) > 1e-12 || math.Abs(got.In-c.in) > 1e-12 || got.Known != c.known {
			t.Errorf("%s to %s at %s: %+v, want %v and %v, known %v", c.own, c.other, at.Format(time.DateOnly), got, c.out, c.in, c.known)
		}
	}
}

// What is announced is in the tariff, and comes into force with the day, also where
// no federation is there to say so.
func TestAnnouncedPricesHoldFromTheirDayOn(t *testing.T) {
	b := read(t, book)
	tariff := b.Tariff(place(t, "aws/us-west-2"), []price.Site{{Cluster: "g", Locality: place(t, "gcp/us-east1")}}, now)
	if next := b.Next(now); !next.Equal(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("next change %s", next)
	}
	for at, in := range map[time.Time]float64{
		now: 0.085, time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC): 0.085, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC): 0.08,
	} {
		if got := tariff.Toward("g", false, at); got.In != in {
			t.Errorf("%s: %v, want %v", at, got.In, in)
		}
	}
	// The same is said at every look before that day.
	if again := b.Tariff(place(t, "aws/us-west-2"), []price.Site{{Cluster: "g", Locality: place(t, "gcp/us-east1")}}, now.Add(time.Hour)); !again.Equal(tariff) {
		t.Errorf("an hour later it differs: %+v, was %+v", again, tariff)
	}
	var none *price.Book
	if none.Tariff(place(t, "aws"), nil, now) != nil || (*route.Tariff)(nil).Toward("g", false, now) != (route.Price{}) {
		t.Error("no book makes a tariff")
	}
}

// A hand-worked example: a request of 1 MB and an answer of 9 MB between aws/us-east-1
// and gcp/us-central1 cost 0.001 GB x (0.09 + 0.005) $ + 0.009 GB x 0.085 $ = 0.00086 $.
func TestTheUnitIsDollarsForABillionBytes(t *testing.T) {
	p := read(t, book).Tariff(place(t, "aws/us-east-1"), []price.Site{{Cluster: "g", Locality: place(t, "gcp/us-central1")}}, now).Toward("g", false, now)
	if got := p.Dollars(1e6, 9e6); math.Abs(got-0.00086) > 1e-12 {
		t.Errorf("%v dollars, want 0.00086", got)
	}
}

func TestEveryProblemHasItsPlace(t *testing.T) {
	_, err := pricebook.Read("prices.yaml", []byte(`prices:
  - {cloud: aws, direction: egress, per_gb: 0.09, valid_from: 2026-01-01}
  - {cloud: AWS!, direction: upwards, per_gb: -1, valid_from: 2026-01-01}
  - {cloud: aws, direction: egress, per_gb: 0.09, valid_from: yesterday}
  - {cloud: aws, direction: egress, per_gb: 0.08, valid_from: 2026-01-01}
  - {cloud: aws, region: a, direction: inter_zone, peer: gcp, per_gb: 0.08, valid_from: 2026-01-01}
  - {cloud: aws, region: a, direction: egress, peer: aws/a, valid_from: 2026-01-01}
  - {cloud: aws, direction: egress, peer: gcp/a/b, per_gb: 2000, valid_from: 2026-01-01, note: x}
`))
	problems, ok := errors.AsType[strictyaml.Problems](err)
	if !ok {
		t.Fatalf("%T %v", err, err)
	}
	said := problems.Error()
	for _, want := range []string{
		"prices.yaml:3", "prices[1].cloud", "prices[1].direction: must be egress, ingress or inter_zone", "prices[1].per_gb", `value "-1"`,
		"prices[2].valid_from: must be a day", "prices.yaml:5", "prices[0] is of the same place", "prices[4].peer", "prices[5].peer: is the region itself",
		"prices[5].per_gb: is required", "prices[6].peer", "prices[6].per_gb", "prices[6].note: unknown key",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing says %q in:\n%s", want, said)
		}
	}
}

type memory struct{ data []byte }

func (m *memory) Save(data []byte) error { m.data = data; return nil }
func (m *memory) Load(accept func([]byte) error) (skipped, err error) {
	if m.data == nil {
		return nil, nil
	}
	return nil, accept(m.data)
}

func TestABadFileChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prices.yaml")
	write := func(text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	kept := &memory{}
	f := pricebook.NewFile(path, kept)
	if f.Look(now); f.Status().Err == nil || f.Status().Book != nil {
		t.Errorf("without a file: %+v", f.Status())
	}
	write(book, now)
	if !f.Look(now) || f.Status().Err != nil || len(f.Status().Book.Prices) != 9 {
		t.Fatalf("%+v", f.Status())
	}
	if f.Look(now) {
		t.Error("an unchanged file is a change")
	}
	good := f.Status().Book
	write("prices: [{cloud: aws}]", now.Add(time.Second))
	if !f.Look(now) || f.Status().Err == nil || f.Status().Book != good {
		t.Errorf("after a bad file: %+v", f.Status())
	}
	if f.Look(now) {
		t.Error("the same error is told twice")
	}
	// A restart meanwhile goes on with what was kept, and says so.
	again := pricebook.NewFile(path, kept)
	again.Look(now)
	if st := again.Status(); !st.Kept || st.Err == nil || len(st.Book.Prices) != 9 {
		t.Errorf("after a restart: %+v", st)
	}
	write("prices: []", now.Add(2*time.Second))
	if !again.Look(now) || again.Status().Err != nil || again.Status().Kept || len(again.Status().Book.Prices) != 0 {
		t.Errorf("an empty book is a book: %+v", again.Status())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if again.Look(now); again.Status().Err == nil || again.Status().Book == nil {
		t.Error("a file that is gone takes the book along")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(book))
	f.Add([]byte("prices: [{cloud: aws, direction: ingress, per_gb: .inf, valid_from: 2026-01-01T00:00:00Z}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := pricebook.Read("f", data)
		if err != nil {
			return
		}
		tariff := b.Tariff(catalog.Locality{Cloud: "aws", Region: "a"}, []price.Site{{Cluster: "x", Locality: catalog.Locality{Cloud: "gcp", Region: "b"}}}, now)
		for _, p := range tariff.Paths {
			for _, s := range append(p.Out, p.In...) {
				if !(s.PerGB >= 0 && s.PerGB <= 2*route.MaxPricePerGB) {
					t.Errorf("a price of %v", s.PerGB)
				}
			}
		}
	})
}
