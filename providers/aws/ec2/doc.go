// Package ec2 reads virtual machines: those that have certain tags, as endpoints
// of services, and, for the other readers, addresses and zones by id.
//
// It is the one package that imports EC2's client, which takes minutes to compile.
package ec2
