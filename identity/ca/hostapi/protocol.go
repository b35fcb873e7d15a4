package hostapi

import (
	"fmt"
	"net/http"
	"regexp"
)

// The protocols of the port, exact.
const (
	ALPNJoin = "isthmus-ca-join/1"
	ALPNHost = "isthmus-ca-host/1"
)

// AuthorityPath is the path of the CA's own SPIFFE ID; a host's is HostPath + its
// name.
const (
	AuthorityPath = "/isthmus/ca"
	HostPath      = AuthorityPath + "/host/"
)

// Bounds of what is said.
const (
	// MaxRequest bounds a request: MaxSign certificate requests of 600 bytes each in
	// base64, and room.
	MaxRequest = 128 << 10
	// MaxAnswer bounds an answer: an entry table for one host, and the bundles of
	// the federated domains.
	MaxAnswer = 16 << 20
	// MaxSign bounds the requests of one Sign.
	MaxSign = 64
	// MaxCSR bounds one certificate request of a P-256 key.
	MaxCSR = 2 << 10
)

// HostRule is what a host's name must be.
const HostRule = "must be 1 to 63 characters of a-z, 0-9, '-' and '.', and begin and end with a letter or digit"

var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

// ValidHost reports whether name follows HostRule; two dots in a row are no SPIFFE
// path, and refused by it elsewhere as well.
func ValidHost(name string) bool {
	if !hostName.MatchString(name) {
		return false
	}
	for i := 1; i < len(name); i++ {
		if name[i] == '.' && name[i-1] == '.' {
			return false
		}
	}
	return true
}

// Join asks for a host's first SVID. CSR is a PKCS #10 request (DER).
type Join struct {
	Host   string `json:"host"`
	Secret []byte `json:"secret"`
	CSR    []byte `json:"csr"`
}

// Renew asks for a host's next SVID.
type Renew struct {
	CSR []byte `json:"csr"`
}

// Certified is a certificate (DER).
type Certified struct {
	Certificate []byte `json:"certificate"`
}

// Sign asks for SVIDs of the host's workloads.
type Sign struct {
	Requests []SignRequest `json:"requests"`
}

// SignRequest is one of them.
type SignRequest struct {
	ID  string `json:"id"`
	CSR []byte `json:"csr"`
}

// Signed are the certificates, in the order of the requests.
type Signed struct {
	Certificates []Certified `json:"certificates"`
}

// Config is what a host may hand to its workloads, and whom they trust. Version
// is of the content: equal ones are the same.
type Config struct {
	Version string `json:"version"`
	// Bundle is the own trust domain's (DER, concatenated), Federated those of
	// others by the domain's ID.
	Bundle    []byte            `json:"bundle"`
	Federated map[string][]byte `json:"federated,omitempty"`
	Entries   []Entry           `json:"entries"`
}

// Entry gives the processes of a user on the host an SVID; UID nil is the agent's
// own user.
type Entry struct {
	ID   string  `json:"id"`
	UID  *uint32 `json:"uid,omitempty"`
	Hint string  `json:"hint,omitempty"`
}

// Code says why a request was refused; a closed vocabulary.
type Code string

// The codes, with what a host does about each.
const (
	// CodeMalformed: the request is no such request. Nothing helps but another build.
	CodeMalformed Code = "malformed"
	// CodeToken: the token is unknown, used, expired, or for another host. The
	// operator makes another one.
	CodeToken Code = "token"
	// CodeRevoked: the host is not, or no longer, registered, or its SVID was
	// replaced by another holder of its name. It hands out nothing more.
	CodeRevoked Code = "revoked"
	// CodeNotEntitled: the host has no entry for one of the IDs. It asks for its
	// configuration.
	CodeNotEntitled Code = "not_entitled"
	// CodeSVID: the SVID of the connection has ended, or its root has left. The host
	// connects anew with what it holds.
	CodeSVID Code = "svid"
	// CodeBusy: too many requests. It comes back later, as after CodeInternal.
	CodeBusy     Code = "busy"
	CodeInternal Code = "internal"
)

// Outcomes lists what can become of a request, for metrics.
func Outcomes() []string {
	return []string{
		"served", string(CodeMalformed), string(CodeToken), string(CodeRevoked), string(CodeSVID), string(CodeNotEntitled), string(CodeBusy), string(CodeInternal),
	}
}

// Error is a refusal, and the body of every answer that is not 200.
type Error struct {
	Code   Code   `json:"code"`
	Detail string `json:"detail,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("refused, %s: %s", e.Code, e.Detail) }

// Refuse makes a refusal.
func Refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Status is the HTTP status of the refusal.
func (e *Error) Status() int {
	switch e.Code {
	case CodeMalformed:
		return http.StatusBadRequest
	case CodeToken, CodeRevoked, CodeSVID, CodeNotEntitled:
		return http.StatusForbidden
	case CodeBusy:
		return http.StatusTooManyRequests
	case CodeInternal:
		return http.StatusInternalServerError
	default:
		return http.StatusInternalServerError
	}
}

// Permanent reports whether asking again with the same is in vain.
func (e *Error) Permanent() bool {
	return e.Code == CodeToken || e.Code == CodeRevoked || e.Code == CodeMalformed
}
