package mcs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/mcs"
)

const (
	valid, exported, noConflict = "True/Valid", "True/Exported", "False/NoConflicts"
)

func (w *world) wantExports(what string, want ...string) {
	w.t.Helper()
	w.until(what, func() error {
		if got := w.fed.exported(); !slices.Equal(got, want) {
			return fmt.Errorf("exported %v, want %v", got, want)
		}
		return nil
	})
}

func TestServiceExportsBecomeExports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(w.config(), "a")
	full := "web." + w.namespace
	w.export("web", nil)
	w.wantConditions("without a Service", "web", "False/NoService", "False/Failed", noConflict)
	w.service("web", nil)
	w.wantConditions("with a Service", "web", valid, exported, noConflict)
	w.wantExports("to all", full+"[*]")

	w.fed.set(func(s *mcs.State) {
		s.Conflicts = map[catalog.ServiceName][]mcs.Conflict{catalog.MustServiceName(full): {
			{Ports: true, Text: "in east, ports/http/protocol: east (grpc) goes before west (http)"}, {Text: "in north, import: another"},
		}}
	})
	w.wantConditions("others disagree", "web", valid, exported, "True/NameConflict,PortConflict")
	if _, messages := w.conditions("web"); !strings.Contains(messages["Conflict"], "east (grpc) goes before west (http)") {
		t.Errorf("message %q", messages["Conflict"])
	}
	w.fed.set(func(s *mcs.State) { s.Conflicts = nil })
	w.wantConditions("others agree", "web", valid, exported, noConflict)

	w.must(w.Client().CoreV1().Services(w.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}))
	w.wantConditions("the Service goes", "web", "False/NoService", "False/Failed", noConflict)
	w.wantExports("and its export")
	w.service("web", nil)
	w.wantExports("it comes back", full+"[*]")
	w.must(w.Dynamic().Resource(exportsGVR).Namespace(w.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}))
	w.wantExports("the ServiceExport goes")
}

func TestServiceExportsThatAreNotValid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conf := w.config()
	conf.Exports.To = []string{"east", "north"}
	w.run(conf, "a")
	w.service("alias", func(s *corev1.Service) {
		s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org"}
	})
	w.service("made", func(s *corev1.Service) { s.Labels = map[string]string{kubernetes.OwnerLabel: "another"} })
	w.service("federation", nil)
	w.service("sctp", func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolSCTP })
	w.service("strange", nil)
	w.service("taken", nil)
	w.service("some", nil)
	w.fed.foreign["taken."+w.namespace] = true
	for name, to := range map[string]string{"alias": "", "made": "", "federation": "", "sctp": "", "strange": "south", "taken": "", "some": " north,north"} {
		annotations := map[string]string{}
		if to != "" {
			annotations[mcs.ToAnnotation] = to
		}
		w.export(name, annotations)
	}
	for name, reason := range map[string]string{
		"alias": "InvalidServiceType", "made": "ImportedService", "federation": "InvalidService", "sctp": "InvalidService", "strange": "InvalidService",
	} {
		w.wantConditions(name, name, "False/"+reason, "False/Failed", noConflict)
	}
	w.wantConditions("the export is somebody else's", "taken", valid, "False/Failed", noConflict)
	if _, messages := w.conditions("taken"); !strings.Contains(messages["Ready"], "somebody else") {
		t.Errorf("message %q", messages["Ready"])
	}
	w.wantConditions("a list of clusters", "some", valid, exported, noConflict)
	w.wantExports("to some", "some."+w.namespace+"[north]")
}

// While the federation is away, nothing is concluded from what it does not say; and
// what is as it should be is not written again.
func TestNothingIsWrittenWhileTheFederationIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.service("web", nil)
	w.export("web", nil)
	w.fed.fail(errLost)
	r := w.run(w.config(), "a")
	w.until("it is told", func() error {
		if err := r.Status().Err; err == nil || !strings.Contains(err.Error(), errLost.Error()) {
			return fmt.Errorf("%v", r.Status())
		}
		return nil
	})
	if w.fed.writes != 0 {
		t.Errorf("%d writes", w.fed.writes)
	}
	w.fed.fail(nil)
	w.wantConditions("it is back", "web", valid, exported, noConflict)
	writes := w.fed.writes
	for range 3 {
		r.Kick()
		time.Sleep(200 * time.Millisecond)
	}
	if w.fed.writes != writes {
		t.Errorf("%d writes of nothing new", w.fed.writes-writes)
	}
}

// Two processes, one writer; the other goes on where it stops.
func TestOneWriterByALease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.run(w.config(), "a")
	w.until("a leads", func() error {
		if !a.Status().Leading {
			return fmt.Errorf("%v", a.Status())
		}
		return nil
	})
	b := w.run(w.config(), "b")
	w.service("web", nil)
	w.export("web", nil)
	w.wantExports("a writes", "web."+w.namespace+"[*]")
	if b.Status().Leading {
		t.Error("both lead")
	}
	a.stop()
	w.until("b leads", func() error {
		if !b.Status().Leading {
			return fmt.Errorf("%v", b.Status())
		}
		return nil
	})
	w.must(w.Dynamic().Resource(exportsGVR).Namespace(w.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}))
	w.wantExports("b removes what a had put")
}
