package mcs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes"
)

// ToAnnotation of a ServiceExport narrows to whom it is offered: names of peers,
// separated by commas.
const ToAnnotation = "isthmus-mesh.github.io/to"

// The conditions of a ServiceExport and their reasons, as the API names them; the last
// two reasons are ours.
const (
	condValid    = "Valid"
	condReady    = "Ready"
	condConflict = "Conflict"

	reasonValid       = "Valid"
	reasonNoService   = "NoService"
	reasonBadType     = "InvalidServiceType"
	reasonExported    = "Exported"
	reasonPending     = "Pending"
	reasonFailed      = "Failed"
	reasonPorts       = "PortConflict"
	reasonNames       = "NameConflict"
	reasonNoConflicts = "NoConflicts"
	reasonBadService  = "InvalidService"
	reasonImported    = "ImportedService"
)

// condition is one condition that a ServiceExport is to have.
type condition struct {
	kind            string
	is              bool
	reason, message string
}

// wanted is what is to become of one ServiceExport.
type wanted struct {
	// export is nil where the ServiceExport is not valid.
	export *Export
	valid  condition
}

// wantExport judges a ServiceExport by its Service, which is nil where there is none.
func (c Config) wantExport(e *unstructured.Unstructured, svc *corev1.Service) wanted {
	no := func(reason, message string) wanted {
		return wanted{valid: condition{condValid, false, reason, message}}
	}
	name, err := catalog.NewServiceName(e.GetName(), e.GetNamespace())
	switch {
	case err != nil || name.IsFederation():
		return no(reasonBadService, "services of this name are reserved, or it is no DNS label")
	case svc == nil:
		return no(reasonNoService, "there is no Service of this name in the namespace")
	case svc.Labels[kubernetes.OwnerLabel] != "":
		return no(reasonImported, "the Service stands for an import: it is other clusters' to export")
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return no(reasonBadType, "a Service of type ExternalName has no endpoints to offer")
	case !slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Protocol != corev1.ProtocolSCTP }):
		return no(reasonBadService, "the Service has no port of TCP or UDP")
	}
	to, message := c.to(e)
	if message != "" {
		return no(reasonBadService, message)
	}
	return wanted{
		export: &Export{Name: c.exportName(e.GetNamespace(), e.GetName()), Service: name, To: to},
		valid:  condition{condValid, true, reasonValid, ""},
	}
}

// to is whom a ServiceExport is offered, or what is wrong with its annotation.
func (c Config) to(e *unstructured.Unstructured) ([]string, string) {
	list, ok := e.GetAnnotations()[ToAnnotation]
	if !ok {
		return c.Exports.To, ""
	}
	var to []string
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if _, err := catalog.ParseClusterName(name); err != nil {
			return nil, fmt.Sprintf("annotation %s: %.80q is no name of a cluster", ToAnnotation, name)
		}
		if !slices.Contains(c.Exports.To, "*") && !slices.Contains(c.Exports.To, name) {
			return nil, fmt.Sprintf("annotation %s: %q is none of the clusters that the configuration allows", ToAnnotation, name)
		}
		if !slices.Contains(to, name) {
			to = append(to, name)
		}
	}
	if len(to) > maxPeers {
		return nil, fmt.Sprintf("annotation %s: names more than %d clusters", ToAnnotation, maxPeers)
	}
	return to, ""
}

// exportName is readable, and different for different services and owners.
func (c Config) exportName(namespace, name string) string {
	sum := sha256.Sum256([]byte(c.Owner + "/" + namespace + "/" + name))
	end := "-" + hex.EncodeToString(sum[:4])
	return strings.TrimRight(cutTo("k8s-"+namespace+"-"+name, catalog.MaxLabelLen-len(end)), "-") + end
}

func cutTo(s string, n int) string { return s[:min(len(s), n)] }

func splitDots(s string) []string { return strings.Split(s, ".") }

func (e Export) equal(o Export) bool {
	return e.Name == o.Name && e.Service == o.Service && slices.Equal(e.To, o.To)
}

// conditions are those of a ServiceExport, given what became of its export.
func (w wanted) conditions(have map[string]Export, failed error, conflicts []Conflict) []condition {
	ready := condition{condReady, false, reasonPending, "the export is being written"}
	switch {
	case w.export == nil:
		ready = condition{condReady, false, reasonFailed, w.valid.message}
	case failed != nil:
		ready = condition{condReady, false, reasonFailed, failed.Error()}
	default:
		if now, ok := have[w.export.Name]; ok && now.equal(*w.export) {
			ready = condition{condReady, true, reasonExported, "offered to " + strings.Join(w.export.To, ", ")}
		}
	}
	conflict := condition{condConflict, false, reasonNoConflicts, ""}
	if w.export != nil && len(conflicts) > 0 {
		var texts []string
		reasons := map[string]bool{}
		for _, c := range conflicts {
			texts = append(texts, c.Text)
			if c.Ports {
				reasons[reasonPorts] = true
			} else {
				reasons[reasonNames] = true
			}
		}
		slices.Sort(texts)
		conflict = condition{condConflict, true, joinKeys(reasons), cutTo(strings.Join(slices.Compact(texts), "; "), maxMessage)}
	}
	return []condition{w.valid, ready, conflict}
}

// maxMessage is far below what the API takes, and more than anybody reads.
const maxMessage = 4096

func joinKeys(m map[string]bool) string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return strings.Join(keys, ",")
}

// withConditions returns the ServiceExport with these conditions, or nil where it has
// them. Conditions of others stay.
func withConditions(e *unstructured.Unstructured, want []condition, now metav1.Time) *unstructured.Unstructured {
	old, _, _ := unstructured.NestedSlice(e.Object, "status", "conditions") // what is no list is replaced
	var list []any
	changed := false
	for _, item := range old {
		m, _ := item.(map[string]any)
		kind, _ := m["type"].(string)
		if !slices.ContainsFunc(want, func(c condition) bool { return c.kind == kind }) {
			list = append(list, item)
		}
	}
	for _, c := range want {
		status, was := "False", map[string]any{}
		if c.is {
			status = "True"
		}
		for _, item := range old {
			if m, _ := item.(map[string]any); m["type"] == c.kind {
				was = m
			}
		}
		since := was["lastTransitionTime"]
		if was["status"] != status || since == nil {
			since = now.UTC().Format("2006-01-02T15:04:05Z")
		}
		if was["status"] != status || was["reason"] != c.reason || was["message"] != c.message || was["observedGeneration"] != e.GetGeneration() {
			changed = true
		}
		list = append(list, map[string]any{
			"type": c.kind, "status": status, "reason": c.reason, "message": c.message,
			"lastTransitionTime": since, "observedGeneration": e.GetGeneration(),
		})
	}
	if !changed {
		return nil
	}
	next := e.DeepCopy()
	if err := unstructured.SetNestedSlice(next.Object, list, "status", "conditions"); err != nil {
		return nil // a status that is no object: the API server lets none be
	}
	return next
}

func keyOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}
