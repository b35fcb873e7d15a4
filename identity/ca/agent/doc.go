// Package agent brings the embedded CA of package ca to another host: it joins
// with a single-use token and serves the SPIFFE Workload API on that host's own
// Unix socket, attesting callers by their uid exactly as the CA does.
//
// What it holds to:
//
//   - Keys are made on the host and never leave it; the CA sees certificate
//     requests. The CA is whoever shows an SVID below the roots of the token, later
//     below those that it has published since.
//   - The agent has an SVID of its own, renewed over mutual TLS at 40 to 50 % of its
//     life. A new token is needed only when the agent was cut off until it ended.
//   - Which IDs which users get is the CA's word. The agent asks it to wait for
//     changes, so that they arrive at once.
//   - SVIDs are renewed at 40 to 50 % of their life, each ID has one on the host.
//     While the CA is gone the last good ones are served until they end, also by
//     an agent that was restarted: they and their keys are in a file that only its
//     owner can read.
//   - A host that the CA has revoked hands out nothing more, and its agent ends.
package agent
