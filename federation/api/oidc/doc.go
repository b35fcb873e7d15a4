// Package oidc judges bearer tokens of one OpenID Connect issuer: JWTs (RFC 7519)
// that the issuer signed for this API's audience.
//
// What a token may be is pinned by configuration and never by the token (RFC
// 8725): the issuer, the audience, the signature algorithms (asymmetric ones
// only) and the types. The header's kid only looks a key up in the issuer's own
// key set; keys and addresses that a token brings along (jwk, jku, x5c, x5u) are
// not looked at. Keys come by discovery over https, are cached, and are fetched
// again when they are old or when a key is unknown, at a limited rate; while the
// issuer is away the cached ones hold for a day.
//
// A refusal is a *TokenError with a closed reason.
package oidc
