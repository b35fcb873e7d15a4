package federation

import (
	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/oidc"
)

// newAPI builds the REST API as it is configured.
func (f *Federation) newAPI(p *plane) (*api.Server, error) {
	var token string
	if f.opts.Config.API.Address != "" {
		var damage, err error
		if token, damage, err = api.LoadToken(f.opts.Config.API.TokenFile); err != nil {
			return nil, err
		}
		if damage != nil {
			f.log.Error("api token was damaged", "path", f.opts.Config.API.TokenFile, "err", damage)
			p.tokenDamage = damage.Error()
		}
	}
	config := f.opts.Config.API
	opts := api.Options{
		Backend: p, Lists: p.lists, Rules: p.book, Peering: p.peering, History: p.history, Token: token, Auth: config.Auth, Audit: p.audit, Answers: p.store,
		Now: f.opts.Now, Log: f.log, Registry: f.registry,
	}
	if config.MTLS.Address != "" {
		opts.Identity = f.opts.Identity
	}
	if config.Auth.OIDC != nil {
		tokens, err := oidc.New(oidc.Options{Config: *config.Auth.OIDC, Now: f.opts.Now})
		if err != nil {
			return nil, err
		}
		opts.Tokens = tokens
	}
	return api.New(opts)
}
