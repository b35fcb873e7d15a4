package exchange_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestBatchesApplyWholeAtTheirSync(t *testing.T) {
	a := newApplier()
	s := newScript().full(1, 3).put("web.shop", 1).put("db.shop", 2).roster("[" + gatewayJSON("gw1", "gw1.example.org:7443") + "]").bundle(`{"keys":[]}`)
	if _, err := feed(a, s.lines, t0); err != nil || a.Snapshot() != nil {
		t.Fatalf("before the sync: %v, %v", a.Snapshot(), err)
	}
	s.lines = nil
	effect, err := feed(a, s.sync(1, 3).lines, t0)
	if err != nil || !effect.Changed || !effect.Synced || string(effect.Bundle) != `{"keys":[]}` {
		t.Fatalf("%+v, %v", effect, err)
	}
	if got, want := show(a.Snapshot()), `1.3 db.shop=2 web.shop=1 gw1@gw1.example.org:7443 bundle:{"keys":[]}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if have, full := a.Connected(); have != (exchange.Position{Epoch: 1, Version: 3}) || full {
		t.Errorf("asks for %v, full %v", have, full)
	}
	first := a.Snapshot()
	s.lines = nil
	if effect, err = feed(a, s.delta(1, 5, 3).put("web.shop", 7).remove("db.shop").put("new.shop", 1).sync(1, 5).heartbeat(1, 5).lines, t0); err != nil {
		t.Fatal(err)
	}
	if got, want := show(a.Snapshot()), `1.5 new.shop=1 web.shop=7 gw1@gw1.example.org:7443 bundle:{"keys":[]}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if effect.Bundle != nil {
		t.Error("an unchanged bundle is told again")
	}
	if got, want := show(first), `1.3 db.shop=2 web.shop=1`; !strings.HasPrefix(got, want) {
		t.Errorf("the older snapshot changed: %s", got)
	}
	// Up to date: an empty delta confirms it.
	a.Connected()
	s.lines = nil
	before := a.Snapshot()
	if effect, err = feed(a, s.delta(1, 5, 5).sync(1, 5).lines, t0); err != nil || effect.Changed || !effect.Synced || a.Snapshot() != before {
		t.Errorf("confirmation: %+v, %v", effect, err)
	}
}

func TestFullListSharesWhatIsTheSame(t *testing.T) {
	a := newApplier()
	s := newScript().full(1, 1).put("web.shop", 1).put("db.shop", 2).sync(1, 1)
	if _, err := feed(a, s.lines, t0); err != nil {
		t.Fatal(err)
	}
	before := a.Snapshot().Services()
	s.lines = nil
	if _, err := feed(a, s.full(2, 1).put("web.shop", 5).put("db.shop", 2).sync(2, 1).lines, t0); err != nil {
		t.Fatal(err)
	}
	after := a.Snapshot().Services()
	if after[0] != before[0] || after[1] == before[1] {
		t.Error("db is unchanged and must be the same pointer, web has changed")
	}
}

