// Package peering makes two clusters that know nothing of each other peers, by one
// paste: an invitation's token goes from one operator to the other, and whoever
// accepts it completes both directions in one exchange.
//
//   - Token is what is pasted: who invites, by which authorities to recognise it,
//     where its gateways are, and a secret that is good once. ParseToken reads it;
//     a token that was cut or changed on the way is refused before anything is
//     dialed.
//   - Service keeps the invitations of one cluster in its store, answers those who
//     come with a token (ServeConn), and goes with one to who gave it (Accept).
//   - The exchange is one request and one answer, each under a MAC whose key is
//     derived from the token's secret and which covers the exporter of the TLS
//     connection that it travels on: neither can be moved to another connection.
//
// Connections are the caller's: ServeConn is given one of identity.JoinALPN whose
// client is anybody, Accept dials through Options.Dial. README.md has the protocol
// byte by byte, what an attacker can do in each place, and what stops that.
package peering
