package simulation

// Bug is a fault that a product like this one could have, planted at the seams to see
// whether the invariants catch it.
type Bug struct {
	// Name says what the product would do wrong.
	Name string
	// By are the invariants that may catch it first.
	By    []Invariant
	plant func(*seams)
}

// Bugs are all that can be planted.
func Bugs() []*Bug {
	return append(append(controlBugs(), exchangeBugs()...), dataBugs()...)
}