func TestRosterAndBundleAreNeverReplacedByNothing(t *testing.T) {
	a := newApplier()
	s := newScript().full(1, 1).put("web.shop", 1).roster("["+gatewayJSON("gw1", "a:1")+"]").bundle(`{"keys":[1]}`).sync(1, 1)
	s.full(2, 1).put("web.shop", 2).sync(2, 1)
	s.full(3, 1).put("web.shop", 3).roster(`[]`).sync(3, 1)
	if _, err := feed(a, s.lines, t0); err != nil {
		t.Fatal(err)
	}
	if got, want := show(a.Snapshot()), `3.1 web.shop=3 gw1@a:1 bundle:{"keys":[1]}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestLaterVersionsAreUnderstoodAsFarAsPossible(t *testing.T) {
	a := newApplier()
	s := newScript().full(1, 1).line(`{"type":"weather","sky":"blue"}`)
	s.putRaw("new.shop", `{"service":"new.shop","ports":[{"name":"q","protocol":"quic"}],"rows":[{"port":"q","ready":1,"total":1}]}`)
	s.putRaw("web.shop", `{"service":"web.shop","colour":"red","ports":[{"name":"http","protocol":"http"},{"name":"q","protocol":"quic","x":1}],"rows":[{"port":"http","ready":3,"total":3},{"port":"q","ready":1,"total":1}]}`)
	s.sync(1, 1).line(`{"type":"forecast"}`).heartbeat(1, 1)
	if _, err := feed(a, s.lines, t0); err != nil {
		t.Fatal(err)
	}
	got := a.Snapshot().Services()
	if len(got) != 1 || len(got[0].Ports) != 1 || len(got[0].Rows) != 1 || got[0].Rows[0].Ready != 3 {
		t.Errorf("%s: want web.shop with its http port only", show(a.Snapshot()))
	}
	s.lines = nil
	if _, err := feed(a, s.delta(1, 2, 1).remove("new.shop").sync(1, 2).lines, t0); err != nil {
		t.Errorf("what is not understood must be counted, too: %v", err)
	}
}

// refusals are what a hostile or broken peer says to a listener at (5, 10) that
// holds web.shop.
func refusals() map[string]struct {
	say  []string
	want exchange.Reason
} {
	base := func() *script {
		s := newScript()
		s.items["service/web.shop"], s.services = summaryJSON("web.shop", 1), 1
		return s
	}
	long := strings.Repeat("a", 64)
	rows := func(row string) string {
		return `{"service":"x.shop","ports":[{"name":"http","protocol":"http"}],"rows":[` + row + `]}`
	}
	full := func(service string) []string { return base().full(5, 11).putRaw("x.shop", service).sync(5, 11).lines }
	roster := func(gateways string) []string { return base().full(5, 11).roster(gateways).sync(5, 11).lines }
	return map[string]struct {
		say  []string
		want exchange.Reason
	}{
		"claims another cluster":             {[]string{`{"type":"begin","format":1,"cluster":"aws","epoch":6,"version":1}`}, exchange.ReasonOrigin},
		"claims no cluster":                  {[]string{`{"type":"begin","format":1,"epoch":6,"version":1}`}, exchange.ReasonOrigin},
		"claims it in another case":          {[]string{`{"type":"begin","format":1,"cluster":"GCP","epoch":6,"version":1}`}, exchange.ReasonOrigin},
		"later format":                       {[]string{`{"type":"begin","format":2,"cluster":"gcp","epoch":6,"version":1}`}, exchange.ReasonFormat},
		"no format":                          {[]string{`{"type":"begin","cluster":"gcp","epoch":6,"version":1}`}, exchange.ReasonFormat},
		"older epoch":                        {base().full(4, 99).put("evil.shop", 1).sync(4, 99).lines, exchange.ReasonStale},
		"older version":                      {base().full(5, 9).sync(5, 9).lines, exchange.ReasonStale},
		"epoch 0":                            {base().full(0, 9).sync(0, 9).lines, exchange.ReasonInvalid},
		"version 0":                          {base().full(6, 0).sync(6, 0).lines, exchange.ReasonInvalid},
		"epoch at the end of numbers":        {[]string{`{"type":"begin","format":1,"cluster":"gcp","epoch":18446744073709551615,"version":1}`}, exchange.ReasonInvalid},
		"delta from a version not seen":      {base().delta(5, 12, 11).sync(5, 12).lines, exchange.ReasonGap},
		"delta from an older version":        {base().delta(5, 12, 9).sync(5, 12).lines, exchange.ReasonGap},
		"delta of a new epoch":               {base().delta(6, 11, 10).sync(6, 11).lines, exchange.ReasonGap},
		"change without a new version":       {base().delta(5, 10, 10).put("evil.shop", 1).sync(5, 10).lines, exchange.ReasonProtocol},
		"item outside of a batch":            {base().put("evil.shop", 1).lines, exchange.ReasonProtocol},
		"remove outside of a batch":          {base().remove("web.shop").lines, exchange.ReasonProtocol},
		"sync outside of a batch":            {base().sync(5, 10).lines, exchange.ReasonProtocol},
		"begin in a batch":                   {base().full(5, 11).full(5, 12).lines, exchange.ReasonProtocol},
		"heartbeat in a batch":               {base().full(5, 11).heartbeat(5, 10).lines, exchange.ReasonProtocol},
		"sync of another version":            {base().full(5, 11).sync(5, 12).lines, exchange.ReasonProtocol},
		"remove in a full list":              {base().full(5, 11).remove("web.shop").sync(5, 11).lines, exchange.ReasonProtocol},
		"service twice":                      {base().full(5, 11).put("x.shop", 1).put("x.shop", 2).sync(5, 11).lines, exchange.ReasonProtocol},
		"put and remove":                     {base().delta(5, 11, 10).put("x.shop", 1).remove("x.shop").sync(5, 11).lines, exchange.ReasonProtocol},
		"remove and put":                     {base().delta(5, 11, 10).remove("web.shop").put("web.shop", 2).sync(5, 11).lines, exchange.ReasonProtocol},
		"roster twice":                       {base().full(5, 11).roster(`[]`).roster(`[]`).sync(5, 11).lines, exchange.ReasonProtocol},
		"wrong digest":                       {append(base().full(5, 11).lines, `{"type":"sync","epoch":5,"version":11,"digest":"00"}`), exchange.ReasonDigest},
		"wrong count":                        {append(base().full(5, 11).lines, `{"type":"sync","epoch":5,"version":11,"services":1,"digest":"`+strings.Repeat("0", 64)+`"}`), exchange.ReasonDigest},
		"heartbeat from the past":            {base().delta(5, 10, 10).sync(5, 10).heartbeat(5, 9).lines, exchange.ReasonStale},
		"heartbeat of an older epoch":        {base().delta(5, 10, 10).sync(5, 10).heartbeat(4, 99).lines, exchange.ReasonStale},
		"heartbeat from the future":          {base().delta(5, 10, 10).sync(5, 10).heartbeat(5, 11).lines, exchange.ReasonGap},
		"heartbeat with another digest":      {append(base().delta(5, 10, 10).sync(5, 10).lines, `{"type":"heartbeat","epoch":5,"version":10,"digest":"ff"}`), exchange.ReasonDigest},
		"heartbeat first":                    {base().heartbeat(5, 10).lines, exchange.ReasonProtocol},
		"no JSON":                            {[]string{"hello"}, exchange.ReasonProtocol},
		"reserved service":                   {full(`{"service":"federation.aws","ports":[{"name":"http","protocol":"http"}]}`), exchange.ReasonInvalid},
		"reserved service, unknown protocol": {full(`{"service":"federation.aws","ports":[{"name":"http","protocol":"x"}]}`), exchange.ReasonInvalid},
		"no name":                            {full(`{"ports":[{"name":"http","protocol":"http"}]}`), exchange.ReasonInvalid},
		"no ports":                           {full(`{"service":"x.shop","ports":[]}`), exchange.ReasonInvalid},
		"upper case name":                    {full(`{"service":"X.shop","ports":[{"name":"http","protocol":"http"}]}`), exchange.ReasonInvalid},
		"name with a cluster":                {full(`{"service":"x.shop.aws","ports":[{"name":"http","protocol":"http"}]}`), exchange.ReasonInvalid},
		"name too long":                      {full(`{"service":"` + long + `.shop","ports":[{"name":"http","protocol":"http"}]}`), exchange.ReasonInvalid},
		"ports unsorted":                     {full(`{"service":"x.shop","ports":[{"name":"b","protocol":"http"},{"name":"a","protocol":"http"}]}`), exchange.ReasonInvalid},
		"ready above total":                  {full(rows(`{"port":"http","ready":2,"total":1}`)), exchange.ReasonInvalid},
		"row of no port":                     {full(rows(`{"port":"x","ready":1,"total":1}`)), exchange.ReasonInvalid},
		"row twice":                          {full(rows(`{"port":"http","total":1},{"port":"http","total":1}`)), exchange.ReasonInvalid},
		"row with a bad zone":                {full(rows(`{"port":"http","zone":"A/../B","total":1}`)), exchange.ReasonInvalid},
		"row with a bad subset":              {full(rows(`{"port":"http","subset":"b=1,a=2","total":1}`)), exchange.ReasonInvalid},
		"negative count":                     {full(rows(`{"port":"http","ready":-1,"total":1}`)), exchange.ReasonInvalid},
		"count beyond 32 bits":               {full(rows(`{"port":"http","total":4294967296}`)), exchange.ReasonInvalid},
		"endpoints beyond the quota":         {full(rows(`{"port":"http","total":4294967295}`)), exchange.ReasonQuota},
		"service is null":                    {full(`null`), exchange.ReasonInvalid},
		"service is a list":                  {full(`[]`), exchange.ReasonInvalid},
		"bad name to remove":                 {base().delta(5, 11, 10).line(`{"type":"remove","name":"web"}`).lines, exchange.ReasonInvalid},
		"bundle is a string":                 {base().full(5, 11).bundle(`"x"`).lines, exchange.ReasonInvalid},
		"bundle is null":                     {base().full(5, 11).bundle(`null`).lines, exchange.ReasonInvalid},
		"conflicts are no list":              {base().full(5, 11).conflicts(`{}`).lines, exchange.ReasonInvalid},
		"roster is no list":                  {roster(`{}`), exchange.ReasonInvalid},
		"gateway of another cluster":         {roster(`[{"name":"gw1","id":"spiffe://aws.example.org/isthmus/cluster/aws/gateway/gw1"}]`), exchange.ReasonOrigin},
		"gateway of another name":            {roster(`[{"name":"gw1","id":"` + peerID + `/gateway/gw2"}]`), exchange.ReasonOrigin},
		"gateway is the federation":          {roster(`[{"name":"gw1","id":"` + peerID + `"}]`), exchange.ReasonOrigin},
		"gateway below the federation":       {roster(`[{"name":"gw1","id":"` + peerID + `/gateway/gw1/x"}]`), exchange.ReasonOrigin},
		"gateway without an ID":              {roster(`[{"name":"gw1"}]`), exchange.ReasonInvalid},
		"gateway without a name":             {roster(`[{"name":"","id":"` + peerID + `/gateway/"}]`), exchange.ReasonInvalid},
		"gateway with a bad name":            {roster("[" + gatewayJSON("g.w", "a:1") + "]"), exchange.ReasonInvalid},
		"gateway twice":                      {roster("[" + gatewayJSON("gw1", "a:1") + "," + gatewayJSON("gw1", "b:1") + "]"), exchange.ReasonInvalid},
		"gateways unsorted":                  {roster("[" + gatewayJSON("gw2", "a:1") + "," + gatewayJSON("gw1", "b:1") + "]"), exchange.ReasonInvalid},
		"address without a port":             {roster("[" + gatewayJSON("gw1", "a") + "]"), exchange.ReasonInvalid},
		"address with port 0":                {roster("[" + gatewayJSON("gw1", "a:0") + "]"), exchange.ReasonInvalid},
		"address is a URL":                   {roster("[" + gatewayJSON("gw1", "http://a:1") + "]"), exchange.ReasonInvalid},
		"metadata address":                   {roster("[" + gatewayJSON("gw1", "169.254.169.254:80") + "]"), exchange.ReasonInvalid},
		"mapped metadata address":            {roster("[" + gatewayJSON("gw1", "[::ffff:169.254.169.254]:80") + "]"), exchange.ReasonInvalid},
		"link-local address":                 {roster("[" + gatewayJSON("gw1", "[fe80::1]:80") + "]"), exchange.ReasonInvalid},
		"loopback address":                   {roster("[" + gatewayJSON("gw1", "127.0.0.1:80") + "]"), exchange.ReasonInvalid},
		"mapped loopback address":            {roster("[" + gatewayJSON("gw1", "[::ffff:127.0.0.1]:80") + "]"), exchange.ReasonInvalid},
		"IPv6 loopback address":              {roster("[" + gatewayJSON("gw1", "[::1]:80") + "]"), exchange.ReasonInvalid},
		"loopback name":                      {roster("[" + gatewayJSON("gw1", "LocalHost.:80") + "]"), exchange.ReasonInvalid},
		"unspecified address":                {roster("[" + gatewayJSON("gw1", "0.0.0.0:80") + "]"), exchange.ReasonInvalid},
		"multicast address":                  {roster("[" + gatewayJSON("gw1", "224.0.0.1:80") + "]"), exchange.ReasonInvalid},
		"broadcast address":                  {roster("[" + gatewayJSON("gw1", "255.255.255.255:80") + "]"), exchange.ReasonInvalid},
	}
}

func TestRefusedLinesChangeNothing(t *testing.T) {
	for label, tc := range refusals() {
		t.Run(label, func(t *testing.T) {
			a := newApplier()
			good := newScript().full(5, 10).put("web.shop", 1)
			if _, err := feed(a, good.sync(5, 10).lines, t0); err != nil {
				t.Fatal(err)
			}
			before := a.Snapshot()
			a.Connected()
			_, err := feed(a, tc.say, t0.Add(time.Minute))
			wantRefused(t, err, tc.want)
			if a.Snapshot() != before || show(before) != "5.10 web.shop=1" {
				t.Errorf("the state became %s", show(a.Snapshot()))
			}
			// The next stream asks for a full list where the states may differ, and
			// the peer's good word counts again.
			if _, full := a.Connected(); full != (tc.want == exchange.ReasonGap || tc.want == exchange.ReasonDigest) {
				t.Errorf("asks for a full list: %v", full)
			}
			good.lines = nil
			if _, err := feed(a, good.full(5, 12).put("web.shop", 2).sync(5, 12).lines, t0.Add(2*time.Minute)); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestLoopbackGatewaysAreForClustersThatShareAHost(t *testing.T) {
	a := newApplier(func(o *exchange.ApplierOptions) { o.AllowLoopback = true })
	s := newScript().full(1, 1).roster("["+gatewayJSON("gw1", "127.0.0.1:7443")+","+gatewayJSON("gw2", "localhost:7443")+"]").sync(1, 1)
	if _, err := feed(a, s.lines, t0); err != nil {
		t.Error(err)
	}
	s = newScript().full(1, 2).roster("["+gatewayJSON("gw1", "169.254.169.254:80")+"]").sync(1, 2)
	_, err := feed(a, s.lines, t0.Add(time.Second))
	wantRefused(t, err, exchange.ReasonInvalid)
}

func TestQuotas(t *testing.T) {
	tight := func(o *exchange.ApplierOptions) {
		o.Limits = exchange.Limits{Services: 3, Rows: 4, Endpoints: 30, Bytes: 600, Line: 400, Gateways: 1, Conflicts: 1, UpdatesPerSecond: 10, UpdateBurst: 20}
	}
	two := `[{"port":"http","zone":"a","ready":1,"total":1},{"port":"http","zone":"b","ready":1,"total":1}]`
	wide := func(n string) string {
		return fmt.Sprintf(`{"service":%q,"ports":[{"name":"http","protocol":"http"}],"rows":%s}`, n, two)
	}
	for label, tc := range map[string]struct {
		say  *script
		want exchange.Reason
	}{
		"services in a full list": {newScript().full(1, 1).put("a.x", 1).put("b.x", 1).put("c.x", 1).put("d.x", 1), exchange.ReasonQuota},
		"services by deltas":      {newScript().full(1, 1).put("a.x", 1).put("b.x", 1).sync(1, 1).delta(1, 2, 1).put("c.x", 1).put("d.x", 1).sync(1, 2), exchange.ReasonQuota},
		"rows":                    {newScript().full(1, 1).putRaw("a.x", wide("a.x")).putRaw("b.x", wide("b.x")).putRaw("c.x", wide("c.x")), exchange.ReasonQuota},
		"endpoints":               {newScript().full(1, 1).put("a.x", 1).put("b.x", 1).putRaw("d.x", `{"service":"d.x","ports":[{"name":"http","protocol":"http"}],"rows":[{"port":"http","total":13}]}`), exchange.ReasonQuota},
		"bytes":                   {newScript().full(1, 1).bundle(`{"a":"` + strings.Repeat("x", 300) + `"}`).conflicts(`[` + strings.Repeat(" ", 350) + `]`), exchange.ReasonQuota},
		"line":                    {newScript().full(1, 1).bundle(`{"a":"` + strings.Repeat("x", 400) + `"}`), exchange.ReasonQuota},
		"gateways":                {newScript().full(1, 1).roster("[" + gatewayJSON("a", "a:1") + "," + gatewayJSON("b", "b:1") + "]"), exchange.ReasonQuota},
		"conflicts":               {newScript().full(1, 1).conflicts(`[{},{}]`), exchange.ReasonQuota},
	} {
		t.Run(label, func(t *testing.T) {
			_, err := feed(newApplier(tight), tc.say.lines, t0)
			wantRefused(t, err, tc.want)
		})
	}
	t.Run("at the bounds", func(t *testing.T) {
		a := newApplier(tight)
		s := newScript().full(1, 1).put("a.x", 1).put("b.x", 1).put("c.x", 1).sync(1, 1)
		s.delta(1, 2, 1).remove("a.x").put("d.x", 1).sync(1, 2) // one goes, one comes
		if _, err := feed(a, s.lines, t0); err != nil {
			t.Error(err)
		}
	})
	t.Run("lines of a batch", func(t *testing.T) {
		s := newScript().full(1, 1)
		for range 2000 {
			s.line(`{"type":"weather"}`)
		}
		_, err := feed(newApplier(tight), s.lines, t0)
		wantRefused(t, err, exchange.ReasonQuota)
	})
	t.Run("a batch without an end", func(t *testing.T) {
		a := newApplier()
		if _, err := feed(a, newScript().full(1, 1).put("a.x", 1).lines, t0); err != nil {
			t.Fatal(err)
		}
		_, err := feed(a, newScript().put("b.x", 1).lines, t0.Add(6*time.Minute))
		wantRefused(t, err, exchange.ReasonRate)
	})
}

func TestUpdateRate(t *testing.T) {
	a := newApplier()
	s := newScript().full(1, 1).put("a.x", 1).sync(1, 1)
	if _, err := feed(a, s.lines, t0); err != nil {
		t.Fatal(err)
	}
	version := 1
	update := func(at time.Time) error {
		s.lines = nil
		_, err := feed(a, s.delta(1, version+1, version).put("a.x", version%9).sync(1, version+1).lines, at)
		version++
		return err
	}
	at := t0
	for range 500 { // ten a second, for ever
		at = at.Add(100 * time.Millisecond)
		if err := update(at); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		err = update(at)
	}
	wantRefused(t, err, exchange.ReasonRate)
	if n > 21 {
		t.Errorf("a burst of %d passes", n)
	}
	for range 100 { // noise outside of batches counts, too
		if _, err = a.Apply([]byte(`{"type":"weather"}`), at); err != nil {
			break
		}
	}
	wantRefused(t, err, exchange.ReasonRate)
}

func TestConflictsAreTextForOperators(t *testing.T) {
	good := `{"service":"web.shop","field":"ports/http/protocol","winner":{"cluster":"aws","service":"web.shop","value":"http"},"losers":[{"cluster":"gcp","service":"web.shop","value":"tcp"}],"why":"own_cluster","disagree":1,"of":2}`
	a := newApplier()
	s := newScript().full(1, 1).conflicts(`[`+good+`,{"service":"BAD"},`+
		strings.Replace(good, "own_cluster", `\u001b[31mred`, 1)+`,`+strings.Replace(good, `"tcp"`, `"`+strings.Repeat("x", 300)+`"`, 1)+`]`).sync(1, 1)
	if _, err := feed(a, s.lines, t0); err != nil {
		t.Fatal(err)
	}
	got := a.Snapshot().Conflicts()
	if len(got) != 1 || got[0].Winner.Cluster != "aws" || got[0].Why != "own_cluster" {
		t.Errorf("%+v: want the one that can be shown", got)
	}
}

func TestRestore(t *testing.T) {
	a := newApplier()
	if _, err := a.Restore([]byte("junk")); err == nil {
		t.Error("junk is restored")
	}
	if _, err := a.Restore(nil); err == nil {
		t.Error("nothing is restored")
	}
	head := `{"peer":"gcp","id":"` + peerID + `","heard_at":"2030-01-01T00:00:00Z","gateways":[` + gatewayJSON("gw1", "a:1") + `],"bundle":{"keys":[2]}}`
	s := newScript().full(3, 4).put("web.shop", 1).sync(3, 4)
	good := head + "\n" + strings.Join(s.lines, "\n") + "\n"
	heard, err := a.Restore([]byte(good))
	if err != nil || !heard.Equal(t0) {
		t.Fatalf("%v, %v", heard, err)
	}
	if got, want := show(a.Snapshot()), `3.4 web.shop=1 gw1@a:1 bundle:{"keys":[2]}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for label, bad := range map[string]string{
		"another cluster":  strings.Replace(good, `"peer":"gcp"`, `"peer":"aws"`, 1),
		"another identity": strings.Replace(good, peerID, "spiffe://other/x", 1),
		"foreign gateway":  strings.Replace(good, "/gateway/gw1", "/gateway/gw2", 1),
		"no sync":          head + "\n" + strings.Join(s.lines[:2], "\n") + "\n",
		"altered":          strings.Replace(good, `"ready":1`, `"ready":2`, 1),
	} {
		if _, err := newApplier().Restore([]byte(bad)); err == nil {
			t.Errorf("%s: is restored", label)
		}
	}
	other := exchange.NewApplier(exchange.ApplierOptions{Cluster: "gcp", ID: spiffeid.RequireFromString("spiffe://gcp.example.org/new")})
	_, err = other.Restore([]byte(good))
	wantRefused(t, err, exchange.ReasonOrigin)
}
