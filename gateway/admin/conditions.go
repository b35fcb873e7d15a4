package admin

import (
	"sync"
)

// Condition is one thing that readiness depends on, or that is good to know.
type Condition struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Required conditions decide about readiness; others only inform.
	Required bool `json:"required"`
	// Reason says why not, or what else there is to know.
	Reason string `json:"reason,omitempty"`
}

// Conditions is a set of conditions in a fixed order. It is safe for concurrent
// use.
type Conditions struct {
	mu   sync.Mutex
	list []Condition
	all  chan struct{} // closed when all required ones held for the first time
	once sync.Once
}

// NewConditions returns a set in which nothing holds yet. Those of required decide
// about readiness.
func NewConditions(required, informative []string) *Conditions {
	c := &Conditions{all: make(chan struct{})}
	for _, name := range required {
		c.list = append(c.list, Condition{Name: name, Required: true, Reason: "not yet"})
	}
	for _, name := range informative {
		c.list = append(c.list, Condition{Name: name, Reason: "not yet"})
	}
	return c
}

// Set records whether a condition holds, and why not.
func (c *Conditions) Set(name string, ok bool, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.list {
		if c.list[i].Name == name {
			c.list[i].OK, c.list[i].Reason = ok, reason
		}
	}
	if c.ready() {
		c.once.Do(func() { close(c.all) })
	}
}

// Ready returns a channel that is closed once all required conditions held.
func (c *Conditions) Ready() <-chan struct{} { return c.all }

// List returns the conditions and whether all required ones hold.
func (c *Conditions) List() (list []Condition, ready bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Condition(nil), c.list...), c.ready()
}

func (c *Conditions) ready() bool {
	for _, condition := range c.list {
		if condition.Required && !condition.OK {
			return false
		}
	}
	return true
}
