package aws_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/providers/aws/awstest"
)

const within = 2 * time.Minute

// world is two clusters; the west's catalog is Cloud Map's.
type world struct {
	*stand.Stand
	t      *testing.T
	bin    string
	port   netip.AddrPort
	moto   *awstest.Moto
	client *http.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, bin: tools.External(t, "moto_server", awstest.How), port: stand.FreePort(t),
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		Stand: stand.New(t,
			stand.Spec{Name: "east", Cloud: "gcp", Region: "us-east1", Zone: "us-east1-b", TrustDomain: "east.test"},
			stand.Spec{Name: "west", Cloud: "aws", Region: "us-west-2", Zone: "usw2-az1", TrustDomain: "west.test"},
		),
	}
	t.Cleanup(w.client.CloseIdleConnections)
	keys := w.write("credentials", "[default]\naws_access_key_id = testing\naws_secret_access_key = testing\n")
	config := w.write("aws.yaml", fmt.Sprintf(`
interval: 1s
revisions: 500ms
accounts:
  - name: prod
    regions: [us-west-2]
    endpoint: http://%s
    config_files: [%s]
    credentials_files: [%s]
    cloud_map: [{namespace: internal}]
`, w.port, os.DevNull, keys))
	w.Clusters[1].Section()["sources"] = []any{stand.Object{
		"exec":  stand.Object{"name": "aws", "command": []any{stand.SourceBinary(t), "aws", "--config", config}},
		"allow": []any{"127.0.0.0/8"},
		"guard": stand.Object{"window": "2s"},
	}}
	w.startAWS()
	return w
}

func (w *world) write(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// startAWS starts moto, which knows nothing of an earlier one.
func (w *world) startAWS() {
	w.t.Helper()
	m, err := awstest.StartMoto(context.Background(), w.bin, int(w.port.Port()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.moto = m
	w.t.Cleanup(m.Stop)
}

// register makes the namespace, a service in it and one instance.
func (w *world) register(service, id string, port int) {
	w.t.Helper()
	ctx := w.t.Context()
	c := servicediscovery.New(servicediscovery.Options{
		Region: "us-west-2", BaseEndpoint: &w.moto.URL,
		Credentials: credentials.NewStaticCredentialsProvider("testing", "testing", ""),
	})
	check := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	_, err := c.CreateHttpNamespace(ctx, &servicediscovery.CreateHttpNamespaceInput{Name: awssdk.String("internal")})
	check(err)
	list, err := c.ListNamespaces(ctx, &servicediscovery.ListNamespacesInput{})
	check(err)
	svc, err := c.CreateService(ctx, &servicediscovery.CreateServiceInput{Name: &service, NamespaceId: list.Namespaces[0].Id})
	check(err)
	_, err = c.RegisterInstance(ctx, &servicediscovery.RegisterInstanceInput{
		ServiceId: svc.Service.Id, InstanceId: &id, Attributes: map[string]string{
			"AWS_INSTANCE_IPV4": "127.0.0.1", "AWS_INSTANCE_PORT": fmt.Sprint(port), "AVAILABILITY_ZONE": "us-west-2a", "isthmus-protocol": "http",
		},
	})
	check(err)
}

// instance is an HTTP server that says its name.
func instance(t *testing.T, name string) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, name)
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

// call asks for billing from the east.
func (w *world) call(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.Clusters[0].Gateways[0].HTTP.String()+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = "billing.default.mesh"
	resp, err := w.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", resp.Status, resp.Header.Get("Isthmus-Reason"))
	}
	return string(body), err
}

func (w *world) until(what, who string) {
	w.t.Helper()
	begin, streak := time.Now(), 0
	stand.Eventually(w.t, within, what, func() error {
		got, err := w.call(w.t.Context())
		if err != nil || got != who {
			streak = 0
			return errors.Join(fmt.Errorf("answered by %q", got), err)
		}
		if streak++; streak < 10 {
			return fmt.Errorf("%d in a row", streak)
		}
		return nil
	})
	stand.Figure(w.t, "%s: calls follow after %.1f s", what, time.Since(begin).Seconds())
}

// source is the state of the west's source, and what is wrong with it.
func (w *world) source() (resource.Source, error) {
	w.t.Helper()
	west := w.Clusters[1]
	token, err := os.ReadFile(filepath.Join(w.Dir, west.Name, "data", "federation", "api.token"))
	if err != nil {
		return resource.Source{}, err
	}
	c, err := client.New(client.Options{URL: "http://" + west.API.String(), Token: strings.TrimSpace(string(token))})
	if err != nil {
		return resource.Source{}, err
	}
	defer c.Close()
	return c.Sources().Get(w.t.Context(), "aws")
}

func TestCallsFollowCloudMap(t *testing.T) {
	w := newWorld(t)
	w.register("billing", "one", instance(t, "west-1"))
	w.Start()
	w.until("an instance is registered in Cloud Map", "west-1")

	// AWS is dead, and comes back without its memory: what was known goes on.
	load := stand.StartLoad(t.Context(), 50, 10*time.Second, w.call)
	w.moto.Stop()
	w.untilSource("AWS is dead", "failing", "connection refused")
	time.Sleep(2 * time.Second)
	w.startAWS()
	w.untilSource("the namespace is gone", "failing", "namespace internal: does not exist")
	rs := load.Stop()
	stand.Figure(t, "AWS killed and back without its memory: %d calls, %d failed, answers %v", len(rs), len(rs.Failed()), rs.Who())
	if len(rs) == 0 || len(rs.Failed()) > 0 || rs.Who()["west-1"] != len(rs) {
		t.Errorf("answers %v, failures: %s", rs.Who(), rs.Errors())
	}

	w.register("billing", "two", instance(t, "west-2"))
	w.until("another instance is registered in the AWS that came back", "west-2")
	w.untilSource("AWS is back", "ok", "")
	stand.Figure(t, "e2e/aws ran against: %s", awstest.Version(t.Context()))
}

// untilSource waits for a state of the west's source, and what it says is wrong.
func (w *world) untilSource(what, state, problem string) {
	w.t.Helper()
	stand.Eventually(w.t, within, what, func() error {
		s, err := w.source()
		if err == nil && (s.State != state || !strings.Contains(s.Error, problem)) {
			err = fmt.Errorf("the source is %s (%s), want %s (%s)", s.State, s.Error, state, problem)
		}
		return err
	})
}
