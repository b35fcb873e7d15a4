package resource

// Readiness is what /readyz answers.
type Readiness struct {
	Ready bool `json:"ready"`
	// Reasons name whoever keeps the federation from being ready.
	Reasons []string `json:"reasons,omitempty"`
	// Degraded is what an operator must look at although everything is served.
	Degraded []string `json:"degraded,omitempty"`
}
