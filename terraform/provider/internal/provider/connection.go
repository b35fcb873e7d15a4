package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/identity"
)

const (
	defaultSocket = "/run/isthmus/api.sock"
	defaultReason = "terraform"
	// svidWait is how long the provider waits for its SVID.
	svidWait = 15 * time.Second
)

// connect makes the client of the provider's block; it asks nothing yet.
func connect(ctx context.Context, s settings) (*client.Client, error) {
	address := cmp.Or(s.API.ValueString(), os.Getenv("ISTHMUS_API"), defaultSocket)
	opts := client.Options{Socket: address}
	remote := strings.HasPrefix(address, "https://")
	if remote || strings.HasPrefix(address, "http://") {
		opts = client.Options{URL: address}
		var err error
		if opts.Token, err = token(s); err != nil {
			return nil, err
		}
		if opts.Token == "" && !remote {
			return nil, fmt.Errorf("token_file: is needed with api %s: it is api.token in the federation's data directory", address)
		}
	}
	if remote {
		id := cmp.Or(s.FederationID.ValueString(), os.Getenv("ISTHMUS_FEDERATION_ID"))
		var err error
		if opts.Federation, err = spiffeid.FromString(id); err != nil {
			return nil, fmt.Errorf("federation_id: %q must be the SPIFFE ID of the federation: %w", id, err)
		}
		if opts.Identity, err = svid(ctx, cmp.Or(s.WorkloadAPI.ValueString(), os.Getenv("SPIFFE_ENDPOINT_SOCKET"))); err != nil {
			return nil, fmt.Errorf("workload_api: %w", err)
		}
	}
	api, err := client.New(opts)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	return api.WithReason(cmp.Or(s.Reason.ValueString(), defaultReason)), nil
}

func token(s settings) (string, error) {
	text, file := s.Token.ValueString(), cmp.Or(s.TokenFile.ValueString(), os.Getenv("ISTHMUS_TOKEN_FILE"))
	switch {
	case text != "" && s.TokenFile.ValueString() != "":
		return "", errors.New("token: excludes token_file")
	case text != "" || file == "":
		return text, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("token_file: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// svid follows the Workload API for as long as Terraform keeps this process.
func svid(ctx context.Context, address string) (*identity.Source, error) {
	source, err := identity.New(identity.Options{WorkloadAPI: address})
	if err != nil {
		return nil, err
	}
	go func() { _ = source.Run(context.WithoutCancel(ctx)) }() // ends with the process
	wait, cancel := context.WithTimeout(ctx, svidWait)
	defer cancel()
	return source, source.WaitReady(wait)
}
