package demo_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

const (
	// rate is the load of the scenarios, in calls a second.
	rate = 200
	// gapGoal is the longest time without an answer; a gross miss is 5 times that.
	gapGoal  = 1500 * time.Millisecond
	grossGap = 5 * gapGoal
	// around is the window of the success rate: half before, half after the kill.
	around = 60 * time.Second
)

func TestDemo(t *testing.T) {
	d := startDemo(t)
	t.Run("local endpoints answer while they are healthy", d.localFirst)
	t.Run("a killed gateway of two costs its peers nothing", d.killedGateway)
	t.Run("a cluster's only gateway is restarted in order", d.orderlyRestart)
	t.Run("calls go on with every federation service dead", d.noFederation)
	t.Run("with every local instance dead the nearest cluster answers", d.localDead)
	t.Run("a region dies and comes back under load", d.regionDies)
	t.Run("it stops when told to", func(t *testing.T) {
		d.proc.Stop()
	})
}

func (d *running) on(t *testing.T) *running {
	c := *d
	c.t = t
	return &c
}

func (d *running) localFirst(t *testing.T) {
	d = d.on(t)
	for _, c := range d.state().Clusters {
		for _, g := range c.Gateways {
			for range 20 {
				a, err := d.ask(t.Context(), g.HTTP, "billing")
				if err != nil {
					t.Fatal(err)
				}
				if a.Cluster != c.Name || a.Service != "billing" {
					t.Fatalf("%s/%s answered by %+v", c.Name, g.Name, a)
				}
			}
		}
	}
	a, err := d.ask(t.Context(), d.cluster(distant).Gateways[0].HTTP, "web") // runs in the other two only
	if err != nil {
		t.Fatal(err)
	}
	if want := "spiffe://onprem.isthmus.demo/onprem-ams/shop"; a.Caller != want {
		t.Errorf("caller as the far gateway saw it: %q, want %q", a.Caller, want)
	}
	if a.Cluster != home { // nearer to onprem-ams than gcp-us-central1
		t.Errorf("web of %s answered, want the nearer %s", a.Cluster, home)
	}
}

// The other clusters reach web of aws-us-east-1 through two gateways.
func (d *running) killedGateway(t *testing.T) {
	d = d.on(t)
	way := d.cluster(distant).Gateways[0].HTTP
	d.until(way, "web", home)
	victim := d.cluster(home).Gateways[0]
	streams := openStreams(t, d.cluster(distant).Gateways[0].TCP["web"], 16)

	load := stand.StartLoad(t.Context(), rate, callTimeout, d.call(way, "web"))
	time.Sleep(5 * time.Second)
	killed := time.Now()
	d.kill(victim.PID)
	time.Sleep(10 * time.Second)
	rs := load.Stop()
	report(t, rs, killed)
	checkStreams(t, streams, killed)

	d.start(home + "/" + victim.Name)
	d.until(way, "web", home)
}

func (d *running) noFederation(t *testing.T) {
	d = d.on(t)
	way := d.cluster(home).Gateways[0].HTTP
	remote := d.cluster(distant).Gateways[0].HTTP
	local := stand.StartLoad(t.Context(), rate/2, callTimeout, d.call(way, "billing"))
	far := stand.StartLoad(t.Context(), rate/2, callTimeout, d.call(remote, "web"))
	for _, c := range d.state().Clusters {
		d.kill(c.FederationPID)
	}
	time.Sleep(10 * time.Second)
	for name, rs := range map[string]stand.Results{"local": local.Sofar(), "remote": far.Sofar()} {
		stand.Figure(t, "%s calls with every federation dead: %d, failed %d", name, len(rs), len(rs.Failed()))
		if len(rs.Failed()) > 0 {
			t.Errorf("%s: %s", name, rs.Errors())
		}
	}
	far.Stop()
	local.Stop()

	// a gateway that starts now has its disk only
	gw := d.cluster(near).Gateways[0]
	d.kill(gw.PID)
	d.start(near + "/" + gw.Name)
	began := time.Now()
	stand.Eventually(t, settled, "the gateway serves from its disk", func() error {
		_, err := d.call(gw.HTTP, "billing")(t.Context())
		return err
	})
	stand.Figure(t, "gateway serves from disk %.2f s after its start (goal 2 s)", time.Since(began).Seconds())
	stand.Eventually(t, settled, "and reaches its peers", func() error {
		_, err := d.call(d.cluster(distant).Gateways[0].HTTP, "web")(t.Context())
		return err
	})
	for _, c := range d.state().Clusters {
		d.start(c.Name + "/federation")
	}
	time.Sleep(2 * time.Second)
}

