package gateway

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/carry"
	"github.com/isthmus-mesh/isthmus/gateway/proxyway"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// maxUsers bounds the users of a listener, each of whom is compared.
	maxUsers = 64
	// maxUserLen bounds a name and a password (RFC 1929).
	maxUserLen = 255
)

// ProxyListener is the way in for clients that can use a proxy: HTTP CONNECT and SOCKS5.
type ProxyListener struct {
	Address string `yaml:"address"`
	// Caller is the SPIFFE ID given to whoever connects; not with Users.
	Caller string `yaml:"caller,omitempty"`
	// Users are those who may connect, each with an identity; none: everybody, as Caller.
	Users []ProxyUser `yaml:"users,omitempty"`
	// Sources are the source ranges that may connect, needed where Address is not on
	// loopback.
	Sources []netip.Prefix `yaml:"sources,omitempty"`
}

// ProxyUser is who may connect to a proxy listener.
type ProxyUser struct {
	// Name and PasswordFile are what the client says; the file's first line is the
	// password. Both have at most 255 bytes.
	Name         string `yaml:"name"`
	PasswordFile string `yaml:"password_file"`
	// Caller is the SPIFFE ID that the user is taken for.
	Caller string `yaml:"caller"`
}

func (c Config) validateProxy(p *problems) {
	seen := make(map[string]int, len(c.Proxy))
	for i, l := range c.Proxy {
		at := fmt.Sprintf("listen.proxy[%d].", i)
		if len(l.Users) == 0 {
			p.way(at, "address", l.Address, "caller", l.Caller, "sources", l.Sources)
		} else {
			l.validateUsers(p, at)
		}
		if j, dup := seen[l.Address]; dup && !ephemeral(l.Address) {
			p.add(at+"address", l.Address, fmt.Sprintf("is already taken by listen.proxy[%d]", j))
		}
		seen[l.Address] = i
	}
}

func (l ProxyListener) validateUsers(p *problems, at string) {
	// Passwords are read by everybody on the way: sources are needed all the same.
	p.way(at, "address", l.Address, "users[0].caller", l.Users[0].Caller, "sources", l.Sources)
	if l.Caller != "" {
		p.add(at+"caller", l.Caller, "must be left out where there are users: each has a caller")
	}
	if len(l.Users) > maxUsers {
		p.add(at+"users", strconv.Itoa(len(l.Users)), fmt.Sprintf("has more than %d entries", maxUsers))
	}
	names := make(map[string]int, len(l.Users))
	for i, u := range l.Users {
		field := fmt.Sprintf("%susers[%d].", at, i)
		if u.Name == "" || len(u.Name) > maxUserLen || strings.Contains(u.Name, ":") {
			p.add(field+"name", u.Name, fmt.Sprintf("must have 1 to %d bytes and no colon", maxUserLen))
		}
		if j, dup := names[u.Name]; dup {
			p.add(field+"name", u.Name, fmt.Sprintf("is that of users[%d], too", j))
		}
		names[u.Name] = i
		if u.PasswordFile == "" {
			p.add(field+"password_file", "", "is missing")
		}
		if id, err := spiffeid.FromString(u.Caller); i > 0 && (err != nil || id.Path() == "") { // the first was checked above
			p.add(field+"caller", u.Caller, "must be the SPIFFE ID of a workload: the user is taken for it")
		}
	}
}

// buildProxy makes the ways in for CONNECT and SOCKS5.
func (g *Gateway) buildProxy(carrier *carry.Carrier) error {
	for i, l := range g.config.Proxy {
		field := fmt.Sprintf("listen.proxy[%d]", i)
		accepted, err := g.limited(g.listeners.proxy[i], account.WayProxy, g.slots.Child(g.config.Limits.ConnectionsPerListener), l.Sources)
		if err != nil {
			return err
		}
		o := proxyway.Options{
			Listener: accepted, Caller: l.Caller, Plan: g.board.Plan, Ports: g.config.portRules(),
			Carrier: carrier, Account: g.account, Sample: g.trails.Sample,
		}
		if g.addresses != nil {
			o.Virtual = g.addresses.At
		}
		for j, u := range l.Users {
			password, err := passwordOf(u.PasswordFile)
			if err != nil {
				return fmt.Errorf("%s.users[%d].password_file: %w", field, j, err)
			}
			o.Users = append(o.Users, proxyway.User{Name: u.Name, Password: password, Caller: u.Caller})
		}
		way, err := proxyway.New(o)
		if err != nil {
			return err
		}
		g.entrances = append(g.entrances, entrance{field, way})
	}
	return nil
}

// passwordOf reads the first line of a file.
func passwordOf(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" || len(line) > maxUserLen {
		return "", fmt.Errorf("%s: the first line must have 1 to %d bytes", path, maxUserLen)
	}
	return line, nil
}
