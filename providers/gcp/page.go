package gcp

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
)

const (
	// pageSize is Compute Engine's largest.
	pageSize = 500
	// maxItems bounds one list, so that no answer, however broken, fills the
	// memory: ten times what a project's quotas allow by default.
	maxItems = 200_000
	maxPages = 10_000
)

// pages asks for every page of a list; a page that fails fails the list.
//
// It asks by the iterators' InternalFetch, though the library keeps that for
// itself: Next goes on by itself to the page after an empty one, and what an empty
// page says of unreachable scopes would be lost.
func pages(ctx context.Context, p *project, fetch func(ctx context.Context, token string) (items int, next string, err error)) error {
	token, total := "", 0
	for range maxPages {
		var next string
		err := p.call(ctx, func(ctx context.Context) error {
			n, t, err := fetch(ctx, token)
			total += n
			next = t
			return err
		})
		switch {
		case err != nil:
			return err
		case next == "":
			return nil
		case next == token:
			return fmt.Errorf("%w: it gives the same page for ever", errAnswer)
		case total > maxItems:
			return fmt.Errorf("%w: it has more than %d items", errAnswer, maxItems)
		}
		token = next
	}
	return fmt.Errorf("%w: it has more than %d pages", errAnswer, maxPages)
}

// aggregate is what a page of any aggregated list says beside its items.
type aggregate interface {
	GetKind() string
	GetUnreachables() []string
	GetWarning() *computepb.Warning
}

// scopes gathers an aggregated list by zone and region.
type scopes[T any] struct {
	items       map[string][]T
	unreachable map[string]bool
}

func newScopes[T any]() *scopes[T] {
	return &scopes[T]{items: map[string][]T{}, unreachable: map[string]bool{}}
}

// page takes what a page says as a whole. Without its kind an answer is none: a
// proxy's "{}" must not empty the catalog.
func (s *scopes[T]) page(a aggregate, kind string) error {
	if a.GetKind() != kind {
		return fmt.Errorf("%w: it is of kind %q, not %q", errAnswer, a.GetKind(), kind)
	}
	for _, u := range a.GetUnreachables() {
		if err := s.lost(u); err != nil {
			return err
		}
	}
	if !partial(a.GetWarning()) {
		return nil
	}
	named := 0
	for _, d := range a.GetWarning().GetData() {
		if d.GetKey() == "scope" {
			named++
			if err := s.lost(d.GetValue()); err != nil {
				return err
			}
		}
	}
	if named == 0 {
		return fmt.Errorf("%w: it is partial and does not say where", errAnswer)
	}
	return nil
}

// add takes what a page has of one scope.
func (s *scopes[T]) add(scope string, warning *computepb.Warning, items []T) error {
	if partial(warning) {
		return s.lost(scope)
	}
	if len(items) > 0 {
		s.items[scope] = append(s.items[scope], items...)
	}
	return nil
}

// lost notes a scope that Google could not reach: "zones/z", "regions/r", or
// their URL.
func (s *scopes[T]) lost(name string) error {
	parts := strings.Split(strings.TrimSuffix(name, "/"), "/")
	if n := len(parts); n >= 2 && (parts[n-2] == "zones" || parts[n-2] == "regions") && parts[n-1] != "" {
		s.unreachable[parts[n-2]+"/"+parts[n-1]] = true
		return nil
	}
	if name == "global" {
		s.unreachable[name] = true
		return nil
	}
	return fmt.Errorf("%w: it is partial at %q, which is neither zone nor region", errAnswer, name)
}

// partial tells a warning that something is missing from one that nothing is
// there (NO_RESULTS_ON_PAGE).
func partial(w *computepb.Warning) bool {
	return slices.Contains([]string{computepb.Warning_UNREACHABLE.String(), computepb.Warning_PARTIAL_SUCCESS.String()}, w.GetCode())
}

// location is the name in a scope: "us-central1-a" of "zones/us-central1-a".
func location(scope string) string { return scope[strings.LastIndexByte(scope, '/')+1:] }

// lastPart is the name at the end of a resource's URL.
func lastPart(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

// zoneOf is the zone in a resource's URL, "" without one.
func zoneOf(url string) string {
	parts := strings.Split(url, "/")
	if i := slices.Index(parts, "zones"); i >= 0 && i+1 < len(parts) {
		return parts[i+1]
	}
	return ""
}

// regionOf is the region that a zone is in: "us-central1" of "us-central1-a".
func regionOf(zone string) string {
	if i := strings.LastIndexByte(zone, '-'); i > 0 {
		return zone[:i]
	}
	return zone
}
