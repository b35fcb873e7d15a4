package route

// Reason says why a candidate or an endpoint is not chosen: a closed
// vocabulary, used in ledgers, logs and metrics.
type Reason string

// The reasons of what was seen: they take a candidate out of service, not out
// of the picture; its endpoints still count as the whole of its tier.
const (
	// LinkDown: no link to the cluster carries probes both ways.
	LinkDown Reason = "link_down"
	// LinkDraining: every gateway of the cluster that answers is draining.
	LinkDraining Reason = "link_draining"
	// ControlLostDataDead: neither witness, catalog lease and link, sees the
	// cluster.
	ControlLostDataDead Reason = "control_lost_data_dead"
	// Withdrawn: as before, for longer than WithdrawAfter.
	Withdrawn Reason = "withdrawn"
	// InDrill: a drill counts it as lost, for the calls of its share.
	InDrill Reason = "drill"
	// Ejected: too many failures in a row.
	Ejected Reason = "ejected"
	// OnProbation: the ejection is over, one request at a time may show whether
	// the cause is too.
	OnProbation Reason = "probation"
	// NoReadyEndpoints: the cluster has none ready.
	NoReadyEndpoints Reason = "no_ready_endpoints"
	// Unhealthy: the data path found the endpoint failing.
	Unhealthy Reason = "unhealthy"
	// SourceCritical and SourceMaintenance: the source took the endpoint out.
	SourceCritical    Reason = "source_critical"
	SourceMaintenance Reason = "source_maintenance"
)

// The reasons of rules: no state of health brings such a candidate back.
const (
	NotImported       Reason = "not_imported"
	PortMissing       Reason = "port_missing"
	SubsetMissing     Reason = "subset_missing"
	PolicyClusterList Reason = "policy_cluster_list"
	PolicyWeightZero  Reason = "policy_weight_zero"
	PolicyPin         Reason = "policy_pin"
	PolicyFailoverOff Reason = "policy_failover_off"
	PolicyResidency   Reason = "policy_residency"
	// AtCapacity: it has no slot left for a call of this priority.
	AtCapacity Reason = "at_capacity"
	RequestPin Reason = "request_pin"
	// LocalPin and LocalFailoverOff: an operator's switches at the deciding gateway.
	LocalPin          Reason = "local_pin"
	LocalFailoverOff  Reason = "local_failover_off"
	AlreadyTried      Reason = "tried"
	RemoteNotForPeers Reason = "not_for_peers" // PickLocal never routes on
)

// down reports whether the reason is that no stream can be opened.
func (r Reason) down() bool {
	switch r {
	case LinkDown, LinkDraining, ControlLostDataDead, Withdrawn, InDrill:
		return true
	default:
		return false
	}
}
