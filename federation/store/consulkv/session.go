package consulkv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// lockDelay is how long Consul keeps a lease from others after its holder's
// session has ended without letting go. Epochs fence the holder that is late, so
// that the least will do.
const lockDelay = time.Second

var errNoSession = errors.New("the session has ended")

// createSession makes a session whose keys go with it.
func (c *client) createSession(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.RequestTimeout)
	defer cancel()
	body, err := json.Marshal(map[string]any{
		"Name": name, "TTL": c.config.SessionTTL.String(), "Behavior": "delete", "LockDelay": lockDelay.String(),
		// No health checks: the life of the agent's node is not that of ours.
		"NodeChecks": []string{},
	})
	if err != nil {
		return "", err
	}
	a, err := c.do(ctx, http.MethodPut, "/v1/session/create", nil, body)
	if err != nil {
		return "", fmt.Errorf("consul: session: %w", err)
	}
	var made struct{ ID string }
	if err := json.Unmarshal(a.body, &made); err != nil || made.ID == "" {
		return "", fmt.Errorf("consul: session: no id in %.100q", a.body)
	}
	return made.ID, nil
}

// renewSession returns errNoSession where it has ended.
func (c *client) renewSession(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.RequestTimeout)
	defer cancel()
	a, err := c.do(ctx, http.MethodPut, "/v1/session/renew/"+id, nil, nil, http.StatusNotFound)
	if err == nil && a.status == http.StatusNotFound {
		err = errNoSession
	}
	return err
}

func (c *client) destroySession(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.RequestTimeout)
	defer cancel()
	_, err := c.do(ctx, http.MethodPut, "/v1/session/destroy/"+id, nil, nil)
	return err
}

// hold asks for a key for a session, or lets go of it. Who has it is what the
// watch sees: a key of another's is no error.
func (c *client) hold(ctx context.Context, verb, key, session string, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.RequestTimeout)
	defer cancel()
	if _, err := c.do(ctx, http.MethodPut, "/v1/kv/"+key, url.Values{verb: {session}}, value); err != nil {
		return fmt.Errorf("consul: %s: %w", verb, err)
	}
	return nil
}
