// Package protocols sends real protocols through two real gateways: PostgreSQL,
// Redis, SSH and plain byte streams through the TCP way in, and HTTP in all its
// forms, gRPC and WebSocket among them, through the HTTP way in.
package protocols
