package apply

import "fmt"

// The guard of removals: what a slip of the hand may remove unasked. They are the
// figures of the mass-withdrawal guard of sources, for the same reason: an empty
// folder looks just like the wish to remove everything.
const (
	guardCount   = 3
	guardPercent = 20
)

// GuardError means that a plan removes more than it may unasked.
type GuardError struct {
	// Removals is how many rules the plan removes, Of how many the set had
	// applied; Allowed is how many may go unasked.
	Removals, Of, Allowed int
}

// Error says the figures and what to do.
func (e *GuardError) Error() string {
	return fmt.Sprintf("%d of the %d rules that this set applied would be removed, at most %d are without being asked: say how many may go", e.Removals, e.Of, e.Allowed)
}

// Guard returns a *GuardError where the plan removes more than
// max(3, 20 % of the applied rules), unless asked allows it: the number of
// removals that the operator has said to be right.
func (p *Plan) Guard(applied, asked int) error {
	allowed := max(guardCount, applied*guardPercent/100)
	if n := p.Removals(); n > allowed && n > asked {
		return &GuardError{Removals: n, Of: applied, Allowed: max(allowed, asked)}
	}
	return nil
}
