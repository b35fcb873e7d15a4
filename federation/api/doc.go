// Package api is the federation's REST API, version 1, for people and programs
// on the same host: resources to read, list and watch, policies to write, and
// why a call goes where it goes.
//
// It is served on a Unix socket (mode 0600, whoever may open it is the operator)
// and on a loopback address with a bearer token. The OpenAPI 3.1 document at
// /openapi.json is made from the handlers' own types. Every error is a problem of
// RFC 9457 whose type carries a closed code.
//
// The package holds no state of the federation: lists come from feeds (package
// feed), policies from package rulebook, everything else from a Backend, which
// package federation implements. Shapes are in package resource.
package api
