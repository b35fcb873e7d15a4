package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// followConfig asks the CA for entries and bundles, and waits there for changes,
// until ctx ends or the host is revoked.
func (a *Agent) followConfig(ctx context.Context) error {
	var wait backoff
	for {
		a.mu.Lock()
		version := a.state.Config.Version
		a.mu.Unlock()
		var c hostapi.Config
		err := a.client().call(ctx, "GET", "/v1/config?version="+url.QueryEscape(version), nil, &c)
		if err == nil && c.Version != version {
			err = a.takeConfig(c)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			a.metrics.heard.Set(float64(a.now().Unix()))
			wait.reset()
			continue
		}
		if err := a.judge(err); err != nil {
			return err
		}
		if !pause(ctx, wait.next(rand.Float64())) {
			return nil
		}
	}
}

func (a *Agent) client() *client {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ca
}

// judge says whether an error ends the agent; others are logged.
func (a *Agent) judge(err error) error {
	a.metrics.caErrors.Inc()
	if refusal, ok := errors.AsType[*hostapi.Error](err); ok && refusal.Code == hostapi.CodeRevoked {
		return fmt.Errorf("%w: %w", ErrRevoked, err)
	}
	if a.logged.AllowN(a.now(), 1) {
		a.log.Warn("ca cannot be asked, the last good svids are served until they end", "err", err)
	}
	return nil
}

