package provider

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"

	api "github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// shownCallers bounds the callers that a warning names; it counts all.
const shownCallers = 10

// ModifyPlan asks the federation what the change would change for whom, and warns of
// callers that would be turned away. Nothing is written, and nothing of the plan
// changes.
func (r *rule[T]) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if r.api == nil || req.Plan.Raw.Equal(req.State.Raw) {
		return
	}
	var would api.DryRun[raw]
	var err error
	switch {
	case req.Plan.Raw.IsNull():
		would.Would, err = r.rules().TryDelete(ctx, text(req.State.Raw, "name"), text(req.State.Raw, etag))
	default:
		// The configuration holds no etag, and what of it is not known yet cannot be asked.
		want, unknown := r.body(req.Config.Raw)
		if unknown != nil {
			return
		}
		if req.State.Raw.IsNull() || text(req.State.Raw, "name") != text(req.Config.Raw, "name") {
			would, err = r.rules().TryCreate(ctx, want)
		} else {
			would, err = r.rules().TryReplace(ctx, text(req.State.Raw, "name"), want, text(req.State.Raw, etag))
		}
	}
	if err != nil {
		resp.Diagnostics.Append(r.refused(req, err)...)
		return
	}
	if lost := turnedAway(would.Would); lost != "" {
		resp.Diagnostics.AddWarning(r.failedSubject(req)+": callers would be turned away", lost)
	}
}

// refused says what the federation has against the change, as things stand: another
// change of the same apply may put it right, so a plan goes on.
func (r *rule[T]) refused(req resource.ModifyPlanRequest, err error) diag.Diagnostics {
	var found diag.Diagnostics
	switch code := status(err); code {
	case 0:
		found.AddWarning("The federation was not asked", "What the plan would change is not known: "+err.Error())
	case http.StatusNotFound, http.StatusPreconditionFailed: // changed since it was read: the apply says so
	case http.StatusConflict, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		found.AddWarning(r.failedSubject(req)+": the federation would refuse it now", err.Error())
	default:
		found.AddWarning(r.failedSubject(req)+": the federation would refuse it as things stand", err.Error())
	}
	return found
}

func (r *rule[T]) failedSubject(req resource.ModifyPlanRequest) string {
	name := text(req.Config.Raw, "name")
	if name == "" {
		name = text(req.State.Raw, "name")
	}
	return strings.ReplaceAll(r.name, "_", " ") + " " + name
}

// turnedAway names the callers, seen lately, that would lose access.
func turnedAway(would api.Impact) string {
	var b strings.Builder
	count := 0
	for _, c := range would.Callers {
		if c.Before != "allow" || c.After != "deny" {
			continue
		}
		if count++; count > shownCallers {
			continue
		}
		possible := ""
		if c.Possible {
			possible = " (possibly: it depends on what is not kept of a call)"
		}
		fmt.Fprintf(&b, "%s calls %s (%d calls lately)%s\n", c.Caller, c.Service, c.Calls, possible)
	}
	if count > shownCallers {
		fmt.Fprintf(&b, "and %d more\n", count-shownCallers)
	}
	return b.String()
}
