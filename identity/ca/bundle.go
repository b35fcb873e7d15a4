package ca

import (
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
)

// Bundle returns the own bundle as a SPIFFE bundle document, with the roots that
// sign and the one that will.
func (c *CA) Bundle() ([]byte, error) {
	hint := min(maxRefreshHint, max(time.Second, c.cfg.CATTL/(5*rootToSVID)))
	return c.view.Load().roots.document(c.cfg.TrustDomain, hint)
}

// WriteBundle writes the own bundle to a file, atomically, readable by everybody.
func (c *CA) WriteBundle(path string) error {
	doc, err := c.Bundle()
	if err != nil {
		return err
	}
	if err := keep.Write(bundlePoint, path, doc, bundleMode); err != nil {
		c.metrics.writeErrors.Inc()
		return fmt.Errorf("bundle file: %w", err)
	}
	return nil
}

// writeOwnBundle brings BundleFile up to date. It runs on one goroutine at a time.
func (c *CA) writeOwnBundle() error {
	sequence := c.view.Load().roots.sequence
	if c.cfg.BundleFile == "" || c.wrote == sequence {
		return nil
	}
	if err := c.WriteBundle(c.cfg.BundleFile); err != nil {
		return err
	}
	c.wrote = sequence
	return nil
}