func (d *running) localDead(t *testing.T) {
	d = d.on(t)
	way := d.cluster(home).Gateways[0].HTTP
	load := stand.StartLoad(t.Context(), rate, callTimeout, d.call(way, "billing"))
	time.Sleep(3 * time.Second)
	killed := time.Now()
	d.kill(service(d.cluster(home), "billing").PID)
	time.Sleep(10 * time.Second)
	rs := load.Stop()
	report(t, rs, killed)
	if who := rs.Between(killed.Add(5*time.Second), time.Now()).Who(); who[near] == 0 || len(who) != 1 {
		t.Errorf("5 s after the kill answered by %v, want only %s", who, near)
	}
}

// A gateway that drained tells its peers so, and they must take it back.
func (d *running) orderlyRestart(t *testing.T) {
	d = d.on(t)
	way := d.cluster(home).Gateways[0].HTTP
	load := stand.StartLoad(t.Context(), rate, callTimeout, d.call(way, "billing"))
	for _, name := range []string{near, distant} { // both, so that neither side may rest on the other
		gw := d.cluster(name).Gateways[0]
		if err := syscall.Kill(gw.PID, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{near, distant} {
		stand.Eventually(t, settled, name+" has stopped", func() error {
			if g := d.cluster(name).Gateways[0]; g.PID != 0 {
				return fmt.Errorf("pid %d still runs", g.PID)
			}
			return nil
		})
		d.start(name + "/" + d.cluster(name).Gateways[0].Name)
	}
	began := time.Now()
	for _, name := range []string{near, distant} {
		stand.Eventually(t, settled, name+" answers again", func() error {
			_, err := d.askHost(t.Context(), way, "billing.default."+name+".mesh")
			return err
		})
	}
	stand.Figure(t, "both drained clusters answer %.1f s after their gateways' start", time.Since(began).Seconds())
	rs := load.Stop()
	stand.Figure(t, "meanwhile %d calls answered at home, %d failed", len(rs), len(rs.Failed()))
	if len(rs.Failed()) > 0 {
		t.Errorf("failures: %s", rs.Errors())
	}
}

// billing of the home cluster is dead; the near one answers until it dies whole.
func (d *running) regionDies(t *testing.T) {
	d = d.on(t)
	way := d.cluster(home).Gateways[0].HTTP
	d.until(way, "billing", near)
	load := stand.StartLoad(t.Context(), rate, callTimeout, d.call(way, "billing"))
	time.Sleep(around / 2)
	killed := time.Now()
	d.kill(everything(d.cluster(near))...)
	time.Sleep(around / 2)
	report(t, load.Sofar().Between(killed.Add(-around/2), killed.Add(around/2)), killed)

	back := time.Now()
	d.start(near)
	stand.Eventually(t, settled, "traffic returns to "+near, func() error {
		all := load.Sofar()
		last := all.Between(time.Now().Add(-3*time.Second), time.Now().Add(-time.Second)).Who()
		if last[near] == 0 || last[distant] > 0 {
			return fmt.Errorf("answers of the last seconds: %v", last)
		}
		return nil
	})
	returned := load.Stop().Between(back, time.Now())
	if n := len(returned.Failed()); n > 0 {
		t.Errorf("%d calls failed while the region returned: %s", n, returned.Errors())
	}
	showRamp(t, returned, back)

	d.start(home + "/billing")
	d.until(way, "billing", home)
}

// showRamp prints the returned region's share second by second and asserts that
// it came in steps, not at once.
func showRamp(t *testing.T, rs stand.Results, back time.Time) {
	t.Helper()
	partial := 0
	var shares []string
	for s := 0; ; s++ {
		from := back.Add(time.Duration(s) * time.Second)
		second := rs.Between(from, from.Add(time.Second))
		if len(second) == 0 {
			break
		}
		share := 100 * second.Who()[near] / len(second)
		if share > 0 && share < 95 {
			partial++
		}
		shares = append(shares, fmt.Sprintf("%d%%", share))
	}
	stand.Figure(t, "share of %s, second by second after its start: %v", near, shares)
	if partial < 3 {
		t.Errorf("the region's share was between 0 and 95 %% for %d seconds; a ramp takes longer", partial)
	}
}

// report prints what a caller saw around a kill and asserts the counts.
func report(t *testing.T, rs stand.Results, killed time.Time) {
	t.Helper()
	stand.Figure(t, "%d calls, success %.3f %% (goal 99.9), longest gap %d ms (goal %d), p99 after the kill %d ms; answers %v",
		len(rs), 100*rs.Success(), rs.LongestGap().Milliseconds(), gapGoal.Milliseconds(),
		rs.Between(killed, time.Now()).Quantile(0.99).Milliseconds(), rs.Who())
	if rs.Success() < 0.999 {
		t.Errorf("success %.4f: %s", rs.Success(), rs.Errors())
	}
	if gap := rs.LongestGap(); gap > grossGap {
		t.Errorf("no answer for %s", gap)
	}
}
