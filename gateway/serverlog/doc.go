// Package serverlog hands what net/http's servers and proxies log, mostly
// callers that broke off, to slog: as a reason, under one constant message.
package serverlog
