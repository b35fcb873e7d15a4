package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// The pairs of other proxies carry TCP and prove to each other who they are by
// certificates of one authority. All else is as they come, except for how many
// connections they take, and that they write no access log (see -access-log).

// spareConnections is how many a proxy takes beyond the idle ones.
const spareConnections = 500

// pairOfProxies writes the certificates of a pair, and gives it addresses: in is what
// callers dial, there what the near one dials and here where the far one listens.
func (b *stage) pairOfProxies(at place) (in, here, there string, file func(name string) string, err error) {
	if err := writeCertificates(b.dir); err != nil {
		return "", "", "", nil, fmt.Errorf("certificates: %w", err)
	}
	port := strconv.Itoa(int(stand.FreePort(b).Port()))
	file = func(name string) string { return filepath.Join(b.dir, name) }
	return stand.FreePort(b).String(), net.JoinHostPort(at.here, port), net.JoinHostPort(at.there, port), file, nil
}

const haproxyConfig = `global
  maxconn %d
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen pair
  bind %s
  server next %s
`

func startHaproxy(b *stage, service string, at place, p parameters) (started, error) {
	path, err := program("haproxy", "haproxy", "haproxy")
	if err != nil {
		return started{}, err
	}
	in, here, there, file, err := b.pairOfProxies(at)
	if err != nil {
		return started{}, err
	}
	near := fmt.Sprintf(haproxyConfig, p.Connections+spareConnections, in, fmt.Sprintf("%s ssl crt %s ca-file %s verify required verifyhost %s",
		there, file("near.both.pem"), file("ca.pem"), farName))
	far := fmt.Sprintf(haproxyConfig, p.Connections+spareConnections, fmt.Sprintf("%s ssl crt %s ca-file %s verify required",
		here, file("far.both.pem"), file("ca.pem")), service)
	pids, err := startTwo(b, "haproxy", near, far, func(config string) []string { return []string{path, "-db", "-f", config} })
	return started{target{in, "service"}, pids}, err
}

const nginxConfig = `daemon off;
pid %[1]s.pid;
error_log stderr;
worker_processes auto;
%[2]s
events { worker_connections %[4]d; }
stream {
  server {
    proxy_timeout 1h;
    %[3]s
  }
}
`

// nginxStream is where Debian has the module; elsewhere it is built in.
const nginxStream = "/usr/lib/nginx/modules/ngx_stream_module.so"

func startNginx(b *stage, service string, at place, p parameters) (started, error) {
	path, err := program("nginx", "nginx", "nginx-core libnginx-mod-stream")
	if err != nil {
		return started{}, err
	}
	in, here, there, file, err := b.pairOfProxies(at)
	if err != nil {
		return started{}, err
	}
	ends, module := 2*(p.Connections+spareConnections), "" // both ends of a connection count
	if _, err := os.Stat(nginxStream); err == nil {
		module = "load_module " + nginxStream + ";"
	}
	near := fmt.Sprintf(nginxConfig, file("near"), module, fmt.Sprintf(
		"listen %s; proxy_pass %s; proxy_ssl on; proxy_ssl_certificate %s; proxy_ssl_certificate_key %s; "+
			"proxy_ssl_trusted_certificate %s; proxy_ssl_verify on; proxy_ssl_name %s;",
		in, there, file("near.pem"), file("near.key"), file("ca.pem"), farName), ends)
	far := fmt.Sprintf(nginxConfig, file("far"), module, fmt.Sprintf(
		"listen %s ssl; proxy_pass %s; ssl_certificate %s; ssl_certificate_key %s; ssl_client_certificate %s; ssl_verify_client on;",
		here, service, file("far.pem"), file("far.key"), file("ca.pem")), ends)
	pids, err := startTwo(b, "nginx", near, far, func(config string) []string { return []string{path, "-p", b.dir, "-c", config} })
	return started{target{in, "service"}, pids}, err
}

// startTwo starts the near and the far proxy of a pair, each with its file.
func startTwo(b *stage, name, near, far string, command func(config string) []string) (pids []int, err error) {
	for _, side := range []struct{ name, config string }{{"far", far}, {"near", near}} {
		config := filepath.Join(b.dir, side.name+".conf")
		if err := os.WriteFile(config, []byte(side.config), 0o600); err != nil {
			return nil, err
		}
		c := command(config)
		p := stand.NewProcess(b, b.dir, name+"-"+side.name, c[0], c[1:]...)
		p.Start()
		b.processes = append(b.processes, p)
		pids = append(pids, p.PID())
	}
	return pids, nil
}
