package mesh

import (
	"context"
	"crypto/tls"
	"net/http"

	"github.com/isthmus-mesh/isthmus/identity"
)

// tlsConfig admits own gateways and peers' federations and, while somebody is
// invited, strangers who come to join and can do nothing else.
func (s *Server) tlsConfig() *tls.Config {
	config := s.opts.Identity.ServerTLS([]string{"h2", "http/1.1"}, s.authorize)
	if s.opts.Join == nil || s.opts.JoinOpen == nil {
		return config
	}
	return s.opts.Identity.WithJoin(config, s.opts.JoinOpen)
}

// httpProtocols are said outright: with a TLSNextProto of its own net/http leaves
// HTTP/2 out otherwise.
func httpProtocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	return p
}

// joining takes connections of strangers out of the HTTP server's hands, by their
// protocol: no request of theirs is ever parsed.
func (s *Server) joining(ctx context.Context) map[string]func(*http.Server, *tls.Conn, http.Handler) {
	if s.opts.Join == nil {
		return nil
	}
	return map[string]func(*http.Server, *tls.Conn, http.Handler){
		identity.JoinALPN: func(_ *http.Server, conn *tls.Conn, _ http.Handler) { s.opts.Join(ctx, conn) },
	}
}
