package catalog

// The bounds of a snapshot. They exist so that no source, however broken, can
// exhaust memory; each is far above what a real cluster holds.
const (
	// MaxServices bounds one snapshot: ten times the 5,000 services of the
	// largest clusters that the peers of this project document.
	MaxServices = 50_000
	// MaxEndpoints bounds one snapshot: about 300 MB of values.
	MaxEndpoints = 1_000_000
	// MaxServiceEndpoints bounds one service.
	MaxServiceEndpoints = 100_000
	// MaxPorts bounds the ports of one service.
	MaxPorts = 64
	// MaxLabels, MaxLabelKeyLen and MaxLabelValueLen bound the labels of an
	// endpoint and the meta of a service; they are Consul's bounds for service
	// meta, so that none of it is lost.
	MaxLabels        = 64
	MaxLabelKeyLen   = 128
	MaxLabelValueLen = 512
	// MaxIDLen bounds an endpoint's ID: a node's, a namespace's and a service's
	// name of 253 bytes each fit.
	MaxIDLen = 1024
	// MaxWeight is the largest relative weight.
	MaxWeight = 65_535
	// MaxEndpointCapacity bounds what one endpoint may be said to take at once.
	MaxEndpointCapacity = 1_000_000
	// MaxSummaryRows bounds one summary: ports x zones x subsets.
	MaxSummaryRows = 4096
	// MaxSubsetLabels bounds the labels that split one summary.
	MaxSubsetLabels = 4
	// MaxGatewayAddresses bounds the addresses of one gateway.
	MaxGatewayAddresses = 16
	// MaxSPIFFEIDLen is the SPIFFE ID standard's bound (section 2.3).
	MaxSPIFFEIDLen = 2048
)
