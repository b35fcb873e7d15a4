package process

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/metadata"
)

// iowa is a Google Cloud metadata server, as documented.
func iowa(t *testing.T) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		if r.Header.Get("Metadata-Flavor") != "Google" || r.Header.Get("X-Forwarded-For") != "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		switch r.URL.Path {
		case "/computeMetadata/v1/instance/zone":
			_, _ = w.Write([]byte("projects/1/zones/us-central1-a"))
		case "/computeMetadata/v1/instance/id":
			_, _ = w.Write([]byte("77"))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestAutoLocality(t *testing.T) {
	srv, dir := iowa(t), t.TempDir()
	found := catalog.Locality{Cloud: "gcp", Region: "us-central1", Zone: "us-central1-a"}
	auto := func(more string) *config.Config {
		return parse(t, "cluster: {name: east, cloud: aws, region: us-east-1}",
			fmt.Sprintf("data_dir: %s\ncluster: {name: east, locality: auto, metadata: %q%s}", dir, srv.URL, more))
	}
	run := func(c *config.Config) (string, error) {
		t.Helper()
		var log strings.Builder
		l := slog.New(slog.NewTextHandler(&log, nil))
		at, err := locate(t.Context(), c, l)
		if err != nil {
			return log.String(), err
		}
		got, err := located(c, at, l)
		if err != nil {
			return log.String(), err
		}
		return got.Cluster.Locality().String() + "\n" + log.String(), nil
	}
	for more, want := range map[string]string{
		"":                                  found.String(),
		", cloud: gcp":                      found.String(),
		", cloud: gcp, region: us-central1": found.String(),
		", cloud: gcp, region: us-west1":    "gcp/us-west1", // what is written wins, and no zone of another region is put below it
		", cloud: onprem":                   "onprem",
		", cloud: gcp, region: us-central1, zone: us-central1-f": "gcp/us-central1/us-central1-f",
	} {
		said, err := run(auto(more))
		if got, log, _ := strings.Cut(said, "\n"); err != nil || got != want || (want != found.String()) != strings.Contains(log, "and holds") {
			t.Errorf("with %q: %s, %v; want %s", more, said, err, want)
		}
	}
	if _, err := run(auto(", cloud: aws, zone: use1-az1")); err == nil {
		t.Error("a zone without its region was taken")
	}

	// The server dies; a start goes on with what it said.
	c := auto("")
	srv.Close()
	if said, err := run(c); err != nil || !strings.HasPrefix(said, found.String()+"\n") || !strings.Contains(said, "taken to be where it was") {
		t.Errorf("without the server: %s, %v", said, err)
	}
	dir = t.TempDir()
	if said, err := run(auto("")); err == nil || !strings.Contains(err.Error(), "cluster.locality is auto") || !strings.Contains(err.Error(), metadata.ErrNone.Error()) {
		t.Errorf("without the server, for the first time: %s, %v", said, err)
	}
}

func TestLocalityOfTheFile(t *testing.T) {
	for cluster, problem := range map[string]string{
		"name: east, locality: auto":                                       "",
		"name: east, locality: auto, cloud: aws, zone: z":                  "",
		"name: east, locality: here":                                       "cluster.locality: must be auto",
		"name: east, locality: auto, metadata: 169.254.169.254":            "cluster.metadata: must be http://host:port",
		"name: east, metadata: http://169.254.169.254":                     "cluster.metadata: is for locality: auto",
		"name: east, locality: auto, cloud: AWS":                           "cluster: locality",
		"name: east, zone: z":                                              "cluster: locality",
		"name: east, locality: auto, metadata: \"http://[fd00:ec2::254]\"": "",
	} {
		_, err := config.Parse("isthmus.yaml", []byte(strings.Replace(text, "name: east, cloud: aws, region: us-east-1", cluster, 1)))
		if (err == nil) != (problem == "") || (err != nil && !strings.Contains(err.Error(), problem)) {
			t.Errorf("{%s}: %v, want %q", cluster, err, problem)
		}
	}
}

// A reload sees the file as it is written, and what was found at the start.
func TestAReloadKeepsWhatWasFound(t *testing.T) {
	found := catalog.Locality{Cloud: "gcp", Region: "us-central1", Zone: "us-central1-a"}
	file := func(old, replacement string) *config.Config {
		c, err := config.Parse("isthmus.yaml", []byte(strings.Replace(strings.Replace(text, "cloud: aws, region: us-east-1", "locality: auto", 1), old, replacement, 1)))
		if err != nil {
			t.Fatal(err)
		}
		at, err := located(c, found, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if fixed := fixedSections(file("", ""), file("a.default", "b.default")); len(fixed) > 0 {
		t.Errorf("a change of policy waits for a restart: %v", fixed)
	}
}
