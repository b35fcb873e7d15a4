package kubetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// startAttempts is for a port that another process took in the meantime.
const startAttempts = 3

// adminToken is the token of a user of the group system:masters.
const adminToken = "kubetest-admin"

// Options of Start.
type Options struct {
	// APIServer and Etcd are the programs.
	APIServer, Etcd string
}

// ControlPlane is one etcd and one API server.
type ControlPlane struct {
	dir       string
	port      int
	etcd, api *process
	http      *http.Client
	client    *kubernetes.Clientset
	dynamic   dynamic.Interface
}

// Start starts a control plane and waits until it is ready. Stop ends it.
func Start(o Options) (*ControlPlane, error) {
	dir, err := os.MkdirTemp("", "kubetest-")
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{dir: dir}
	if err := c.prepare(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	for range startAttempts {
		if err = c.start(o); err == nil {
			return c, nil
		}
		c.api.kill()
		c.etcd.kill()
	}
	c.Stop()
	return nil, err
}

func (c *ControlPlane) prepare() error {
	if err := writePKI(c.dir); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, tokensFile), []byte(adminToken+`,admin,1,"system:masters"`+"\n"), 0o600)
}

func (c *ControlPlane) start(o Options) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	local := func(port int) string { return "http://127.0.0.1:" + strconv.Itoa(port) }
	c.port = ports[2]
	c.etcd = &process{name: "etcd", binary: o.Etcd, dir: c.dir, args: []string{
		"--data-dir=etcd-" + strconv.Itoa(ports[0]), "--logger=zap", "--log-level=warn",
		"--listen-client-urls=" + local(ports[0]), "--advertise-client-urls=" + local(ports[0]),
		"--listen-peer-urls=" + local(ports[1]), "--initial-advertise-peer-urls=" + local(ports[1]),
		"--initial-cluster=default=" + local(ports[1]),
	}}
	c.api = &process{name: "kube-apiserver", binary: o.APIServer, dir: c.dir, args: []string{
		"--etcd-servers=" + local(ports[0]), "--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.port),
		// Nobody reads the advertised address, and a loopback one is refused.
		"--endpoint-reconciler-type=none", "--advertise-address=192.0.2.1",
		"--tls-cert-file=" + certFile, "--tls-private-key-file=" + keyFile,
		"--authorization-mode=RBAC", "--token-auth-file=" + tokensFile,
		"--service-account-issuer=https://kubetest.invalid", "--api-audiences=https://kubetest.invalid",
		"--service-account-key-file=" + signFile, "--service-account-signing-key-file=" + signFile,
		"--disable-admission-plugins=ServiceAccount",
		"--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112", "--profiling=false",
	}}
	if err := c.connect(); err != nil {
		return err
	}
	if err := c.etcd.start(); err != nil {
		return err
	}
	return c.StartAPIServer()
}

func (c *ControlPlane) connect() error {
	admin := &rest.Config{
		Host: c.Server(), BearerToken: adminToken, QPS: -1, UserAgent: "kubetest",
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.CAFile()},
	}
	admin.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil } // not the environment's
	var err error
	if c.http, err = rest.HTTPClientFor(admin); err != nil {
		return err
	}
	if c.client, err = kubernetes.NewForConfigAndClient(admin, c.http); err != nil {
		return err
	}
	c.dynamic, err = dynamic.NewForConfigAndClient(admin, c.http)
	return err
}

// Stop ends both processes, drops the clients' connections and removes what is left.
func (c *ControlPlane) Stop() {
	c.api.kill()
	c.etcd.kill()
	c.http.CloseIdleConnections()
	_ = os.RemoveAll(c.dir) // in the temporary folder
}

// KillAPIServer is kill -9 of the API server; etcd goes on.
func (c *ControlPlane) KillAPIServer() { c.api.kill() }

// StartAPIServer starts a dead API server on its port, and waits until it is ready.
func (c *ControlPlane) StartAPIServer() error {
	if err := c.api.start(); err != nil {
		return err
	}
	return c.api.until(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err != nil {
			return fmt.Errorf("readyz: %w", err)
		}
		return nil
	})
}

// Server is the API server's URL.
func (c *ControlPlane) Server() string {
	return "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port))
}

// CAFile holds the certificate that vouches for the API server and for Proxies.
func (c *ControlPlane) CAFile() string { return filepath.Join(c.dir, caFile) }

// AdminToken is a token that may do everything.
func (c *ControlPlane) AdminToken() string { return adminToken }

// Client and Dynamic may do everything.
func (c *ControlPlane) Client() *kubernetes.Clientset { return c.client }

// Dynamic is Client for kinds that have no Go types here.
func (c *ControlPlane) Dynamic() dynamic.Interface { return c.dynamic }

// Logs is the end of the API server's log.
func (c *ControlPlane) Logs() string { return c.api.logTail() }
