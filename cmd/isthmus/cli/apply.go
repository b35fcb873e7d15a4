package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/apply"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

// declared holds the flags of apply and diff.
type declared struct {
	connection
	files []string
	set   string
	force bool
}

func (d *declared) flags(c *cobra.Command) {
	d.connection.flags(c)
	f := c.Flags()
	f.StringSliceVarP(&d.files, "file", "f", nil, "file or folder with rules (repeatable; - is stdin)")
	f.StringVar(&d.set, "set", "default", "name of this set of files: what it applied before is compared with, and removed when gone")
	f.BoolVar(&d.force, "force", false, "let the files win every conflict")
}

const declaredFormat = `
Files have the keys of the configuration's federation section: peers, exports, imports,
intentions, traffic_policies. An example:

  exports:
    - {name: billing, services: [billing.default], to: [gcp-us-central1]}
  intentions:
    - name: web-may-bill
      services: [billing.default]
      callers: [spiffe://gcp.example.org/apps/web]
      action: allow`

// plan reads the three states.
func (d *declared) plan(ctx context.Context, c *cobra.Command, api *client.Client) (*apply.Plan, int, map[apply.Key]apply.Fields, error) {
	if len(d.files) == 0 {
		return nil, 0, nil, usageError{errors.New("-f is needed: a file or folder with the rules")}
	}
	want, err := apply.Read(d.files, c.InOrStdin())
	if err != nil {
		return nil, 0, nil, err
	}
	set, err := api.Applied(ctx, d.set)
	if err != nil {
		return nil, 0, nil, err
	}
	base, err := apply.Base(set)
	if err != nil {
		return nil, 0, nil, err
	}
	held, err := readHeld(ctx, api)
	if err != nil {
		return nil, 0, nil, err
	}
	live, err := held.Live()
	if err != nil {
		return nil, 0, nil, err
	}
	return apply.New(apply.State{Base: base, Want: want, Live: live}, d.force), len(base), want, nil
}

func readHeld(ctx context.Context, api *client.Client) (*apply.Held, error) {
	var h apply.Held
	var err error
	if h.Peers, err = api.Peers().List(ctx); err != nil {
		return nil, err // one reason is enough where nobody answers
	}
	var errs [4]error
	h.Exports, errs[0] = api.Exports().List(ctx)
	h.Imports, errs[1] = api.Imports().List(ctx)
	h.Intentions, errs[2] = api.Intentions().List(ctx)
	h.Traffic, errs[3] = api.TrafficPolicies().List(ctx)
	return &h, errors.Join(errs[:]...)
}

func newDiff() *cobra.Command {
	d := &declared{}
	c := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what apply would change",
		Long: `Show what isthmus apply of the same files would change, and the conflicts that would
keep it from doing so. Lines with = are not as the files say and stay as somebody else
made them. The exit code is 0 where nothing would change, 1 where something would.` + "\n" + declaredFormat,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			api, end, err := d.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			p, _, _, err := d.plan(c.Context(), c, api)
			if err != nil {
				return err
			}
			if d.json {
				err = printJSON(c.OutOrStdout(), p)
			} else {
				_, err = fmt.Fprint(c.OutOrStdout(), planText(p))
			}
			if err == nil && (p.Changes() > 0 || len(p.Conflicts) > 0) {
				return errDiffers
			}
			return err
		},
	}
	d.flags(c)
	return c
}

// errDiffers is diff's exit code 1; the differences are its output.
var errDiffers = errors.New("the federation differs from the files")

func newApply() *cobra.Command {
	d := &declared{}
	var dryRun bool
	var allow int
	var reason string
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Bring peers and policy in line with files",
		Long: `Bring peers, exports, imports, intentions and traffic policies in line with files that are
kept under version control. Three states are compared: what this set of files applied
last, what the files say, and what the federation holds. What others changed and the files
did not stays; what both changed is a conflict, and nothing at all is written until it is
resolved (or forced). Rules that the set applied and the files no longer have are removed;
more than 3 and more than 20 % of them only with --allow-removals.

Rules are written one by one, each under the version that was compared, in an order that
offers nothing before its rules hold. Where one fails, those before it stay, and the same
command goes on from there.` + "\n" + declaredFormat,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			api, end, err := d.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			p, applied, want, err := d.plan(c.Context(), c, api)
			if err != nil {
				return err
			}
			if len(p.Conflicts) > 0 {
				return conflictError(p.Conflicts)
			}
			if err := p.Guard(applied, allow); err != nil {
				return fmt.Errorf("%w: --allow-removals=%d", err, p.Removals())
			}
			w := writer{c: c, api: api.WithReason(reason), set: d.set, want: want, dryRun: dryRun, json: d.json}
			return w.run(p)
		},
	}
	d.flags(c)
	f := c.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "have the federation check every write and say whom it would change; write nothing")
	f.IntVar(&allow, "allow-removals", 0, "how many rules may be removed where the guard asks")
	f.StringVar(&reason, "reason", "", "why, for the history")
	return c
}

// conflictError lists the conflicts and what to do about them.
func conflictError(list []apply.Conflict) error {
	var b strings.Builder
	fmt.Fprintf(&b, "nothing is written, for %d of the rules are in conflict:", len(list))
	for _, conflict := range list {
		b.WriteString("\n  " + conflict.String())
	}
	b.WriteString("\nTake the federation's values into the files (isthmus export shows them), or let the files win with --force.")
	return errors.New(b.String())
}

