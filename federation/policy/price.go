package policy

import "math"

const (
	// MaxPriceWeight makes a millionth of a dollar worth 1,000 seconds.
	MaxPriceWeight = 1e9
	// MaxBudget is beyond what anybody pays for a network.
	MaxBudget = 1e12
	// DefaultWarnPercent is that of Budget.
	DefaultWarnPercent uint32 = 80
	// DefaultSavePercent is that of Save.
	DefaultSavePercent uint32 = 100
)

// Budget is what calls of this cluster's callers to one service may cost in a calendar
// month (UTC), in dollars. Whatever becomes of it, no call fails for it.
type Budget struct {
	// Monthly is for each of the policy's services.
	Monthly float64 `json:"monthly" yaml:"monthly"`
	// WarnPercent is the part of it at which is told that it will soon be used up;
	// 0 means 80.
	WarnPercent uint32 `json:"warn_percent,omitempty" yaml:"warn_percent,omitempty"`
	// Save makes price count more from then on; nil only tells.
	Save *Saving `json:"save,omitempty" yaml:"save,omitempty"`
}

// Saving is a price weight that holds for the rest of the month once a part of a
// budget is spent.
type Saving struct {
	// FromPercent is that part; 0 means 100.
	FromPercent uint32 `json:"from_percent,omitempty" yaml:"from_percent,omitempty"`
	// PriceWeight takes the place of the policy's, if it is greater.
	PriceWeight float64 `json:"price_weight" yaml:"price_weight"`
}

// Filled returns b with unset fields at their defaults; b is not changed.
func (b Budget) Filled() Budget {
	if b.WarnPercent == 0 {
		b.WarnPercent = DefaultWarnPercent
	}
	if b.Save != nil && b.Save.FromPercent == 0 {
		s := *b.Save
		s.FromPercent = DefaultSavePercent
		b.Save = &s
	}
	return b
}

// PriceWeightIn is the price weight that holds while the service's budget is to be
// saved, or is not; saved says that it is the budget's.
func (t *Traffic) PriceWeightIn(saving bool) (weight float64, saved bool) {
	if saving && t.Budget != nil && t.Budget.Save != nil && t.Budget.Save.PriceWeight > t.PriceWeight {
		return t.Budget.Save.PriceWeight, true
	}
	return t.PriceWeight, false
}

func (t *Traffic) validatePrice(p problems) {
	checkWeight := func(p problems, field string, w float64) {
		if !(w >= 0 && w <= MaxPriceWeight) || math.IsNaN(w) {
			p.add(field, w, "must be 0 to %.0f seconds for a dollar", float64(MaxPriceWeight))
			return
		}
		if w == 0 {
			return
		}
		switch {
		case t.Filled().Algorithm != P2C:
			p.add(field, w, "counts where predicted times are compared: the algorithm must be %s", P2C)
		case len(t.Weights) > 0:
			p.add(field, w, "cannot stand beside weights, which split the calls exactly")
		case t.Pin != "":
			p.add(field, w, "cannot stand beside pin, which leaves no choice")
		}
	}
	checkWeight(p, "price_weight", t.PriceWeight)
	b := t.Budget
	if b == nil {
		return
	}
	at := p.at("budget")
	if !(b.Monthly > 0 && b.Monthly <= MaxBudget) {
		at.add("monthly", b.Monthly, "must be above 0 dollars, at most %.0f; leave budget out where there is none", float64(MaxBudget))
	}
	if b.WarnPercent > 100 {
		at.add("warn_percent", b.WarnPercent, "is a percentage, 1 to 100")
	}
	if s := b.Save; s != nil {
		at = at.at("save")
		if s.FromPercent > 100 {
			at.add("from_percent", s.FromPercent, "is a percentage, 1 to 100")
		}
		if s.PriceWeight == 0 {
			at.add("price_weight", s.PriceWeight, "must be above 0: a weight of 0 saves nothing")
		}
		checkWeight(at, "price_weight", s.PriceWeight)
	}
}
