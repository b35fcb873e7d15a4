package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// licence is one file of a module that must go along with its code.
type licence struct {
	name string
	ids  []string // SPDX, none for notices
	text []byte
}

// legal are the names of such files, at the top of a module or of one of its parts.
var legal = regexp.MustCompile(`(?i)^(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|PATENTS)([.-].*)?$`)

// confident is the least share of a text, in percent, that must be a known licence's.
const confident = 75

var errNoLicence = errors.New("no licence was recognised: look at it, before it is shipped")

// licences reads the legal files at the top of a module. A module without a licence
// that is recognised is an error.
func licences(dir string) ([]licence, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []licence
	found := false
	for _, e := range entries {
		if e.IsDir() || !legal.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		l := licence{name: e.Name(), text: text}
		if cover := licensecheck.Scan(text); cover.Percent >= confident {
			for _, m := range cover.Match {
				if !slices.Contains(l.ids, m.ID) {
					l.ids = append(l.ids, m.ID)
				}
			}
		}
		found = found || len(l.ids) > 0
		all = append(all, l)
	}
	if !found {
		return nil, errNoLicence
	}
	return all, nil
}

// expression is the SPDX expression of what holds all together.
func expression(all []licence) string {
	var ids []string
	for _, l := range all {
		for _, id := range l.ids {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, " AND ")
}

// copyright is the product's licence, then those of what is compiled in, each text once.
func (r *release) copyright(deps []dependency) ([]byte, error) {
	own, err := os.ReadFile(filepath.Join(r.root, "LICENSE"))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "Isthmus, https://%s\nCopyright The Isthmus authors\nLicence: Apache-2.0\n\n%s\n", module, own)
	users := map[string][]string{}
	var texts []string
	for _, d := range deps {
		for _, l := range d.licences {
			text := strings.TrimSpace(string(l.text))
			if len(users[text]) == 0 {
				texts = append(texts, text)
			}
			users[text] = append(users[text], d.path+" "+d.version)
		}
	}
	for _, text := range texts {
		fmt.Fprintf(&b, "\n%s\n\nOf %s:\n\n%s\n", strings.Repeat("-", 80), strings.Join(users[text], ", "), text)
	}
	return b.Bytes(), nil
}
