// Package awstest stands in for AWS in tests: moto's server, which speaks the real
// wire protocols and keeps state, and a Proxy before it that breaks answers as AWS,
// its load balancers and networks do.
//
// What moto cannot do is known and said: it has no throttling, no expiry and no
// eventual consistency (the Proxy has); its revisions of Cloud Map go down when an
// instance goes, and it lists the services of every namespace; services of ECS start
// no tasks, and some of its numbers there should be texts (the Proxy corrects them).
//
// Used by the tests of providers/aws and by e2e/aws.
package awstest
