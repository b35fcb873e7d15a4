package kubernetes

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// spoken are the words of appProtocol, and of a port name before its first "-".
// http2 and h2c are HTTP/2 without TLS, which the catalog calls grpc.
var spoken = map[string]catalog.Protocol{
	"tcp":   catalog.TCP,
	"http":  catalog.HTTP,
	"ws":    catalog.HTTP,
	"http2": catalog.GRPC,
	"h2c":   catalog.GRPC,
	"grpc":  catalog.GRPC,
	"https": catalog.TLS,
	"wss":   catalog.TLS,
	"tls":   catalog.TLS,
}

// speaks is what a port speaks: by the transport, by appProtocol, by its name, else
// the default. It is false of a transport that is not carried.
func speaks(p corev1.ServicePort, byDefault catalog.Protocol) (catalog.Protocol, bool) {
	switch p.Protocol {
	case corev1.ProtocolUDP:
		return catalog.UDP, true
	case corev1.ProtocolTCP, "":
	default:
		return "", false
	}
	if p.AppProtocol != nil {
		word := strings.TrimPrefix(strings.ToLower(*p.AppProtocol), "kubernetes.io/")
		if protocol, ok := spoken[word]; ok {
			return protocol, true
		}
	}
	word, _, _ := strings.Cut(p.Name, "-")
	if protocol, ok := spoken[word]; ok {
		return protocol, true
	}
	return byDefault, true
}