// writer carries out a plan.
type writer struct {
	c      *cobra.Command
	api    *client.Client
	set    string
	want   map[apply.Key]apply.Fields
	dryRun bool
	json   bool
}

// outcome is one step of a plan that was carried out.
type outcome struct {
	apply.Step
	Done bool `json:"done"`
	// Would is what a dry run found.
	Would *resource.Impact `json:"would,omitempty"`
}

func (w *writer) run(p *apply.Plan) error {
	outcomes := make([]outcome, 0, len(p.Steps))
	var failed error
	for _, step := range p.Steps {
		var would *resource.Impact
		if w.dryRun {
			would, failed = w.try(step)
		} else {
			failed = w.do(step)
		}
		if failed != nil {
			failed = fmt.Errorf("%s %s: %w (%d of %d steps are done; the same command goes on from here)", step.Action, step.Key, failed, len(outcomes), len(p.Steps))
			break
		}
		outcomes = append(outcomes, outcome{step, !w.dryRun, would})
		if w.json || step.Action == apply.Adopt || step.Action == apply.Forget {
			continue
		}
		said := map[apply.Action]string{apply.Create: "created", apply.Replace: "changed", apply.Remove: "removed"}[step.Action]
		if w.dryRun {
			said = "would be " + said
		}
		text := fmt.Sprintf("%s %s\n", step.Key, said)
		if would != nil {
			text += impactText(*would)
		}
		if _, err := io.WriteString(w.c.OutOrStdout(), text); err != nil {
			return err
		}
	}
	if w.json {
		return errors.Join(printJSON(w.c.OutOrStdout(), outcomes), failed)
	}
	if failed != nil {
		return failed
	}
	summary := "%d changed, %d as the files say\n"
	if w.dryRun {
		summary = "%d would change, %d are as the files say\n"
	}
	_, err := fmt.Fprintf(w.c.OutOrStdout(), "%s"+summary, keptText(p), p.Changes(), p.Unchanged)
	return err
}

// do writes one step. The rule comes first: were what was applied remembered
// first, a write that fails would look like somebody else's change.
func (w *writer) do(step apply.Step) error {
	ctx, kind, name := w.c.Context(), string(step.Key.Kind), step.Key.Name
	rules := client.Kind[apply.Fields](w.api, kind)
	var err error
	switch step.Action {
	case apply.Create:
		_, err = rules.Create(ctx, step.After, false)
	case apply.Replace:
		_, err = rules.Replace(ctx, name, step.After, step.ETag, false)
	case apply.Remove:
		err = rules.Delete(ctx, name, step.ETag, false)
	case apply.Adopt, apply.Forget:
	}
	switch {
	case err != nil:
		return err
	case w.want[step.Key] == nil:
		return w.api.ForgetApplied(ctx, w.set, kind, name)
	default:
		return w.api.RememberApplied(ctx, w.set, kind, name, w.want[step.Key])
	}
}

// try asks what one step would change for whom. Each is judged by what holds now,
// not by what the steps before it would leave.
func (w *writer) try(step apply.Step) (*resource.Impact, error) {
	ctx, name := w.c.Context(), step.Key.Name
	rules := client.Kind[apply.Fields](w.api, string(step.Key.Kind))
	var would resource.DryRun[apply.Fields]
	var err error
	switch step.Action {
	case apply.Create:
		would, err = rules.TryCreate(ctx, step.After)
	case apply.Replace:
		would, err = rules.TryReplace(ctx, name, step.After, step.ETag)
	case apply.Remove:
		would.Would, err = rules.TryDelete(ctx, name, step.ETag)
	case apply.Adopt, apply.Forget:
		return nil, nil
	}
	return &would.Would, err
}

// planText shows a plan as lines that begin with +, - and ~.
func planText(p *apply.Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		switch s.Action {
		case apply.Create:
			fmt.Fprintf(&b, "+ %s\n%s", s.Key, fieldLines("    + ", nil, s.After))
		case apply.Remove:
			fmt.Fprintf(&b, "- %s\n%s", s.Key, fieldLines("    - ", nil, s.Before))
		case apply.Replace:
			fmt.Fprintf(&b, "~ %s\n%s%s", s.Key, fieldLines("    - ", s.After, s.Before), fieldLines("    + ", s.Before, s.After))
		case apply.Adopt, apply.Forget:
		}
	}
	for _, c := range p.Conflicts {
		fmt.Fprintf(&b, "! %s\n", c)
	}
	b.WriteString(keptText(p))
	fmt.Fprintf(&b, "%d would change, %d are as the files say, %d conflicts\n", p.Changes(), p.Unchanged, len(p.Conflicts))
	return b.String()
}

// keptText shows what is not as the files say and stays so: without these lines a
// change by hand would look like no difference at all.
func keptText(p *apply.Plan) string {
	var b strings.Builder
	for _, c := range p.Kept {
		fmt.Fprintf(&b, "= %s\n", c)
	}
	if len(p.Kept) > 0 {
		b.WriteString("Lines with = stay as somebody else made them; --force brings back what the files say.\n")
	}
	return b.String()
}

// fieldLines are the fields of f that other does not have alike.
func fieldLines(prefix string, other, f apply.Fields) string {
	var b strings.Builder
	for _, name := range f.Names() {
		if string(other[name]) != string(f[name]) {
			fmt.Fprintf(&b, "%s%s: %s\n", prefix, name, f[name])
		}
	}
	return b.String()
}
