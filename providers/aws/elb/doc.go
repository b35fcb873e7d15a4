// Package elb reads target groups of Elastic Load Balancing (version 2): targets,
// by address or instance, are endpoints whose health is what the load balancer's
// checks say.
package elb