// takeConfig puts the CA's word in force: complete, or not at all.
func (a *Agent) takeConfig(c hostapi.Config) error {
	roots, err := x509.ParseCertificates(c.Bundle)
	if err != nil || len(roots) == 0 {
		return errors.Join(errors.New("config: bundle is empty or malformed"), err)
	}
	for _, e := range c.Entries {
		id, err := spiffeid.FromString(e.ID)
		if err != nil || id.TrustDomain().Name() != a.state.TrustDomain {
			return fmt.Errorf("config: entry %q: must be of trust domain %s", e.ID, a.state.TrustDomain)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state.Config = c
	wanted := make(map[string]bool)
	for _, e := range c.Entries {
		wanted[e.ID] = true
	}
	for id := range a.state.SVIDs {
		if !wanted[id] {
			delete(a.state.SVIDs, id)
		}
	}
	if err := a.connect(); err != nil {
		return err
	}
	if err := a.save(); err != nil {
		a.log.Error("what the host was given is not kept", "path", a.path(), "err", err)
	}
	a.log.Info("entries and bundles updated", "count", len(c.Entries), "version", c.Version)
	a.publish()
	select {
	case a.due <- struct{}{}:
	default: // one is pending
	}
	return nil
}

// keepSigned has the CA sign what is missing or due, until ctx ends or the host is
// revoked.
func (a *Agent) keepSigned(ctx context.Context) error {
	var wait backoff
	for {
		err := a.renewHost(ctx)
		if err == nil {
			err = a.signDue(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		pause := a.untilDue()
		if err == nil {
			wait.reset()
		} else {
			if err := a.judge(err); err != nil {
				return err
			}
			pause = max(pause, wait.next(rand.Float64()))
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-a.due:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// renewHost renews the host's own SVID when it is due, with a new key.
func (a *Agent) renewHost(ctx context.Context) error {
	a.mu.Lock()
	due, roots := !a.now().Before(a.state.renew), a.state.Config.Bundle
	a.mu.Unlock()
	if !due {
		return nil
	}
	key, der, err := newKey()
	if err != nil {
		return err
	}
	csr, err := newCSR(key)
	if err != nil {
		return err
	}
	var out hostapi.Certified
	if err := a.client().call(ctx, "POST", "/v1/renew", hostapi.Renew{CSR: csr}, &out); err != nil {
		return err
	}
	authorities, err := x509.ParseCertificates(roots)
	if err != nil {
		return err
	}
	leaf, err := a.check(out.Certificate, key, hostapi.HostPath+a.state.Host, authorities)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state.Key, a.state.key, a.state.Certificate, a.state.leaf, a.state.renew = der, key, out.Certificate, leaf, a.renewAt(leaf)
	if err := a.connect(); err != nil {
		return err
	}
	a.metrics.notAfter.Set(float64(leaf.NotAfter.Unix()))
	a.log.Info("host's svid renewed", "version", leaf.SerialNumber.Text(16), "duration", leaf.NotAfter.Sub(a.now()))
	return a.save()
}

// signDue has SVIDs signed that are missing or due, with new keys.
func (a *Agent) signDue(ctx context.Context) error {
	for {
		a.mu.Lock()
		ids := a.dueIDs()
		roots, err := x509.ParseCertificates(a.state.Config.Bundle)
		a.mu.Unlock()
		if err != nil || len(ids) == 0 {
			return err
		}
		fresh := make([]signed, len(ids))
		var in hostapi.Sign
		check := make([]func(der []byte) (*x509.Certificate, error), len(ids))
		for i, id := range ids {
			key, der, err := newKey()
			if err != nil {
				return err
			}
			csr, err := newCSR(key)
			if err != nil {
				return err
			}
			fresh[i].Key = der
			check[i] = func(der []byte) (*x509.Certificate, error) {
				parsed, err := spiffeid.FromString(id)
				if err != nil {
					return nil, err
				}
				return a.check(der, key, parsed.Path(), roots)
			}
			in.Requests = append(in.Requests, hostapi.SignRequest{ID: id, CSR: csr})
		}
		var out hostapi.Signed
		if err := a.client().call(ctx, "POST", "/v1/sign", in, &out); err != nil {
			return err
		}
		if len(out.Certificates) != len(ids) {
			return fmt.Errorf("ca signed %d of %d", len(out.Certificates), len(ids))
		}
		for i := range ids {
			leaf, err := check[i](out.Certificates[i].Certificate)
			if err != nil {
				return fmt.Errorf("svid of %s: %w", ids[i], err)
			}
			fresh[i].Certificate, fresh[i].NotAfter, fresh[i].Renew = leaf.Raw, leaf.NotAfter, a.renewAt(leaf)
			a.log.Info("svid signed", "spiffe_id", ids[i], "version", leaf.SerialNumber.Text(16), "duration", leaf.NotAfter.Sub(a.now()))
		}
		a.takeSigned(ids, fresh)
	}
}

// dueIDs are the first MaxSign IDs of entries whose SVID is missing or due. The
// caller holds mu.
func (a *Agent) dueIDs() []string {
	var ids []string
	seen := make(map[string]bool)
	for _, e := range a.state.Config.Entries {
		if s, ok := a.state.SVIDs[e.ID]; seen[e.ID] || ok && a.now().Before(s.Renew) {
			continue
		}
		seen[e.ID] = true
		if ids = append(ids, e.ID); len(ids) == hostapi.MaxSign {
			break
		}
	}
	return ids
}

func (a *Agent) takeSigned(ids []string, fresh []signed) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state.SVIDs == nil {
		a.state.SVIDs = make(map[string]signed)
	}
	for i, id := range ids {
		a.state.SVIDs[id] = fresh[i]
	}
	a.metrics.svids.Set(float64(len(a.state.SVIDs)))
	a.metrics.signed.Add(float64(len(ids)))
	if err := a.save(); err != nil {
		a.log.Error("what the host was given is not kept", "path", a.path(), "err", err)
	}
	a.publish()
}

// untilDue is how long nothing is due.
func (a *Agent) untilDue() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.state.renew
	for _, s := range a.state.SVIDs {
		if s.Renew.Before(next) {
			next = s.Renew
		}
	}
	return min(max(next.Sub(a.now()), minRenew), maxWait)
}

// renewAt picks the moment of renewal.
func (a *Agent) renewAt(leaf *x509.Certificate) time.Time {
	now := a.now()
	life := leaf.NotAfter.Sub(now)
	return now.Add(max(minRenew, time.Duration(float64(life)*(renewFrom+(renewTo-renewFrom)*rand.Float64()))))
}
