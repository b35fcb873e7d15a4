package wire

// ID is a random 128-bit number: of a process or of a link.
type ID [16]byte

// IsZero reports whether id is unset.
func (id ID) IsZero() bool { return id == ID{} }

// Hello is the first frame in each direction of each connection. Cluster and
// gateway are what the sender calls itself; who it is follows from its
// certificate, and the two must agree.
type Hello struct {
	// MinVersion and MaxVersion are the versions of this protocol that the sender
	// speaks; at least 1.
	MinVersion, MaxVersion uint32
	// Cluster and Gateway are the sender's names.
	Cluster, Gateway string
	// Instance is drawn anew by each process: all connections of a link must
	// reach the same one.
	Instance ID
	// Link is drawn by the dialing side for each link and echoed by the other.
	Link ID
	// Connection numbers the connections of a link; 0 carries control and probes.
	Connection uint32
	// Features is a set of bits for abilities beyond the version, such as
	// [FeatureReauth]; a link uses those that both ends named on its control
	// connection. Unknown bits are kept and ignored.
	Features uint64
}

// Version1 is the only version of this protocol so far; see the history in the package
// comment.
const Version1 = 1

// FeatureReauth says that the sender re-authenticates a live link when its certificate
// changes ([Proof]), and takes the other end's proofs ([Challenge]).
const FeatureReauth uint64 = 1 << 0

// FeatureSubsets says that the sender obeys [Header.Subset], also of HTTP requests,
// where older versions would pass over it.
const FeatureSubsets uint64 = 1 << 1

// FeatureFlows says that the sender serves flows of datagrams ([KindFlow]).
const FeatureFlows uint64 = 1 << 2

// MaxConnection bounds the numbers of a link's connections: 8 raw, 8 for HTTP, 8
// called back; and on the TLS lane 1,000 of a stream each, and 1,000 called back.
const MaxConnection = 23 + 2000

// Types of a hello's fields.
const (
	helloMinVersion = 1
	helloFeatures   = 2
	helloMaxVersion = 3
	helloCluster    = 5
	helloGateway    = 7
	helloInstance   = 9
	helloLink       = 11
	helloConnection = 13
)

// maxSmallFrame bounds the frames that are not reports.
const maxSmallFrame = 1 << 10

// AppendHello appends a hello frame. Errors are of type [*FieldError].
func AppendHello(b []byte, h *Hello) ([]byte, error) {
	if err := h.check(); err != nil {
		return b, err
	}
	body := appendNumber(nil, helloMinVersion, uint64(h.MinVersion))
	body = appendNumber(body, helloFeatures, h.Features)
	body = appendNumber(body, helloMaxVersion, uint64(h.MaxVersion))
	body = appendText(body, helloCluster, h.Cluster)
	body = appendText(body, helloGateway, h.Gateway)
	body = appendText(body, helloInstance, string(h.Instance[:]))
	body = appendText(body, helloLink, string(h.Link[:]))
	body = appendNumber(body, helloConnection, uint64(h.Connection))
	return appendFrame(b, FrameHello, body), nil
}

// check says whether h can be sent.
func (h *Hello) check() error {
	switch {
	case h.MinVersion == 0 || h.MaxVersion < h.MinVersion:
		return &FieldError{Field: "version", Rule: "must be a range that starts at 1 or above"}
	case !validName(h.Cluster):
		return &FieldError{Field: "cluster", Length: len(h.Cluster), Rule: "must be 1 to 63 printable characters"}
	case !validName(h.Gateway):
		return &FieldError{Field: "gateway", Length: len(h.Gateway), Rule: "must be 1 to 63 printable characters"}
	case h.Instance.IsZero() || h.Link.IsZero():
		return &FieldError{Field: "instance or link", Rule: "is required"}
	case h.Connection > MaxConnection:
		return &FieldError{Field: "connection", Rule: "is above the number of a link's connections"}
	case h.Features > maxVarint:
		return &FieldError{Field: "features", Rule: "is larger than its limit"}
	}
	return nil
}

// ParseHello parses the body of a hello frame.
func ParseHello(b []byte) (Hello, error) {
	if len(b) > maxSmallFrame {
		return Hello{}, malformed("hello", "is longer than 1024 bytes")
	}
	var h Hello
	f := fields{rest: string(b)}
	for {
		typ, value, ok, err := f.next()
		if err != nil {
			return Hello{}, err
		}
		if !ok {
			break
		}
		var n uint64
		switch typ {
		case helloMinVersion:
			n, err = number("version", value, 1<<32-1)
			h.MinVersion = uint32(n)
		case helloFeatures:
			h.Features, err = number("features", value, maxVarint)
		case helloMaxVersion:
			n, err = number("version", value, 1<<32-1)
			h.MaxVersion = uint32(n)
		case helloCluster:
			h.Cluster, err = parseName("cluster", value)
		case helloGateway:
			h.Gateway, err = parseName("gateway", value)
		case helloInstance:
			h.Instance, err = parseID("instance", value)
		case helloLink:
			h.Link, err = parseID("link", value)
		case helloConnection:
			n, err = number("connection", value, MaxConnection)
			h.Connection = uint32(n)
		default:
			err = unknown(typ)
		}
		if err != nil {
			return Hello{}, err
		}
	}
	switch {
	case h.MinVersion == 0 || h.MaxVersion < h.MinVersion:
		return Hello{}, malformed("version", "is not a range")
	case h.Cluster == "" || h.Gateway == "" || h.Instance.IsZero() || h.Link.IsZero():
		return Hello{}, malformed("hello", "lacks a required field")
	}
	return h, nil
}

// Negotiate returns the highest version that both sides speak; ok is false when
// there is none.
func Negotiate(a, b *Hello) (version uint32, ok bool) {
	version = min(a.MaxVersion, b.MaxVersion)
	return version, version >= max(a.MinVersion, b.MinVersion)
}

func validName(s string) bool { return s != "" && len(s) <= MaxName && visible(s) }

func parseName(part, value string) (string, error) {
	if !validName(value) {
		return "", malformed(part, "must be 1 to 63 printable characters")
	}
	return value, nil
}

func parseID(part, value string) (ID, error) {
	var id ID
	if len(value) != len(id) {
		return ID{}, malformed(part, "must be 16 bytes")
	}
	copy(id[:], value)
	if id.IsZero() {
		return ID{}, malformed(part, "must not be zero")
	}
	return id, nil
}
