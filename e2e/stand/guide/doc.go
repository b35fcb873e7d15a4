// Package guide runs the pages of docs/guides, and others of docs: a scenario that sets something up
// takes each command and each piece of configuration from the page that tells people
// to, on real parts, and fails for what the page has and nothing ran.
//
// A block is marked by a comment above its fence, which no reader sees:
//
//	<!-- run: east token -->
//	```sh
//	consul acl token create ...
//	```
//
// Every block of sh, yaml or json is marked. What differs where the test runs, paths
// and addresses, is put in the place of what the page says; the rest is run to the
// letter. Used by the scenarios in e2e that follow a page.
package guide
