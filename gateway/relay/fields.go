package relay

import (
	"net/http"
	"strings"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// ForwardedClientCert names the caller to the endpoint, in the form that Envoy
// defined.
const ForwardedClientCert = "X-Forwarded-Client-Cert"

// forwarding are fields that say where a request comes from. Only gateways write
// them.
var forwarding = [...]string{
	ForwardedClientCert, "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
	"X-Forwarded-Server", "X-Forwarded", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Forwarded",
}

// Strip removes from a request of a caller every field that only gateways write.
// Some servers hand fields to applications with "-" turned into "_", where
// x_forwarded_client_cert would arrive under the same name, so both are one here.
func Strip(h http.Header) {
	wire.StripHTTP(h)
	for name := range h {
		if isForwarding(name) {
			delete(h, name)
		}
	}
}

// relayed are the fields by which the gateway before says where a request came
// from.
var relayed = [...]string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// StripRelayed is Strip for a request that another cluster's gateway has brought:
// what that says of where it came from stays, in the one spelling that gateways
// use. Who calls is said by the tunnel's header and judged; a gateway that is in
// other hands says it in no other way.
func StripRelayed(h http.Header) {
	var kept [len(relayed)][]string
	for i, name := range relayed {
		kept[i] = h[name]
	}
	Strip(h)
	for i, name := range relayed {
		if kept[i] != nil {
			h[name] = kept[i]
		}
	}
}

func isForwarding(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		name = strings.ReplaceAll(name, "_", "-")
	}
	for _, f := range forwarding {
		if strings.EqualFold(name, f) {
			return true
		}
	}
	return false
}

// SetCaller writes who calls, as the serving gateway knows it: by is that
// gateway's SPIFFE ID, caller the workload's, "" for an anonymous one. The alphabet
// of SPIFFE IDs needs no quoting.
func SetCaller(h http.Header, by, caller string) {
	h.Del(ForwardedClientCert)
	if caller != "" {
		h.Set(ForwardedClientCert, "By="+by+";URI="+caller)
	}
}

// hopByHop are the fields of one connection (RFC 9110, 7.6.1).
var hopByHop = [...]string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// removeHopByHop removes the fields of one connection, and those that its
// Connection field names.
func removeHopByHop(h http.Header) {
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
}
