package wire

// Report is what a gateway tells its peers about the load of its own cluster's
// services. It replaces the report before it as a whole.
type Report struct {
	// Services is sorted by (Service, Port), without duplicates; at most
	// [MaxReportServices].
	Services []ServiceReport
}

// ServiceReport is one service (and port) as the reporting gateway sees it now.
type ServiceReport struct {
	// Service is "name.namespace" as that cluster names it.
	Service string
	// Port is the port's name; empty means the whole service.
	Port string
	// Ready and Total count endpoints.
	Ready, Total uint32
	// InFlight counts streams and requests in progress to those endpoints
	// through the reporting gateway.
	InFlight uint32
}
