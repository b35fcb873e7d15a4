package federated

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/mcs"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// claim is what an applied set remembers of one export. While it is pending, the export is
// about to be made or removed: a process that dies then leaves it to the next one, and
// somebody else may take the name meanwhile, so that only one that is alike is ours.
type claim struct {
	resource.Export
	Pending bool `json:"pending,omitempty"`
}

// claims are those of the set, by name.
type claims map[string]claim

// own tells whether an export that is there is ours.
func (c claims) own(e mcs.Export) bool {
	claim, ok := c[e.Name]
	if !ok || !claim.Pending {
		return ok
	}
	was, _ := exportOf(claim.Export)
	return alike(was, e)
}

func alike(a, b mcs.Export) bool {
	return a.Name == b.Name && a.Service == b.Service && slices.Equal(a.To, b.To)
}

func (f *Federation) claims(ctx context.Context) (claims, error) {
	set, err := f.api.Applied(ctx, f.set)
	if err != nil {
		return nil, err
	}
	owned := claims{}
	for _, r := range set.Rules {
		if r.Kind != kindExports {
			continue
		}
		var c claim
		if json.Unmarshal(r.Rule, &c) != nil {
			continue // not as it is written here: it makes nothing ours
		}
		c.Name = r.Name
		owned[r.Name] = c
	}
	return owned, nil
}

func (f *Federation) remembered(ctx context.Context, rule resource.Export, pending bool) error {
	return f.api.RememberApplied(ctx, f.set, kindExports, rule.Name, claim{rule, pending})
}

// look reads the export of that name, if there is one, and what the set remembers.
func (f *Federation) look(ctx context.Context, name string) (now *resource.Export, owned claims, err error) {
	if owned, err = f.claims(ctx); err != nil {
		return nil, nil, err
	}
	e, err := f.api.Exports().Get(ctx, name)
	switch {
	case answers(err, http.StatusNotFound):
		return nil, owned, nil
	case err != nil:
		return nil, nil, err
	}
	return &e, owned, nil
}

// PutExport implements mcs.Federation. One that is to be made is remembered first: an
// export that nobody remembered would be nobody's for ever.
func (f *Federation) PutExport(ctx context.Context, e mcs.Export) error {
	defer f.ask()
	now, owned, err := f.look(ctx, e.Name)
	if err != nil {
		return err
	}
	rule := resource.Export{Export: policy.Export{Name: e.Name, Services: []policy.ServicePattern{policy.ServicePattern(e.Service.String())}, To: e.To}}
	if now == nil {
		return f.create(ctx, e, rule, owned)
	}
	is, _ := exportOf(*now)
	if !owned.own(is) {
		return f.foreign(ctx, e.Name, owned)
	}
	claimed := owned[e.Name]
	if was, _ := exportOf(claimed.Export); alike(is, e) && alike(was, e) && !claimed.Pending {
		return nil // it is there, and this process had not heard of it
	}
	if !alike(is, e) {
		if _, err := f.because(e).Replace(ctx, e.Name, rule, now.ETag, false); err != nil {
			return err
		}
	}
	return f.remembered(ctx, rule, false)
}

// create makes an export that was not there a moment ago; before is what was remembered then.
func (f *Federation) create(ctx context.Context, e mcs.Export, rule resource.Export, before claims) error {
	if err := f.remembered(ctx, rule, true); err != nil {
		return err
	}
	_, err := f.because(e).Create(ctx, rule, false)
	if answers(err, http.StatusConflict) {
		// Somebody was faster: the process that wrote before this one, or somebody else.
		now, owned, lookErr := f.look(ctx, e.Name)
		if lookErr != nil {
			return errors.Join(err, lookErr)
		}
		if now == nil {
			return err // and gone again: the next pass makes it
		}
		// That it is like what was remembered just now proves nothing.
		_, named := before[e.Name]
		if is, _ := exportOf(*now); !owned.own(is) || !named && owned[e.Name].Pending {
			return f.foreign(ctx, e.Name, owned)
		}
		err = nil
	}
	if err != nil {
		return err
	}
	return f.remembered(ctx, rule, false)
}

func (f *Federation) because(e mcs.Export) client.Rules[resource.Export] {
	return f.api.WithReason("ServiceExport " + e.Service.Namespace() + "/" + e.Service.Name()).Exports()
}

// foreign says that the name is somebody else's, and no longer claims it.
func (f *Federation) foreign(ctx context.Context, name string, owned claims) error {
	if _, claimed := owned[name]; claimed {
		if err := f.api.ForgetApplied(ctx, f.set, kindExports, name); err != nil {
			return errors.Join(mcs.ErrForeign, err)
		}
	}
	return mcs.ErrForeign
}

// DeleteExport implements mcs.Federation. It is forgotten last, and only what was read is
// removed.
func (f *Federation) DeleteExport(ctx context.Context, name string) error {
	defer f.ask()
	now, owned, err := f.look(ctx, name)
	if err != nil {
		return err
	}
	if now != nil {
		is, _ := exportOf(*now)
		if _, claimed := owned[name]; claimed && owned.own(is) {
			if err := f.remembered(ctx, resource.Export{Export: now.Export}, true); err != nil {
				return err
			}
			err := f.api.WithReason("the ServiceExport has gone, or is not valid").Exports().Delete(ctx, name, now.ETag, false)
			if err != nil && !answers(err, http.StatusNotFound) {
				return err
			}
		}
	}
	return f.api.ForgetApplied(ctx, f.set, kindExports, name)
}

func answers(err error, status int) bool {
	se, ok := errors.AsType[*client.StatusError](err)
	return ok && se.Status == status
}
