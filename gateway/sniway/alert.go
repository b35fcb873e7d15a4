package sniway

import (
	"net"
	"time"
)

// alert is a TLS alert description (RFC 8446, section 6).
type alert byte

const (
	alertDecode           alert = 50  // decode_error
	alertAccessDenied     alert = 49  // access_denied
	alertInternal         alert = 80  // internal_error
	alertUnrecognizedName alert = 112 // unrecognized_name
)

// alertTimeout bounds how long an alert waits for a caller that does not read.
const alertTimeout = time.Second

// send tells the caller, who has heard nothing so far: an alert before the first
// ServerHello is not encrypted.
func (a alert) send(c net.Conn) {
	const alertRecord, fatal = 21, 2
	_ = c.SetWriteDeadline(time.Now().Add(alertTimeout)) // of one that is closed it fails, and so does the write
	// legacy_record_version 3.3; the length is 2.
	_, _ = c.Write([]byte{alertRecord, 3, 3, 0, 2, fatal, byte(a)})
}
