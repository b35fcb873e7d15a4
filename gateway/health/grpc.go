package health

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// grpcMethod is the unary method of the gRPC health protocol
// (github.com/grpc/grpc/blob/master/doc/health-checking.md).
const grpcMethod = "/grpc.health.v1.Health/Check"

// serving is HealthCheckResponse.ServingStatus.SERVING.
const serving = 1

var errMessage = errors.New("grpc health: malformed answer")

// grpc asks the endpoint for the health of Check.Path, a gRPC service name; empty
// asks for the server as a whole.
func (p *probes) grpc(ctx context.Context, t Target) error {
	body := frame(healthRequest(t.Check.Path))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+t.Address.String()+grpcMethod, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("User-Agent", "isthmus-health")
	resp, err := p.http2.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("grpc health: http status %d", resp.StatusCode)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	// An answer without a message carries its status in the header (trailers-only).
	status := resp.Trailer.Get("Grpc-Status")
	if status == "" {
		status = resp.Header.Get("Grpc-Status")
	}
	if status != "0" {
		return fmt.Errorf("grpc health: grpc status %q", status)
	}
	state, err := healthStatus(answer)
	if err != nil {
		return err
	}
	if state != serving {
		return fmt.Errorf("grpc health: serving status %d", state)
	}
	return nil
}

// frame is gRPC's length-prefixed message: not compressed, length, message.
func frame(message []byte) []byte {
	b := make([]byte, 5, 5+len(message))
	binary.BigEndian.PutUint32(b[1:], uint32(len(message)))
	return append(b, message...)
}

// healthRequest is HealthCheckRequest{service = 1}.
func healthRequest(service string) []byte {
	if service == "" {
		return nil
	}
	b := binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service)))
	return append(b, service...)
}

// healthStatus reads HealthCheckResponse{status = 1} from one framed message.
// Fields that are not known are skipped, as protobuf wants; a missing status is
// its default, UNKNOWN.
func healthStatus(framed []byte) (uint64, error) {
	if len(framed) < 5 || framed[0] != 0 || uint64(binary.BigEndian.Uint32(framed[1:])) != uint64(len(framed)-5) {
		return 0, errMessage
	}
	var status uint64
	for m := framed[5:]; len(m) > 0; {
		tag, n := binary.Uvarint(m)
		if n <= 0 {
			return 0, errMessage
		}
		m = m[n:]
		var size uint64
		switch tag & 7 {
		case 0: // varint
			v, n := binary.Uvarint(m)
			if n <= 0 {
				return 0, errMessage
			}
			if tag>>3 == 1 {
				status = v
			}
			size = uint64(n)
		case 1:
			size = 8
		case 2: // length-delimited
			l, n := binary.Uvarint(m)
			if n <= 0 || l > maxAnswer {
				return 0, errMessage
			}
			size = uint64(n) + l
		case 5:
			size = 4
		default:
			return 0, errMessage
		}
		if size > uint64(len(m)) {
			return 0, errMessage
		}
		m = m[size:]
	}
	return status, nil
}
