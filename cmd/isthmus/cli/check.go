package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/doctor"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/identity"
)

// workloadAPIWait bounds the look at the Workload API where no federation answers.
const workloadAPIWait = 5 * time.Second

// errCheckFailed makes the command exit with 1; the verdicts say what is wrong.
var errCheckFailed = errors.New("check failed")

func newCheck() *cobra.Command {
	k := &connection{}
	var without, path string
	c := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with identity, trust, peers, gateways and sources, and how to mend it",
		Long: `Judge what a federation says of itself, one verdict a thing and the fix for each that is
not good. For each root it says who would break if that root left now: own processes,
peers' gateways by their live links, peers' federations.

With --without KEY_ID only that is judged, for one root: run it before a root is
removed. Where no federation answers, the workload API of the configuration file is
looked at instead. The exit code is 1 if anything fails.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			verdicts, err := check(c.Context(), k, path, without)
			if err != nil {
				return err
			}
			if err := printVerdicts(c, k.json, verdicts); err != nil {
				return err
			}
			if doctor.Failed(verdicts) {
				return errCheckFailed
			}
			return nil
		},
	}
	k.flags(c)
	configFlag(c, &path)
	c.Flags().StringVar(&without, "without", "", "say who would break if this root left now: its key ID, or the beginning of it")
	return c
}

func check(ctx context.Context, k *connection, path, without string) ([]doctor.Verdict, error) {
	api, end, err := k.open(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var f doctor.Facts
	if f.Trust, err = api.Trust(ctx); err != nil {
		if without != "" {
			return nil, err
		}
		return checkAlone(ctx, k.api, path, err), nil
	}
	if without != "" {
		v, err := doctor.Without(f.Trust, without)
		return []doctor.Verdict{v}, err
	}
	if err := readFacts(ctx, api, &f); err != nil {
		return nil, err
	}
	return doctor.Judge(f, time.Now()), nil
}

func readFacts(ctx context.Context, api *client.Client, f *doctor.Facts) error {
	var errs [5]error
	f.Peers, errs[0] = api.Peers().List(ctx)
	f.Gateways, errs[1] = api.Gateways().List(ctx)
	f.Links, errs[2] = api.Links().List(ctx)
	f.Sources, errs[3] = api.Sources().List(ctx)
	f.Ready, errs[4] = api.Readiness(ctx)
	return errors.Join(errs[:]...)
}

// checkAlone judges what can be seen without a federation.
func checkAlone(ctx context.Context, address, path string, cause error) []doctor.Verdict {
	out := []doctor.Verdict{{
		Grade: doctor.Fail, Subject: "federation", Finding: fmt.Sprintf("does not answer at %s: %v", address, cause),
		Fix: "start it (isthmus run), or name its API with --api; peers, gateways and sources cannot be judged without it",
	}}
	cfg, err := config.Load(path)
	if err != nil {
		return append(out, doctor.Verdict{
			Grade: doctor.Warn, Subject: "configuration", Finding: err.Error(), Fix: "name the file with --config to have its workload API looked at",
		})
	}
	return append(out, checkWorkloadAPI(ctx, cfg))
}

func checkWorkloadAPI(ctx context.Context, cfg *config.Config) doctor.Verdict {
	v := doctor.Verdict{Grade: doctor.OK, Subject: "workload api " + cfg.Identity.WorkloadAPI}
	id, err := cfg.FederationID()
	if err == nil && cfg.Federation == nil {
		id, err = cfg.GatewayID()
	}
	var source *identity.Source
	if err == nil {
		source, err = identity.New(identity.Options{WorkloadAPI: cfg.Identity.WorkloadAPI, ID: id})
	}
	if err == nil {
		err = waitForSVID(ctx, source)
	}
	if err != nil {
		v.Grade, v.Finding = doctor.Fail, err.Error()
		v.Fix = "start SPIRE's agent or isthmus ca serve, and give this user an entry for " + id.String()
		return v
	}
	v.Finding = fmt.Sprintf("offers %s, valid for %s", source.ID(), time.Until(source.NotAfter()).Round(time.Second))
	return v
}

func waitForSVID(ctx context.Context, source *identity.Source) error {
	ctx, cancel := context.WithTimeout(ctx, workloadAPIWait)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = source.Run(ctx) // returns nil
	}()
	err := source.WaitReady(ctx)
	cancel()
	<-done
	return err
}

func printVerdicts(c *cobra.Command, asJSON bool, verdicts []doctor.Verdict) error {
	if asJSON {
		return printJSON(c.OutOrStdout(), verdicts)
	}
	rows := [][]string{{"", "WHAT", "FOUND"}}
	for _, v := range verdicts {
		rows = append(rows, []string{string(v.Grade), v.Subject, v.Finding})
		if v.Fix != "" {
			rows = append(rows, []string{"", "", "-> " + v.Fix})
		}
	}
	return table(c, rows)
}
